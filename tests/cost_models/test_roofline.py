"""The roofline model: its closed form on small cases, and the HAWQ-V3 kernels that its T4 file is fitted to."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import FLOAT, LayerSpec, NetworkSpec, Precision, Roofline, load_device

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT.parent / "shared" / "fixtures" / "hawq_t4_kernels_resnet18.csv"

CONV = LayerSpec("conv4", "conv2d", 16, 32, (3, 3), padding=(1, 1), in_size=(10, 10), out_size=(10, 10))
DEPTHWISE = LayerSpec("dw", "conv2d", 16, 16, (3, 3), groups=16, padding=(1, 1), in_size=(10, 10), out_size=(10, 10))

# Round numbers, for arithmetic by hand: no real device.
FIELDS: dict[str, Any] = {
    "name": "example",
    "batch": 2,
    "rates": [
        {"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9, "efficiency": 0.5, "mac_pj": 2.0},
        {"weight_bits": 4, "activation_bits": 8, "computed_as": [8, 8], "ops": ["conv2d", "linear"]},
        {"weight_bits": 32, "activation_bits": 32, "macs_per_s": 1e8, "mac_pj": 8.0},
    ],
    "memory_bytes_per_s": 1e8,
    "memory_pj_per_bit": 10.0,
    "output_bits": 8,
    "overlap": "max",
    "layer_overhead_s": 1e-5,
    "inference_overhead_s": 1e-3,
    "static_w": 0.5,
}


def test_latency_and_energy_follow_the_closed_form() -> None:
    cost = Roofline(**FIELDS).layer_cost(CONV, Precision(8, 8))
    macs = 16 * 32 * 9 * 100
    traffic_bytes = 16 * 32 * 9 / 2 + 16 * 100 + 32 * 100  # the two images of a batch share the weights
    latency_s = max(macs / 1e9, traffic_bytes / 1e8) + 1e-5 / 2
    assert cost.latency_s == pytest.approx(latency_s)
    assert cost.energy_j == pytest.approx((2 * macs + 10 * 8 * traffic_bytes) * 1e-12 + 0.5 * latency_s)
    summed = Roofline(**FIELDS | {"overlap": "sum"}).layer_cost(CONV, Precision(8, 8))
    assert summed.latency_s == pytest.approx(macs / 1e9 + traffic_bytes / 1e8 + 1e-5 / 2)


def test_narrow_storage_computed_wider_saves_traffic_only() -> None:
    device = Roofline(**FIELDS)
    narrow, wide = device.layer_cost(CONV, Precision(4, 8)), device.layer_cost(CONV, Precision(8, 8))
    assert narrow.computed_as == Precision(8, 8)
    assert wide.computed_as is None
    assert narrow.breakdown["compute_s"] == wide.breakdown["compute_s"]
    assert wide.breakdown["traffic_s"] - narrow.breakdown["traffic_s"] == pytest.approx(16 * 32 * 9 / 2 / 2 / 1e8)


def test_float_network_has_a_cost_where_a_rate_is_given() -> None:
    device = Roofline(**FIELDS)
    assert device.precisions(CONV) == (Precision(4, 8), Precision(8, 8), FLOAT)
    cost = device.layer_cost(CONV, FLOAT)
    assert cost.breakdown["traffic_s"] == pytest.approx(4 * (16 * 32 * 9 / 2 + 16 * 100 + 32 * 100) / 1e8)


def test_pairs_may_hold_for_some_ops_only() -> None:
    device = Roofline(**FIELDS)
    assert device.precisions(DEPTHWISE) == (Precision(8, 8), FLOAT)
    with pytest.raises(ValueError, match=r"weight_bits=\[4\] in layer 'dw'; it supports \[8, 32\]"):
        device.layer_cost(DEPTHWISE, Precision(4, 8))
    only_conv = Roofline(**FIELDS | {"rates": [FIELDS["rates"][0] | {"ops": ["conv2d"]}]})
    with pytest.raises(ValueError, match="no kernels for depthwise convolutions, such as layer 'dw'"):
        only_conv.layer_cost(DEPTHWISE, Precision(8, 8))


def test_unknown_energy_stays_unknown() -> None:
    rates = [{"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9}]
    device = Roofline(**FIELDS | {"rates": rates, "memory_pj_per_bit": None, "static_w": 0.0})
    assert device.layer_cost(CONV, Precision(8, 8)).energy_j is None
    assert device.network_cost(NetworkSpec.chain([CONV]), {}).energy_j is None


def test_active_power_times_latency() -> None:
    rates = [{"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9}]
    device = Roofline(**FIELDS | {"rates": rates, "memory_pj_per_bit": None, "static_w": 0.0, "active_w": 3.0})
    cost = device.layer_cost(CONV, Precision(8, 8))
    assert cost.energy_j == pytest.approx(3.0 * cost.latency_s)
    assert device.network_cost(NetworkSpec.chain([CONV]), {}).energy_j == pytest.approx(3.0 * 1e-3 / 2)


def test_network_adds_its_overhead_once() -> None:
    cost = Roofline(**FIELDS).network_cost(NetworkSpec.chain([CONV, DEPTHWISE]), {})
    assert cost.latency_s == pytest.approx(1e-3 / 2)
    assert cost.energy_j == pytest.approx(0.5 * 1e-3 / 2)


@given(
    in_channels=st.integers(1, 512),
    out_channels=st.integers(1, 512),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 7)]),
    size=st.integers(1, 56),
)
def test_parts_sum_and_halving_bits_never_raises_cost(
    in_channels: int, out_channels: int, kernel: tuple[int, int], size: int
) -> None:
    layer = LayerSpec("layer", "conv2d", in_channels, out_channels, kernel, in_size=(size, size), out_size=(size, size))
    device = Roofline(**FIELDS)
    wide, narrow = device.layer_cost(layer, Precision(8, 8)), device.layer_cost(layer, Precision(4, 8))
    parts = [joules for part, joules in wide.breakdown.items() if part.endswith("_j")]
    assert sum(parts) == pytest.approx(wide.energy_j, rel=1e-12)
    assert narrow.latency_s <= wide.latency_s
    assert narrow.energy_j <= wide.energy_j
    t4 = load_device(ROOT / "conf" / "hardware" / "t4_roofline.yaml")
    assert t4.layer_cost(layer, Precision(4, 4)).latency_s <= t4.layer_cost(layer, Precision(8, 8)).latency_s


def test_unsupported_precision_names_hardware_layer_bits_and_choices() -> None:
    t4 = load_device(ROOT / "conf" / "hardware" / "t4_roofline.yaml")
    with pytest.raises(ValueError) as error:
        t4.layer_cost(CONV, Precision(2, 8))
    assert str(error.value) == (
        "Hardware 't4_roofline' has no kernels for weight_bits=[2] in layer 'conv4'; it supports [4, 8]. "
        "Set space.weight_bits to a subset."
    )
    with pytest.raises(
        ValueError, match=r"activation_bits=\[8\] with weight_bits=4 in layer 'conv4'; it supports \[4\]"
    ):
        t4.layer_cost(CONV, Precision(4, 8))


def test_t4_file_reproduces_the_kernels_it_is_fitted_to() -> None:
    """Agreement in sample: the efficiencies are fitted to these kernels, and others of ResNet50."""
    if not FIXTURE.exists():
        pytest.skip(f"needs {FIXTURE}")
    t4 = load_device(ROOT / "conf" / "hardware" / "t4_roofline.yaml")
    kernels = pd.read_csv(FIXTURE, comment="#")
    errors, modelled, measured = [], [], []
    for row in kernels.itertuples():
        side = (row.h_padded - row.k) // row.stride + 1
        layer = LayerSpec(
            "conv",
            "conv2d",
            row.cin,
            row.cout,
            (row.k, row.k),
            (row.stride, row.stride),
            in_size=(row.h_padded, row.h_padded),
            out_size=(side, side),
        )
        for bits, measured_us in ((4, row.int4_us), (8, row.int8_us)):
            latency_us = 8e6 * t4.layer_cost(layer, Precision(bits, bits)).latency_s  # the logs time a batch of 8
            errors.append(abs(latency_us / measured_us - 1))
            modelled.append(latency_us)
            measured.append(measured_us)
    assert sum(errors) / len(errors) <= 0.18
    assert pd.Series(modelled).corr(pd.Series(measured), method="spearman") >= 0.94
