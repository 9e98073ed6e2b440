"""The analytic model: its closed form on small cases, networks, and what device files may not say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import FLOAT, INPUT, Analytic, LayerSpec, NetworkSpec, OperatorSpec, Precision, total_cost

CONV = LayerSpec("conv4", "conv2d", 16, 32, (3, 3), padding=(1, 1), in_size=(10, 10), out_size=(10, 10))
DEPTHWISE = LayerSpec("dw", "conv2d", 32, 32, (3, 3), groups=32, padding=(1, 1), in_size=(10, 10), out_size=(10, 10))
LINEAR = LayerSpec("fc", "linear", 32, 8)
W8A8, W4A8, W4A4 = Precision(8, 8), Precision(4, 8), Precision(4, 4)
MACS = 16 * 32 * 9 * 100

# Round numbers, for arithmetic by hand: no real device.
FIELDS: dict[str, Any] = {
    "name": "example",
    "chip": "none",
    "runtime": "none",
    "batch": 2,
    "source": "sheet",
    "sources": {
        "sheet": {"kind": "datasheet", "cite": "round numbers"},
        "guess": {"kind": "estimate", "cite": "a guess", "uncertainty": 0.5},
    },
    "compute": [
        {"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9, "efficiency": 0.5, "mac_pj": 2.0, "source": "sheet"},
        {"weight_bits": 4, "activation_bits": 8, "computed_as": [8, 8], "ops": ["conv2d", "linear"], "source": "sheet"},
        {"weight_bits": 32, "activation_bits": 32, "macs_per_s": 1e8, "mac_pj": 8.0, "source": "sheet"},
    ],
    "memory": [{"name": "dram", "bytes_per_s": 1e8, "read_pj_per_bit": 10.0, "write_pj_per_bit": 20.0, "source": "sheet"}],
    "output_bits": 8,
    "overlap": "max",
    "overhead": {"layer_s": 1e-5, "operator_s": 2e-5, "between_layers_s": 4e-5, "inference_s": 1e-3, "source": "sheet"},
    "power": {"static_w": 0.5, "source": "sheet"},
}  # fmt: skip
DRAM: dict[str, Any] = FIELDS["memory"][0]
W8A8_RATE: dict[str, Any] = FIELDS["compute"][0]
LATENCY_ONLY = {
    **FIELDS,
    "compute": [{"weight_bits": [4, 8], "activation_bits": [4, 8], "macs_per_s": 2e9, "source": "sheet"}],
    "memory": [{"name": "dram", "bytes_per_s": 1e8, "source": "sheet"}],
    "power": None,
}


def seconds(breakdown: dict[str, float]) -> float:
    return sum(value for part, value in breakdown.items() if part.endswith("_s"))


def joules(breakdown: dict[str, float]) -> float:
    return sum(value for part, value in breakdown.items() if part.endswith("_j"))


def test_latency_and_energy_follow_the_closed_form() -> None:
    cost = Analytic(**FIELDS).layer_cost(CONV, W8A8)
    weights, inputs, outputs = 16 * 32 * 9 / 2, 16 * 100, 32 * 100  # bytes; two images share the weights
    assert cost.breakdown == pytest.approx(
        {
            "compute_s": MACS / 1e9,
            "weight_load_s": weights / 1e8,
            "activation_load_s": inputs / 1e8,
            "store_s": outputs / 1e8,
            "overhead_s": 1e-5 / 2,
            "overlap_s": -(weights + inputs + outputs) / 1e8,
            "compute_j": 2e-12 * MACS,
            "dram_j": 8e-12 * (10 * (weights + inputs) + 20 * outputs),
            "static_j": 0.5 * (MACS / 1e9 + 1e-5 / 2),
        }
    )
    assert cost.latency_s == pytest.approx(MACS / 1e9 + 1e-5 / 2)
    assert cost.bound_by == "compute"
    summed = Analytic(**FIELDS | {"overlap": "sum"}).layer_cost(CONV, W8A8)
    assert summed.latency_s == pytest.approx(MACS / 1e9 + (weights + inputs + outputs) / 1e8 + 1e-5 / 2)
    assert summed.breakdown["overlap_s"] == 0


@pytest.mark.parametrize(
    ("change", "layer", "bound_by"),
    [
        ({}, CONV, "compute"),
        ({"overlap": "sum"}, CONV, "compute"),
        ({"memory": [DRAM | {"bytes_per_s": 1e5}]}, LayerSpec("wide", "linear", 999, 999), "weight_load"),
        ({"memory": [DRAM | {"bytes_per_s": 1e5}]}, LayerSpec("in", "conv2d", 99, 1, in_size=(9, 9), out_size=(9, 9)), "activation_load"),
        ({"memory": [DRAM | {"bytes_per_s": 1e5}]}, LayerSpec("out", "conv2d", 1, 99, in_size=(9, 9), out_size=(9, 9)), "store"),
        ({}, LayerSpec("tiny", "linear", 2, 2), "overhead"),
    ],
)  # fmt: skip
def test_the_part_that_bounds_a_layer_is_named(change, layer, bound_by) -> None:
    assert Analytic(**FIELDS | change).layer_cost(layer, W8A8).bound_by == bound_by


def test_the_slowest_memory_counts() -> None:
    flash = {"name": "flash", "inputs": 0, "outputs": 0, "bytes_per_s": 1e4, "source": "sheet"}
    cost = Analytic(**LATENCY_ONLY | {"memory": [LATENCY_ONLY["memory"][0] | {"weights": 0}, flash]}).layer_cost(
        CONV, W8A8
    )
    assert cost.latency_s == pytest.approx(16 * 32 * 9 / 2 / 1e4 + 1e-5 / 2)
    assert cost.bound_by == "weight_load"


def test_narrow_storage_computed_wider_saves_traffic_only() -> None:
    device = Analytic(**FIELDS)
    narrow, wide = device.layer_cost(CONV, W4A8), device.layer_cost(CONV, W8A8)
    assert (narrow.computed_as, wide.computed_as) == (W8A8, None)
    assert narrow.breakdown["compute_s"] == wide.breakdown["compute_s"]
    assert narrow.breakdown["compute_j"] == wide.breakdown["compute_j"]
    saved = 16 * 32 * 9 / 2 / 2 / 1e8
    assert wide.breakdown["weight_load_s"] - narrow.breakdown["weight_load_s"] == pytest.approx(saved)


def test_codebooks_have_entries_of_their_own() -> None:
    codebook = {
        "weight_bits": 4,
        "activation_bits": 8,
        "weight_format": "codebook",
        "computed_as": [8, 8],
        "source": "sheet",
    }
    device = Analytic(**FIELDS | {"compute": [*FIELDS["compute"], codebook]})
    stored = Precision(4, 8, "codebook")
    assert device.precisions(DEPTHWISE) == (stored, W8A8, FLOAT)
    assert device.layer_cost(DEPTHWISE, stored).computed_as == W8A8


def test_cycles_and_macs_per_cycle_count_the_clock() -> None:
    for law in ({"macs_per_cycle": "16 * 8 / weight_bits"}, {"cycles": "batch * macs / (16 * 8 / weight_bits)"}):
        rate = {"weight_bits": [4, 8], "activation_bits": 8, "efficiency": 0.5, "source": "sheet", **law}
        device = Analytic(**LATENCY_ONLY | {"clock_hz": 1e6, "compute": [rate], "memory": (), "overhead": None})
        assert device.layer_cost(CONV, W8A8).latency_s == pytest.approx(MACS / 16 / 0.5 / 1e6)
        assert device.layer_cost(CONV, W4A8).latency_s == pytest.approx(MACS / 32 / 0.5 / 1e6)


def test_entries_may_hold_for_some_kernels_and_the_first_that_fits_counts() -> None:
    quick = {"weight_bits": 8, "activation_bits": 8, "macs_per_s": 4e9, "kernels": [[3, 3]], "source": "sheet"}
    device = Analytic(**LATENCY_ONLY | {"compute": [quick, *LATENCY_ONLY["compute"]], "memory": (), "overhead": None})
    assert device.layer_cost(CONV, W8A8).latency_s == pytest.approx(MACS / 4e9)
    assert device.layer_cost(CONV, W4A8).latency_s == pytest.approx(MACS / 2e9)
    assert device.layer_cost(LINEAR, W8A8).latency_s == pytest.approx(LINEAR.macs / 2e9)
    only = Analytic(**LATENCY_ONLY | {"compute": [quick]})
    assert only.precisions(LINEAR) == ()
    with pytest.raises(ValueError, match="no kernels for linear layers, such as layer 'fc'"):
        only.layer_cost(LINEAR, W8A8)


def test_float_network_has_a_cost_where_a_rate_is_given() -> None:
    device = Analytic(**FIELDS)
    assert device.precisions(CONV) == (W4A8, W8A8, FLOAT)
    assert device.layer_cost(CONV, FLOAT).breakdown["store_s"] == pytest.approx(4 * 32 * 100 / 1e8)


def test_unsupported_precision_names_hardware_layer_bits_and_choices() -> None:
    device = Analytic(**FIELDS)
    with pytest.raises(ValueError) as error:
        device.layer_cost(DEPTHWISE, W4A8)
    assert str(error.value) == (
        "Hardware 'example' has no kernels for weight_bits=[4] in layer 'dw'; it supports [8, 32]. "
        "Set space.weight_bits to a subset."
    )
    with pytest.raises(
        ValueError, match=r"activation_bits=\[4\] with weight_bits=4 in layer 'conv4'; it supports \[8\]"
    ):
        device.layer_cost(CONV, W4A4)


def test_unknown_energy_stays_unknown() -> None:
    device = Analytic(**LATENCY_ONLY)
    assert device.layer_cost(CONV, W8A8).energy_j is None
    assert device.network_cost(NetworkSpec.chain([CONV]), {"conv4": W8A8}).energy_j is None


def test_active_power_times_latency() -> None:
    device = Analytic(**LATENCY_ONLY | {"power": {"active_w": 3.0, "source": "sheet"}})
    cost = device.layer_cost(CONV, W8A8)
    assert cost.energy_j == cost.breakdown["active_j"] == pytest.approx(3.0 * cost.latency_s)
    rest = device.network_cost(NetworkSpec.chain([CONV]), {"conv4": W8A8})
    assert rest.energy_j == pytest.approx(3.0 * (1e-3 + 4e-5) / 2)


# conv4 -> sum of conv4 and its pooled self (by hand) -> dw -> fc
ADD = OperatorSpec("add", "add", 32, (10, 10), (10, 10), (3200, 3200))
NETWORK = NetworkSpec(
    (CONV, DEPTHWISE, LINEAR),
    (ADD,),
    {"conv4": (INPUT,), "add": ("conv4", INPUT), "dw": ("add",), "fc": ("dw", "conv4")},
)
ALL_8 = dict.fromkeys(("conv4", "dw", "fc"), W8A8)


def test_network_adds_operators_and_overheads() -> None:
    cost = Analytic(**FIELDS).network_cost(NETWORK, ALL_8)
    operators_s = 9600 / 1e8 + 2e-5 / 2
    assert cost.latency_s == pytest.approx(operators_s + (1e-3 + 3 * 4e-5) / 2)
    assert cost.breakdown["operators_s"] == pytest.approx(operators_s)
    assert cost.breakdown["dram_j"] == pytest.approx(8e-12 * (10 * 6400 + 20 * 3200))
    assert cost.energy_j == pytest.approx(cost.breakdown["dram_j"] + 0.5 * cost.latency_s)
    free = Analytic(**FIELDS | {"operators": "free"})
    assert free.network_cost(NETWORK, ALL_8).breakdown["operators_s"] == 0
    assert free.warnings == ("Additions, pooling and other operators between layers cost no time here.",)


def test_products_of_activations_take_as_long_as_a_linear_layer() -> None:
    # three heads: [7, 8] x [8, 5] -> [7, 5]
    matmul = OperatorSpec("scores", "matmul", 5, (3, 7), (3, 7), (3 * 7 * 8, 3 * 8 * 5))
    device = Analytic(**FIELDS)
    alike = device.layer_cost(LayerSpec("scores", "linear", 8, 5, in_size=(21, 1), out_size=(21, 1)), W8A8)
    network = NetworkSpec((), (matmul,), {"scores": (INPUT,)})
    assert device.network_cost(network, {}).breakdown["operators_s"] == pytest.approx(alike.latency_s)


def test_weights_beyond_what_stays_resident_are_streamed() -> None:
    weights = CONV.weight_count + DEPTHWISE.weight_count + LINEAR.weight_count
    bus = {
        "name": "usb",
        "inputs": 0,
        "outputs": 0,
        "bytes_per_s": 1e6,
        "resident_bytes": weights - 100,
        "source": "sheet",
    }
    device = Analytic(**LATENCY_ONLY | {"memory": [bus], "overhead": None, "operators": "free"})
    assert not device.additive
    assert device.layer_cost(CONV, W8A8).breakdown["weight_load_s"] == 0
    assert device.network_cost(NETWORK, ALL_8).latency_s == pytest.approx(100 / 1e6 / 2)
    narrow = ALL_8 | {"conv4": W4A8}
    assert device.network_cost(NETWORK, narrow).latency_s == 0


def test_tensors_read_at_two_widths_are_converted() -> None:
    device = Analytic(**LATENCY_ONLY | {"conversion": {"values_per_s": 1e6, "source": "sheet"}, "operators": "free"})
    base = Analytic(**LATENCY_ONLY | {"operators": "free"})
    assert not device.additive

    def converted(config) -> float:
        difference = device.network_cost(NETWORK, config).latency_s - base.network_cost(NETWORK, config).latency_s
        return difference * 1e6

    assert converted(ALL_8) == 0
    # conv4's result is read by the sum at 8 bits and by fc at 4; the input by conv4 at 4 and by the sum at 8
    assert converted(ALL_8 | {"fc": W4A4}) == pytest.approx(3200)
    assert converted(ALL_8 | {"fc": W4A4, "conv4": W4A4}) == pytest.approx(3200 + 1600)


def test_a_network_that_does_not_fit_never_ends() -> None:
    def latency_s(capacity_bytes: float, memory: dict[str, Any], config=ALL_8) -> float:
        level = {"name": "ram", "capacity_bytes": capacity_bytes, "source": "sheet"} | memory
        return Analytic(**LATENCY_ONLY | {"memory": [level]}).network_cost(NETWORK, config).latency_s

    # dw runs while its input, its result and that of conv4 live, which fc still reads
    peak = 2 * 3 * 3200
    assert latency_s(peak, {"weights": 0}) < 1 < latency_s(peak - 1, {"weights": 0}) == float("inf")
    weights = CONV.weight_count + DEPTHWISE.weight_count + LINEAR.weight_count
    flash = {"inputs": 0, "outputs": 0}
    assert latency_s(weights, flash) < 1 < latency_s(weights - 1, flash)
    assert latency_s(weights - 1, flash, ALL_8 | {"conv4": W4A8}) < 1


def test_a_whole_network_is_its_layers_and_what_it_adds() -> None:
    device = Analytic(**FIELDS)
    parts = [*(device.layer_cost(layer, W8A8) for layer in NETWORK.layers), device.network_cost(NETWORK, ALL_8)]
    total = total_cost(device, NETWORK, ALL_8)
    assert total.latency_s == pytest.approx(sum(part.latency_s for part in parts))
    assert total.energy_j == pytest.approx(sum(part.energy_j for part in parts))
    assert total_cost(Analytic(**LATENCY_ONLY), NETWORK, ALL_8).energy_j is None


@given(
    in_channels=st.integers(1, 512),
    out_channels=st.integers(1, 512),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 7)]),
    size=st.integers(1, 56),
    overlap=st.sampled_from(["max", "sum"]),
)
def test_parts_sum_to_the_totals(in_channels, out_channels, kernel, size, overlap) -> None:
    layer = LayerSpec("layer", "conv2d", in_channels, out_channels, kernel, in_size=(size, size), out_size=(size, size))
    device = Analytic(**FIELDS | {"overlap": overlap})
    for precision in device.precisions(layer):
        cost = device.layer_cost(layer, precision)
        assert seconds(cost.breakdown) == pytest.approx(cost.latency_s, rel=1e-12)
        assert joules(cost.breakdown) == pytest.approx(cost.energy_j, rel=1e-12)
        assert cost.breakdown["overlap_s"] <= 0
        assert min(value for part, value in cost.breakdown.items() if part != "overlap_s") >= 0


def test_estimates_reach_the_warnings() -> None:
    guessed = W8A8_RATE | {"source": ["sheet", "guess"]}
    device = Analytic(**FIELDS | {"compute": [guessed, *FIELDS["compute"][1:]], "notes": ["a note"]})
    assert device.warnings == ("a note", "Estimated to ±50%: compute[0] (a guess).")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": [DRAM | {"source": "web"}]}, r"memory\[0\].source: 'web' is not in sources; choose from \['guess', 'sheet'\]"),
        ({"source": "web"}, "source: 'web' is not in sources"),
        ({"compute": [W8A8_RATE | {"cycles": 1}]}, r"exactly one of macs_per_s, .*; found \['macs_per_s', 'cycles'\]"),
        ({"compute": [W8A8_RATE | {"macs_per_s": None}]}, "exactly one of .*; found none"),
        ({"compute": [W8A8_RATE | {"macs_per_s": None, "cycles": 1}]}, r"compute\[0\] counts cycles; give clock_hz"),
        ({"compute": [W8A8_RATE, W8A8_RATE]}, r"compute\[1\] gives \[8, 8\] for conv2d again, after compute\[0\]"),
        ({"compute": FIELDS["compute"][1:]}, r"compute\[0\] is computed_as \[8, 8\], which no entry computes for conv2d; choose from \[\[32, 32\]\]"),
        ({"compute": [W8A8_RATE, {"weight_bits": 16, "activation_bits": 8, "computed_as": [8, 8], "source": "sheet"}]}, r"\[16, 8\] cannot be computed_as the narrower \[8, 8\]"),
        ({"compute": [W8A8_RATE, FIELDS["compute"][1] | {"mac_pj": 1}]}, "computed_as takes efficiency and mac_pj from the entry that it names"),
        ({"compute": [W8A8_RATE, FIELDS["compute"][2] | {"mac_pj": None}]}, "give mac_pj for every entry, or for none"),
        ({"power": {"active_w": 1, "source": "sheet"}}, "power.active_w excludes static_w, mac_pj and picojoules per bit"),
        ({"compute": [W8A8_RATE | {"mac_pj": None}]}, "static_w and picojoules per bit alone give no energy"),
        ({"sources": {"sheet": {"kind": "estimate", "cite": "?"}}}, "an estimate needs its relative uncertainty"),
        ({"memory": [DRAM, DRAM]}, r"memory\[1\].name: 'dram' is taken by memory\[0\]"),
        ({"schema": "hwsearch.device/2"}, "hwsearch.device/1"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        Analytic(**FIELDS | change)
