"""Configurations as Optuna parameters, each an index into ascending bits, so that samplers see their order."""

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, IntDistribution

from cost_models import BitConfig, Precision
from hwsearch.search.space import Group, SearchSpace


def _parameters(group: Group) -> list[tuple[str, list[int]]]:
    """Optuna parameters of a group and the bits they index; none if there is no choice."""
    parameters = [
        (f"{group.name}.weight_bits", group.weight_bits),
        (f"{group.name}.activation_bits", group.activation_bits),
    ]
    return [(name, bits) for name, bits in parameters if len(bits) > 1]


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Every parameter with its range."""
    return {name: IntDistribution(0, len(bits) - 1) for group in space.groups for name, bits in _parameters(group)}


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Precision]:
    """Let the sampler choose."""
    chosen = {
        name: trial.suggest_int(name, 0, len(bits) - 1) for group in space.groups for name, bits in _parameters(group)
    }
    return config_of(space, chosen)


def config_of(space: SearchSpace, parameters: Mapping[str, int]) -> dict[str, Precision]:
    """Configuration that a trial's parameters stand for."""
    choices = {}
    for group in space.groups:
        chosen = {name: bits[parameters[name]] for name, bits in _parameters(group)}
        choices[group.name] = _decode(group, chosen)
    return space.config(choices)


def _decode(group: Group, chosen: Mapping[str, int]) -> Precision:
    """The pair itself, or the nearest where the device does not run every combination."""
    weight_bits = chosen.get(f"{group.name}.weight_bits", group.weight_bits[0])
    activation_bits = chosen.get(f"{group.name}.activation_bits", (group.activation_bits or [0])[0])
    if not group.activation_bits:
        return next(p for p in group.precisions if p.weight_bits == weight_bits)
    precision = group.nearest(weight_bits, activation_bits)
    assert precision  # the group has these weight_bits
    return precision


def encode(space: SearchSpace, config: BitConfig) -> dict[str, int]:
    """Optuna parameters that :func:`suggest` turns into ``config``."""
    parameters = {}
    for group in space.groups:
        precision = config[group.layers[0]]
        values = {"weight_bits": precision.weight_bits, "activation_bits": precision.activation_bits}
        for name, bits in _parameters(group):
            parameters[name] = bits.index(values[name.rpartition(".")[2]])
    return parameters
