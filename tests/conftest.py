"""Settings of every test."""

from hypothesis import HealthCheck, settings

# How long an example takes depends on how busy the machine is.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")
