"""Shipped analytic devices against published figures and cases calculated by hand."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from published import FIXTURES, device_file, haq_layer, table

from cost_models import Analytic, LayerSpec, Precision, bops, load_device
from cost_models.agreement import agreement


def device(name: str) -> Analytic:
    loaded = load_device(device_file(name))
    assert isinstance(loaded, Analytic)
    return loaded


def cycles(name: str, layer: LayerSpec, weight_bits: int = 8, activation_bits: int = 8) -> float:
    """Computing cycles per image."""
    hardware = device(name)
    return (
        hardware.layer_cost(layer, Precision(weight_bits, activation_bits)).breakdown["compute_s"] * hardware.clock_hz
    )


def convolution(in_channels: int, out_channels: int, side: int, kernel: int = 1, **fields: Any) -> LayerSpec:
    reach = side + kernel - 1
    return LayerSpec(
        *("conv", "conv2d", in_channels, out_channels, (kernel, kernel)),
        in_size=(reach, reach),
        out_size=(side, side),
        **fields,
    )


@pytest.fixture(scope="module")
def haq() -> pd.DataFrame:
    """HAQ's cells with the cycles that the device file gives."""
    if not FIXTURES.is_dir():
        pytest.skip(f"needs {FIXTURES}")
    cells = table("haq_mobilenetv2_latency.csv")
    hardware = device("haq_cvpr_2019")
    modelled, operations = [], []
    for row in cells.itertuples():
        layer = haq_layer(row)
        precision = Precision(row.weight_bits, row.activation_bits)
        modelled.append(hardware.layer_cost(layer, precision).latency_s * hardware.clock_hz * hardware.batch)
        operations.append(bops(layer, precision))
    return cells.assign(modelled=modelled, bops=operations)


def test_haq_cells_are_reproduced(haq) -> None:
    assert len(haq) == 53 * 8 * 8
    found = agreement(haq["modelled"], haq["cycles"])
    assert found["mape"] <= 0.08
    assert found["spearman"] >= 0.99


def test_haq_policies_are_reproduced_and_bops_are_no_proxy(haq) -> None:
    generator = np.random.default_rng(0)
    cells = haq.sort_values(["layer", "weight_bits", "activation_bits"])
    columns = {name: cells[name].to_numpy().reshape(53, 64) for name in ("cycles", "modelled", "bops")}
    policies = generator.integers(64, size=(500, 53))
    totals = {name: values[np.arange(53), policies].sum(axis=1) for name, values in columns.items()}
    modelled = agreement(totals["modelled"], totals["cycles"])
    assert modelled["mape"] <= 0.03
    assert modelled["spearman"] >= 0.99
    # the same policies scored by bit operations: about 0.5
    assert 0.4 < agreement(totals["bops"], totals["cycles"])["spearman"] < 0.6


def test_bismo_reaches_its_published_peak() -> None:
    hardware = device("bismo_fpl_2018")
    layer = LayerSpec("product", "linear", 2560, 800, in_size=(80, 1), out_size=(80, 1))
    for w, a in product((1, 2, 3, 8), repeat=2):
        operations_per_s = 2 * w * a * layer.macs / hardware.layer_cost(layer, Precision(w, a)).latency_s
        assert operations_per_s == pytest.approx(6.5536e12)  # README: 6.5 TOPS binary
    ragged = LayerSpec("product", "linear", 257, 9, in_size=(9, 1), out_size=(9, 1))
    assert cycles("bismo_fpl_2018", ragged, 3, 2) == pytest.approx(3 * 2 * 2 * 2 * 2)


def test_stripes_and_loom_follow_their_laws() -> None:
    layer = convolution(64, 64, 16, 3)
    assert cycles("stripes_micro_2016", layer, 8, 8) == pytest.approx(8 * 9 * 4 * 4 * 16)
    assert cycles("stripes_micro_2016", layer, 8, 3) == pytest.approx(3 * 9 * 4 * 4 * 16)
    assert cycles("loom_dac_2018", layer, 4, 2) == pytest.approx(layer.macs / 128 * 4 * 2 / 256)
    assert cycles("loom_dac_2018", LayerSpec("fc", "linear", 512, 100), 4, 2) == pytest.approx(512 * 100 / 128 * 4 / 16)


# MACs per cycle by (weight, activation) bits: Ottavi et al. 2020, arXiv:2010.04073.
MPIC = {
    (8, 8): 2.1,
    (4, 8): 2.3,
    (2, 8): 2.5,
    (8, 4): 2.1,
    (4, 4): 3.5,
    (2, 4): 3.9,
    (8, 2): 2.2,
    (4, 2): 4.0,
    (2, 2): 6.5,
}


def test_mpic_has_its_published_rates_and_energies() -> None:
    layer = convolution(16, 16, 8, 3)
    for pair, rate in MPIC.items():
        assert layer.macs / cycles("mpic_riscv", layer, *pair) == pytest.approx(rate)
    hardware = device("mpic_riscv")
    assert len(hardware.precisions(layer)) == len(MPIC)
    for pair, picojoules in (((8, 8), 10.2), ((4, 4), 6.2), ((2, 2), 3.3)):
        energy_j = hardware.layer_cost(layer, Precision(*pair)).energy_j
        assert energy_j / layer.macs * 1e12 == pytest.approx(picojoules, abs=0.06)


def test_gap8_cycles_by_hand() -> None:
    # 3x3, 16 to 32 channels, 10x10 outputs: 5 * 2 blocks of 2 * 144 cycles im2col and 8 times 15 + 14 * 36
    assert cycles("gap8_pulp_nn", convolution(16, 32, 10, 3)) == pytest.approx(5 * 2 * (288 + 8 * 519))
    assert cycles("gap8_pulp_nn", convolution(30, 30, 10, 3, groups=30)) == pytest.approx(4 * 8 * 100 * 9)
    assert cycles("gap8_pulp_nn", LayerSpec("fc", "linear", 65, 10)) == pytest.approx(33 * 3)


def ne16_iteration(out_channels: int, n_in: int, load: int, product_cycles: int) -> int:
    """Of one block of 3x3 outputs: PLiNIO's formula, term by term, for up to 32 output channels."""
    weight_offset, index, normalization, stream_out = 6, 2, 9 + out_channels, 3 + 9 + 1
    return n_in * (load + weight_offset + product_cycles + index) + normalization + stream_out


@pytest.mark.parametrize("weight_bits", [2, 5, 8])
def test_ne16_cycles_by_hand(weight_bits: int) -> None:
    # 40 output channels are a pass of 32 and one of 8; 7x7 outputs are 3 * 3 blocks; 20 input channels 2 passes
    full = ne16_iteration(32, 2, 31, 6 + 32 * weight_bits) + ne16_iteration(8, 2, 31, 6 + 8 * weight_bits)
    assert cycles("gap9_ne16", convolution(20, 40, 7, 3), weight_bits) == pytest.approx(9 * full)
    point = ne16_iteration(32, 2, 19, 6 + 32) + ne16_iteration(8, 2, 19, 6 + 8)
    assert cycles("gap9_ne16", convolution(20, 40, 7), weight_bits) == pytest.approx(9 * point)
    assert cycles("gap9_ne16", LayerSpec("fc", "linear", 20, 40), weight_bits) == pytest.approx(point)
    # depthwise: passes of 16 channels, of which the weight offset loads each
    passes = [31 + (6 + k) + (6 + k * weight_bits) + 2 + (9 + k) + 13 for k in (16, 4)]
    assert cycles("gap9_ne16", convolution(20, 20, 7, 3, groups=20), weight_bits) == pytest.approx(9 * sum(passes))


def test_ne16_runs_no_other_kernels() -> None:
    with pytest.raises(ValueError, match="'gap9_ne16' has no kernels for conv2d layers, such as layer 'conv'"):
        device("gap9_ne16").layer_cost(convolution(16, 16, 8, 5), Precision(8, 8))


def test_diana_cycles_by_hand() -> None:
    layer = convolution(32, 40, 20, 3)
    assert cycles("diana_isscc_2022", layer) == pytest.approx(3 * 32 * 2 * 20 * 9 + 400 * 72 / 8)
    depthwise = convolution(32, 32, 20, 3, groups=32)
    assert cycles("diana_isscc_2022", depthwise) == pytest.approx(1 * 32 * 2 * 20 * 9 + 400 * 64 / 8)
    # analog: 64 rows per input row and kernel column, 3 columns: 1152 / 192 = 6 rows of inputs hold 4 outputs
    analog = 8 * 32 * 9 + 1 * 1 * 400 / 4 * 70e-9 * 260e6
    assert cycles("diana_isscc_2022", layer, 2) == pytest.approx(analog)
    assert [str(p) for p in device("diana_isscc_2022").precisions(depthwise)] == ["W8A8"]
    # 600 output channels need two passes of 512, and leave no room for a second output; 200 input channels two of 128
    wide = convolution(200, 600, 10)
    assert cycles("diana_isscc_2022", wide, 2) == pytest.approx(8 * 200 + 2 * 2 * 100 * 70e-9 * 260e6)


def test_dpu_does_its_published_operations_per_cycle() -> None:
    full = convolution(64, 64, 16, 3)
    assert 2 * full.macs / cycles("dpuczdx8g_b4096", full) == pytest.approx(2 * 8 * 16 * 16) == pytest.approx(4096)
    ragged = convolution(17, 15, 3, 3)
    assert cycles("dpuczdx8g_b4096", ragged) == pytest.approx(2 * 2 * 1 * 9)


def test_ethos_u_is_bound_by_the_slowest_of_array_and_memories() -> None:
    """PERFORMANCE.md of Vela: the maximum of cycles for computing and for each memory's bandwidth."""
    for name, macs_per_cycle, weight_bytes_per_s in (
        ("ethos_u55_256_vela", 256, 0.5e9),
        ("ethos_u65_512_vela", 512, 3.75e9),
    ):
        hardware = device(name)
        dense = convolution(64, 64, 16, 3)
        assert hardware.layer_cost(dense, Precision(8, 8)).latency_s == pytest.approx(
            dense.macs / macs_per_cycle / hardware.clock_hz
        )
        assert cycles(name, dense, 8, 16) == pytest.approx(2 * cycles(name, dense))
        classifier = LayerSpec("fc", "linear", 1024, 1000)
        cost = hardware.layer_cost(classifier, Precision(8, 8))
        assert (cost.bound_by, cost.latency_s) == ("weight_load", pytest.approx(1024 * 1000 / weight_bytes_per_s))


def test_eyeriss_energy_is_that_of_timeloops_reference_output() -> None:
    """59.28 uJ and 86,016 cycles for 10,838,016 MACs; picojoules per MAC by level (hardware.md, section 1c)."""
    layer = LayerSpec("conv", "conv2d", 3, 32, (3, 3), (2, 2), in_size=(225, 225), out_size=(112, 112))
    cost = device("eyeriss_like_timeloop").layer_cost(layer, Precision(8, 8))
    assert layer.macs == 10_838_016
    assert cycles("eyeriss_like_timeloop", layer) == pytest.approx(86_016)
    assert cost.energy_j == pytest.approx(59.28e-6, rel=0.03)
    per_mac = {part: value / layer.macs * 1e15 for part, value in cost.breakdown.items() if part.endswith("_j")}
    published = {
        **{
            "compute_j": 207.69,
            "sum_scratchpad_j": 386.77,
            "weight_scratchpad_j": 1006.69,
            "input_scratchpad_j": 112.37,
        },
        **{"global_buffer_j": 375.27, "dram_j": 3380.86},
    }
    assert {part: value for part, value in per_mac.items() if value} == pytest.approx(published, rel=0.04)


def test_data_sheets_rank_gpus_as_their_peaks() -> None:
    layer = convolution(512, 512, 28, 3)
    latencies = [
        device(name).layer_cost(layer, Precision(8, 8)).breakdown["compute_s"]
        for name in ("a100_datasheet", "l4_datasheet", "t4_roofline")
    ]
    assert [latencies[2] / latency for latency in latencies] == pytest.approx([623.7 / 130, 250.7 / 130, 1])
