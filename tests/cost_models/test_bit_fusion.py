"""The Bit Fusion model against its simulator's published results (hsharma35/bitfusion, ISCA 2018)."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import FIXTURES, bit_fusion_layer, device_file, table

from cost_models import BitFusion, LayerSpec, NetworkSpec, Precision, load_device
from cost_models.bit_fusion_tiling import Counts

COUNTS = [
    "compute_cycles",
    *("dram_read_bits", "dram_write_bits"),
    *("wbuf_read_bits", "wbuf_write_bits"),
    *("ibuf_read_bits", "ibuf_write_bits"),
    *("obuf_read_bits", "obuf_write_bits"),
]

# Microjoules per frame and cycles per batch, computed from the simulator's counts and its printed constants
# (batch 16): reference/hardware.md section 1a.
NETWORKS = {
    "AlexNet": (8235, 37_666_491),
    "CIFAR10": (723, 3_293_704),
    "LSTM": (67.5, 337_175),
    "LeNet-5": (71.3, 410_352),
    "RESNET-18": (10589, 49_079_982),
    "RNN": (78.5, 394_583),
    "SVHN": (264, 1_317_523),
    "VGG-7": (578, 2_822_491),
}


@pytest.fixture(scope="module")
def device() -> BitFusion:
    model = load_device(device_file("bitfusion_isca_2018"))
    assert isinstance(model, BitFusion)
    return model


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    if not FIXTURES.is_dir():
        pytest.skip(f"needs {FIXTURES}")
    return table("bitfusion_isca2018_16x32.csv")


# Source: reference/hardware.md section 1a, "Validation rows": simulated compute cycles.
VALIDATION_ROWS = [
    ("AlexNet", "conv1_a/Convolution", 3_339_600),
    ("AlexNet", "conv2_a/Convolution", 5_017_600),
    ("AlexNet", "conv3_a/Convolution", 2_709_504),
    ("AlexNet", "conv4_b/Convolution", 2_032_128),
    ("AlexNet", "conv5_a/Convolution", 1_354_752),
    ("AlexNet", "fc1/MatMul", 1_179_648),
    ("AlexNet", "fc2/MatMul", 524_288),
    ("AlexNet", "fc3/MatMul", 262_144),
    ("RESNET-18", "conv1_a/Convolution", 8_028_160),
    ("RESNET-18", "module2/conv2_1_b/Convolution", 3_612_672),
    ("RESNET-18", "module3/conv3_1_a/Convolution", 200_704),
    ("RESNET-18", "module4/conv4_1_b/Convolution", 3_612_672),
    ("RESNET-18", "module5/conv5_1_b/Convolution", 3_612_672),
    ("SVHN", "conv1/Convolution", 294_912),
    ("CIFAR10", "conv0/Convolution", 131_072),
    ("CIFAR10", "conv1/Convolution", 589_824),
    ("CIFAR10", "conv3/Convolution", 294_912),
    ("VGG-7", "conv2_a/Convolution", 294_912),
]


@pytest.mark.parametrize(("network", "layer", "cycles"), VALIDATION_ROWS)
def test_throughput_formula_gives_the_simulated_compute_cycles(
    device: BitFusion, network: str, layer: str, cycles: int
) -> None:
    assert device.compute_cycles(*bit_fusion_layer(network, layer)) == cycles


def test_every_published_layer_is_reproduced_to_the_cycle_and_bit(device: BitFusion, published: pd.DataFrame) -> None:
    assert len(published) == 61
    for row in published.itertuples():
        counts = device.counts(*bit_fusion_layer(row.network, row.layer))
        assert {name: getattr(counts, name) for name in COUNTS} == {name: getattr(row, name) for name in COUNTS}
        assert device.cycles(counts) == row.total_cycles
        assert device.dram_bits(*bit_fusion_layer(row.network, row.layer)) == (row.dram_read_bits + row.dram_write_bits)


def test_only_the_lstm_has_ragged_tiles(device: BitFusion, published: pd.DataFrame) -> None:
    # 3600 channels are no power of two: its tiles take 2.7 % more cycles than the throughput formula
    ragged = [
        row.network
        for row in published.itertuples()
        if device.compute_cycles(*bit_fusion_layer(row.network, row.layer)) != row.compute_cycles
    ]
    assert ragged == ["LSTM"]


def test_overlap_of_given_counts_matches_the_simulated_totals(device: BitFusion, published: pd.DataFrame) -> None:
    """Without tiles, from published counts alone: max(compute, traffic)."""
    totals = device.cycles(Counts(**{name: published[name] for name in COUNTS}))
    assert np.mean(np.abs(totals / published["total_cycles"] - 1)) <= 0.02
    networks = published.assign(modelled=totals).groupby("network")[["modelled", "total_cycles"]].sum()
    assert ((networks["modelled"] / networks["total_cycles"] - 1).abs() <= 0.005).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_network_latency_and_energy_match_the_published_counts(
    device: BitFusion, published: pd.DataFrame, network: str
) -> None:
    microjoules, cycles = NETWORKS[network]
    rows = published[published["network"] == network]
    costs = [device.layer_cost(*bit_fusion_layer(network, layer)) for layer in rows["layer"]]
    assert sum(cost.latency_s for cost in costs) == pytest.approx(cycles / 500e6 / 16, rel=1e-12)
    # the table is rounded to three digits or more: 0.5 / 264
    assert sum(cost.energy_j for cost in costs) * 1e6 == pytest.approx(microjoules, rel=2e-3)


sizes = st.sampled_from([1, 4, 7, 14, 28])
channels = st.sampled_from([3, 8, 24, 64, 96, 256])
kernels = st.sampled_from([(1, 1), (3, 3), (1, 7), (5, 5)])
widths = st.integers(2, 8)


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    in_channels, side, kernel = draw(channels), draw(sizes), draw(kernels)
    depthwise = draw(st.booleans())
    return LayerSpec(
        "layer",
        "conv2d",
        in_channels,
        in_channels if depthwise else draw(channels),
        kernel,
        in_size=(side + kernel[0] - 1, side + kernel[1] - 1),
        out_size=(side, side),
        groups=in_channels if depthwise else 1,
    )


@settings(max_examples=50)
@given(layer=layers(), weight_bits=widths, activation_bits=widths)
def test_parts_sum_to_the_total(device: BitFusion, layer: LayerSpec, weight_bits: int, activation_bits: int) -> None:
    cost = device.layer_cost(layer, Precision(weight_bits, activation_bits))
    seconds = {part: value for part, value in cost.breakdown.items() if part.endswith("_s")}
    assert sum(seconds.values()) == pytest.approx(cost.latency_s, rel=1e-12)
    joules = [value for part, value in cost.breakdown.items() if part.endswith("_j")]
    assert sum(joules) == pytest.approx(cost.energy_j, rel=1e-12)
    # transfers are rounded up to whole cycles: the first load, the last store, and what is between
    cycle_s = 1 / 500e6 / 16
    loads = seconds["weight_load_s"] + seconds["activation_load_s"] + seconds["store_s"]
    assert -min(seconds["compute_s"], loads) <= seconds["overlap_s"] <= 3 * cycle_s


def test_a_layer_is_bound_by_what_would_have_to_shrink(device: BitFusion) -> None:
    bounds = {
        ("AlexNet", "conv2_a/Convolution"): "compute",
        ("AlexNet", "fc1/MatMul"): "weight_load",
        ("RESNET-18", "module3/conv3_1_a/Convolution"): "store",
    }
    for (network, layer), bound_by in bounds.items():
        assert device.layer_cost(*bit_fusion_layer(network, layer)).bound_by == bound_by


@settings(max_examples=50)
@given(layer=layers(), bits=st.sampled_from([4, 6, 8]), other=widths)
def test_halving_bits_never_raises_compute_cycles(device: BitFusion, layer: LayerSpec, bits: int, other: int) -> None:
    for wide, narrow in (
        (Precision(bits, other), Precision(bits // 2, other)),
        (Precision(other, bits), Precision(other, bits // 2)),
    ):
        assert device.compute_cycles(layer, narrow) <= device.compute_cycles(layer, wide)


@settings(max_examples=50)
@given(layer=layers(), bits=st.sampled_from([4, 6, 8]), other=widths)
def test_halving_bits_hardly_raises_latency_where_rows_are_full(
    device: BitFusion, layer: LayerSpec, bits: int, other: int
) -> None:
    """256 channels fill 16 rows of 16 lanes, so no weight is padding; 1 % is for a larger first load."""
    full = replace(layer, in_channels=256, groups=1)
    for wide, narrow in (
        (Precision(bits, other), Precision(bits // 2, other)),
        (Precision(other, bits), Precision(other, bits // 2)),
    ):
        assert device.layer_cost(full, narrow).latency_s <= 1.01 * device.layer_cost(full, wide).latency_s


def test_odd_widths_are_computed_on_the_next_lanes(device: BitFusion) -> None:
    layer = LayerSpec("conv", "conv2d", 64, 64, (3, 3), in_size=(10, 10), out_size=(8, 8))
    lane_bits = {1: 2, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}
    for weight_bits, activation_bits in product(lane_bits, lane_bits):
        stored = Precision(weight_bits, activation_bits)
        lanes = Precision(lane_bits[weight_bits], lane_bits[activation_bits])
        assert device.layer_cost(layer, stored).computed_as == (None if lanes == stored else lanes)
        assert device.compute_cycles(layer, stored) == device.compute_cycles(layer, lanes)


def test_groups_run_one_after_the_other(device: BitFusion) -> None:
    # one of 32 columns and 9 of 16 rows work: a cycle for each channel, output and image
    depthwise = LayerSpec("dw", "conv2d", 64, 64, (3, 3), groups=64, in_size=(16, 16), out_size=(14, 14))
    assert device.compute_cycles(depthwise, Precision(8, 8)) == 16 * 64 * 14 * 14
    grouped = replace(depthwise, groups=2)
    half = replace(depthwise, in_channels=32, out_channels=32, groups=1)
    for precision in device.precisions(half):
        assert device.compute_cycles(grouped, precision) == 2 * device.compute_cycles(half, precision)


def test_unsupported_precision_names_hardware_layer_bits_and_choices(device: BitFusion) -> None:
    with pytest.raises(ValueError, match=r"'bitfusion_isca_2018'.*activation_bits=\[16\].*'conv'.*\[1, 2, .* 8\]"):
        device.layer_cost(LayerSpec("conv", "conv2d", 8, 8), Precision(8, 16))
    with pytest.raises(ValueError, match=r"weight_format='codebook' in layer 'conv'; it supports \['uniform'\]"):
        device.layer_cost(LayerSpec("conv", "conv2d", 8, 8), Precision(4, 8, "codebook"))


def test_kernel_larger_than_the_buffers_names_the_layer(device: BitFusion) -> None:
    layer = LayerSpec("huge", "conv2d", 64, 64, (99, 99), in_size=(99, 99))
    with pytest.raises(ValueError, match=r"cannot hold the smallest tile of layer 'huge'"):
        device.layer_cost(layer, Precision(8, 8))


def test_network_adds_nothing_to_its_layers(device: BitFusion) -> None:
    cost = device.network_cost(NetworkSpec.chain([]), {})
    assert (cost.latency_s, cost.energy_j) == (0.0, 0.0)
