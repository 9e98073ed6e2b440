"""What breaks the contract of devices is found and named."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cost_models import Analytic, Cost, LayerSpec, Precision, load_device
from cost_models.contract import breaches

HARDWARE = Path(__file__).parents[2] / "conf" / "hardware"
T4 = load_device(HARDWARE / "t4_roofline.yaml")
RATE = {"weight_bits": [4, 8], "activation_bits": 8, "source": "peaks"}


def with_rates(*rates: dict[str, Any], **changes: Any) -> Analytic:
    assert isinstance(T4, Analytic)
    return replace(T4, compute=[RATE | rate for rate in rates], **changes)


def test_a_sound_device_breaks_nothing() -> None:
    assert breaches(T4) == []


@pytest.mark.parametrize(
    ("rate", "breach"),
    [
        (
            {"macs_per_s": "1e12 * weight_bits"},
            "layer 'conv' at W4A8: latency_s is 2.94912e-07, more than 1.47456e-07 at W8A8",
        ),
        ({"macs_per_s": "1e12 * (weight_bits - 8)"}, "no cost for layer 'conv' at W4A8: macs_per_s is -4e+12 "),
        ({"macs_per_s": "1e12 / (weight_bits - 4)"}, "has no value: float division by zero"),
        ({"macs_per_s": 1e12, "mac_pj": "-1e6"}, "layer 'conv' at W4A8: energy_j is -"),
    ],
)
def test_formulas_that_cannot_be_are_named(rate, breach) -> None:
    found = breaches(with_rates(rate, overlap="sum", power=None, memory=(), overhead=None))
    assert any(breach in line for line in found)


@dataclass(frozen=True)
class Careless:
    """Takes every precision, lists the widest first, and does not add up."""

    name: str = "careless"
    cost_source: str = "modelled"
    batch: int = 1
    additive: bool = True
    warnings: tuple[str, ...] = ()

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        return Precision(8, 8), Precision(4, 8)

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        return Cost(1.0, None, {"compute_s": 0.5})


def test_a_class_of_ones_own_is_checked_alike() -> None:
    assert breaches(Careless())[:4] == [
        "layer 'conv': precisions are not in order, narrowest first",
        "layer 'conv' at W8A8: parts in _s sum to 0.5, not to 1",
        "layer 'conv' at W8A8: bound_by is not given",
        "layer 'conv': W31A31 is not refused with the names of device and layer",
    ]
