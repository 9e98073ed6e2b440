"""FINN's estimates by hand, and foldings against every other one."""

from dataclasses import replace
from itertools import product

import pytest
from published import device_file

from cost_models import FLOAT, Dataflow, LayerSpec, NetworkSpec, Precision, load_device, total_cost
from cost_models.finn import MatrixVectorUnit

# 3x3 convolution, 64 to 64 channels, 8x8 outputs
UNIT = MatrixVectorUnit(9 * 64, 64, 64, weight_bits=2, activation_bits=2, pe=16, simd=32)


def test_cycles_do_not_depend_on_bits() -> None:
    assert UNIT.cycles == (64 // 16) * (576 // 32) * 64
    assert replace(UNIT, weight_bits=8, activation_bits=8).cycles == UNIT.cycles


def test_luts_by_hand() -> None:
    # log2(576) + 2 + 2 - 1 = 12.17: sums of 14 bits; a 4-bit product takes 4 LUTs, 63 adders of 4 bits
    assert UNIT.accumulator_bits == 14
    assert UNIT.luts == int(300 + 1.1 * 16 * (32 * 4 + 4 * 63 + 14)) == 7234
    assert replace(UNIT, dsp=True).luts == int(300 + 1.1 * 16 * (4 * 63 + 14))
    # 576 * 64 / 512 = 72 words of 1024 bits take two LUT memories of 64 words for each bit
    assert replace(UNIT, distributed=True).luts == int(300 + 1.1 * 16 * 394 + 1024 * 2)
    # three thresholds of 14 bits for each of 4 rows per element, and three comparators
    assert replace(UNIT, threshold_bits=2).luts == int(300 + 1.1 * 16 * (394 + 3 * 14 + 3 * 14))


def test_eight_bit_products_take_five_times_sixteen_luts() -> None:
    wide = replace(UNIT, weight_bits=8, activation_bits=8)
    assert wide.luts == int(300 + 1.1 * 16 * (32 * (2 * 3 - 1) * 16 + 16 * 63 + wide.accumulator_bits))
    assert wide.luts_per_mac == pytest.approx(1.1 * 16 * (5 + 2))


def test_dsps_by_hand() -> None:
    assert UNIT.dsps == 0
    assert replace(UNIT, dsp=True).dsps == 16 * 32
    assert replace(UNIT, dsp=True, weight_bits=25, activation_bits=24).dsps == 16 * 32 * 2


@pytest.mark.parametrize(
    ("pe", "simd", "weight_bits", "blocks"),
    [
        (1, 1, 1, 3),  # 36864 words of 1 bit: 16384 a block
        (1, 1, 2, 5),  # 8192 words of 2 bits
        (1, 1, 3, 9),  # 4096 of 4
        (2, 1, 4, 9),  # 18432 words of 8 bits: 2048 of 9
        (2, 3, 3, 6),  # 6144 words of 18 bits: 1024 of 18
        (4, 8, 2, 8),  # 1152 words of 64 bits: 2 of 1024 words, 4 of 18 bits
        (16, 32, 2, 29),  # 72 words of 1024 bits: 512 of 36
    ],
)
def test_block_rams_by_hand(pe, simd, weight_bits, blocks) -> None:
    unit = replace(UNIT, pe=pe, simd=simd, weight_bits=weight_bits)
    assert unit.bram18 == blocks
    assert replace(unit, distributed=True).bram18 == 0


LAYERS = (
    LayerSpec("conv", "conv2d", 4, 8, (3, 3), in_size=(8, 8), out_size=(6, 6)),
    LayerSpec("dw", "conv2d", 8, 8, (3, 3), groups=8, in_size=(6, 6), out_size=(4, 4)),
    LayerSpec("fc", "linear", 8, 6),
)
NETWORK = NetworkSpec.chain(LAYERS)


def fpga(**fields) -> Dataflow:
    device = load_device(device_file("finn_zynq_7020") | fields)
    assert isinstance(device, Dataflow)
    return device


def every_interval(device: Dataflow, config) -> list[int]:
    """Intervals of all foldings that fit, by brute force."""
    ways = []
    for layer in LAYERS:
        precision = config[layer.name]
        columns = layer.kernel[0] * layer.kernel[1] * layer.in_channels // layer.groups
        ways.append([
            MatrixVectorUnit(
                *(columns, layer.out_channels, layer.out_size[0] * layer.out_size[1]),
                *(precision.weight_bits, precision.activation_bits, pe, simd, device.threshold_bits),
                dsp=device.multipliers == "dsp",
            )
            for pe, simd in product(range(1, layer.out_channels + 1), range(1, columns + 1))
            if layer.out_channels % pe == 0 and columns % simd == 0
        ])  # fmt: skip
    budget = {resource: device.usable * getattr(device, resource) for resource in ("luts", "dsps", "bram18")}
    return [
        max(unit.cycles for unit in units)
        for units in product(*ways)
        if all(sum(getattr(unit, resource) for unit in units) <= limit for resource, limit in budget.items())
    ]


@pytest.mark.parametrize("luts", [1500, 4000, 12000, 53200])
@pytest.mark.parametrize("multipliers", ["lut", "dsp"])
def test_no_folding_that_fits_is_faster(luts, multipliers) -> None:
    # with block RAM to spare
    device = fpga(luts=luts, multipliers=multipliers, dsps=60, bram18=10_000)
    config = {"conv": Precision(2, 4), "dw": Precision(8, 2), "fc": Precision(1, 3)}
    units = device.folding(NETWORK, config)
    intervals = every_interval(device, config)
    if units is None:
        assert not intervals
        assert total_cost(device, NETWORK, config).latency_s == float("inf")
    else:
        assert max(unit.cycles for unit in units.values()) == min(intervals)
        assert total_cost(device, NETWORK, config).latency_s == pytest.approx(min(intervals) / 1e8)


def test_weights_move_to_luts_where_block_ram_does_not_suffice() -> None:
    config = {layer.name: Precision(4, 4) for layer in LAYERS}
    units = fpga(bram18=3).folding(NETWORK, config)
    assert sum(unit.bram18 for unit in units.values()) <= 0.7 * 3
    assert any(unit.distributed for unit in units.values())


def test_fewer_bits_unfold_the_network_further() -> None:
    device = fpga(luts=4000)
    latencies = [
        total_cost(device, NETWORK, {layer.name: Precision(bits, bits) for layer in LAYERS}).latency_s
        for bits in (8, 4, 2)
    ]
    assert latencies[0] > latencies[1] > latencies[2] > 0


def test_a_layers_cost_is_its_share_of_the_fabric() -> None:
    device = fpga()
    cost = device.layer_cost(LAYERS[0], Precision(2, 2))
    assert cost.latency_s == pytest.approx(LAYERS[0].macs * 1.1 * 4 * 3 / (0.7 * 53200) / 1e8)
    dsps = fpga(multipliers="dsp").layer_cost(LAYERS[0], Precision(2, 2))
    assert dsps.latency_s == pytest.approx(LAYERS[0].macs / (0.7 * 220) / 1e8)
    # whole foldings are never faster than continuous ones
    config = {layer.name: Precision(2, 2) for layer in LAYERS}
    assert device.network_cost(NETWORK, config).latency_s >= 0


def test_the_cost_of_a_float_network_is_unknown() -> None:
    assert fpga().network_cost(NETWORK, {layer.name: FLOAT for layer in LAYERS}).latency_s is None
