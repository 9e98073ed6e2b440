"""Cost tables and prices of configurations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import (
    FLOAT,
    Analytic,
    BitConfig,
    Cost,
    Dataflow,
    LayerSpec,
    NetworkSpec,
    Precision,
    bops,
    load_device,
    size_bytes,
)
from hwsearch.costs import check_fits, cost_table, pricing

LAYERS = (
    LayerSpec("conv", "conv2d", 3, 16, (3, 3), in_size=(10, 10), out_size=(8, 8)),
    LayerSpec("dw", "conv2d", 16, 16, (3, 3), groups=16, in_size=(8, 8), out_size=(6, 6)),
    LayerSpec("fc", "linear", 16, 10),
)
NETWORK = NetworkSpec.chain(LAYERS)
BITFUSION = load_device(Path(__file__).parents[2] / "conf" / "hardware" / "bitfusion_isca_2018.yaml")

# Round numbers: no real device. Depthwise layers run at 8 bits only, and floats nowhere.
RATES = [
    {"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9, "mac_pj": 2.0, "source": "sheet"},
    {
        "weight_bits": 4,
        "activation_bits": 8,
        "macs_per_s": 3e9,
        "mac_pj": 1.0,
        "ops": ["conv2d", "linear"],
        "source": "sheet",
    },
    {"weight_bits": 2, "activation_bits": 8, "computed_as": [4, 8], "ops": ["conv2d", "linear"], "source": "sheet"},
]
FLOAT_RATE = {"weight_bits": 32, "activation_bits": 32, "macs_per_s": 1e8, "mac_pj": 8.0, "source": "sheet"}
FIELDS = {
    **{"name": "example", "chip": "none", "runtime": "none", "batch": 1, "output_bits": 8, "overlap": "max"},
    **{"source": "sheet", "sources": {"sheet": {"kind": "datasheet", "cite": "round numbers"}}},
    "compute": RATES,
    "memory": [{"name": "dram", "bytes_per_s": 1e8, "read_pj_per_bit": 3.0, "write_pj_per_bit": 3.0, "source": "sheet"}],
    "overhead": {"inference_s": 0.5, "source": "sheet"},
    "power": {"static_w": 2.0, "source": "sheet"},
}  # fmt: skip
EXAMPLE = Analytic(**FIELDS)
WITH_FLOAT = Analytic(**FIELDS | {"name": "floats", "compute": [*RATES, FLOAT_RATE]})
SUMS = ("latency_s", "energy_j", "size_bytes", "bops")


@pytest.mark.parametrize("device", [EXAMPLE, WITH_FLOAT, BITFUSION], ids=lambda device: device.name)
def test_rows_are_all_precisions_of_the_device_and_float(device):
    table = cost_table(LAYERS, device)
    expected = [
        (layer.name, precision.weight_bits, precision.activation_bits, "uniform")
        for layer in LAYERS
        for precision in sorted({*device.precisions(layer), FLOAT})
    ]
    assert list(table.index) == expected
    assert set(table["cost_source"]) == {"modelled"}


@pytest.mark.parametrize("device", [EXAMPLE, WITH_FLOAT, BITFUSION], ids=lambda device: device.name)
def test_each_row_holds_what_the_device_answers(device):
    table = cost_table(LAYERS, device)
    for layer in LAYERS:
        for precision in device.precisions(layer):
            row = table.loc[layer.name, precision.weight_bits, precision.activation_bits, "uniform"]
            cost = device.layer_cost(layer, precision)
            assert (row["latency_s"], row["energy_j"]) == (cost.latency_s, cost.energy_j)
            assert (row["size_bytes"], row["bops"]) == (size_bytes(layer, precision), bops(layer, precision))
            computed = cost.computed_as or precision
            assert row["computed_weight_bits"] == computed.weight_bits
            assert row["computed_activation_bits"] == computed.activation_bits
            assert all(row[name] == value for name, value in cost.breakdown.items())


def test_float_costs_are_unknown_unless_the_device_runs_floats():
    unknown = cost_table(LAYERS, EXAMPLE).loc["conv", 32, 32, "uniform"]
    assert math.isnan(unknown["latency_s"]) and math.isnan(unknown["energy_j"])
    assert math.isnan(unknown["computed_weight_bits"])
    assert unknown["size_bytes"] == 4 * (3 * 16 * 9 + 16)
    assert unknown["bops"] == 32 * 32 * LAYERS[0].macs
    known = cost_table(LAYERS, WITH_FLOAT).loc["conv", 32, 32, "uniform"]
    assert known["latency_s"] == pytest.approx(LAYERS[0].macs / 1e8)
    assert known["bound_by"] == "compute"


@st.composite
def configs(draw: st.DrawFn) -> BitConfig:
    return {layer.name: draw(st.sampled_from(EXAMPLE.precisions(layer))) for layer in LAYERS}


TABLE = cost_table(LAYERS, EXAMPLE)


@given(configs())
def test_a_price_is_the_sum_of_its_rows_and_what_the_network_adds(config):
    price = pricing(TABLE, NETWORK, EXAMPLE)(config)
    rows = [
        TABLE.loc[name, precision.weight_bits, precision.activation_bits, "uniform"]
        for name, precision in config.items()
    ]
    added = {"latency_s": 0.5, "energy_j": 2.0 * 0.5}  # the overhead, and static_w during it
    assert price == pytest.approx({name: sum(row[name] for row in rows) + added.get(name, 0) for name in SUMS})


@given(configs())
def test_sizes_and_bops_are_closed_forms_and_exact(config):
    price = pricing(TABLE, NETWORK, EXAMPLE)(config)
    widths = {layer: config[layer.name] for layer in LAYERS}
    assert price["bops"] == sum(layer.macs * p.weight_bits * p.activation_bits for layer, p in widths.items())
    packed = sum(math.ceil(layer.weight_count * p.weight_bits / 8) for layer, p in widths.items())
    assert price["size_bytes"] == packed + 8 * sum(layer.out_channels for layer in LAYERS)  # a bias and a scale each


@given(configs())
def test_the_order_of_layers_does_not_matter(config):
    price = pricing(TABLE, NETWORK, EXAMPLE)
    assert price(dict(reversed(config.items()))) == pytest.approx(price(config))  # float64 sums in another order


def test_the_float_network_has_a_size_and_unknown_costs():
    price = pricing(TABLE, NETWORK, EXAMPLE)({layer.name: FLOAT for layer in LAYERS})
    assert math.isnan(price["latency_s"]) and math.isnan(price["energy_j"])
    assert price["size_bytes"] == 4 * sum(layer.weight_count + layer.out_channels for layer in LAYERS)
    assert price["bops"] == 1024 * sum(layer.macs for layer in LAYERS)


def test_unknown_energy_is_nan_and_leaves_latency_known():
    rates = [{"weight_bits": 8, "activation_bits": 8, "macs_per_s": 2e9, "source": "sheet"}]
    device = Analytic(**FIELDS | {"compute": rates, "memory": [], "power": None})
    price = pricing(cost_table(LAYERS, device), NETWORK, device)({layer.name: Precision(8, 8) for layer in LAYERS})
    assert math.isnan(price["energy_j"])
    assert price["latency_s"] > 0


@pytest.mark.parametrize(
    ("precision", "shown"),
    [(Precision(4, 8), "W4A8"), (Precision(8, 8, "codebook"), "W8A8 codebook")],
)
def test_a_precision_that_the_table_lacks_is_named_with_its_layer(precision, shown):
    config = {layer.name: Precision(8, 8) for layer in LAYERS} | {"dw": precision}
    with pytest.raises(ValueError) as error:
        pricing(TABLE, NETWORK, EXAMPLE)(config)
    assert str(error.value) == f"Hardware 'example' has no cost for layer 'dw' at {shown}."


@dataclass(frozen=True)
class TwoFormats:
    """Codebooks of the same width cost twice as much."""

    name: str = "two formats"
    cost_source: str = "measured"
    batch: int = 1
    additive: bool = True
    warnings: Sequence[str] = ()

    def precisions(self, layer: LayerSpec) -> Sequence[Precision]:
        return Precision(4, 8), Precision(4, 8, "codebook")

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        return Cost(2.0 if precision.weight_format == "codebook" else 1.0, None)

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        return Cost(0.0, None)


def test_formats_of_one_width_have_their_own_prices():
    device = TwoFormats()
    table = cost_table(LAYERS, device)
    assert [weight_format for *_, weight_format in table.loc["fc"].index] == ["codebook", "uniform", "uniform"]
    assert set(table["cost_source"]) == {"measured"}
    price = pricing(table, NETWORK, device)
    uniform = {layer.name: Precision(4, 8) for layer in LAYERS}
    assert price(uniform)["latency_s"] == 3
    assert price(uniform | {"fc": Precision(4, 8, "codebook")})["latency_s"] == 4


@dataclass(frozen=True)
class Converting(TwoFormats):
    """Every layer with codebooks converts its input, which the network adds."""

    additive: bool = False

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        return Cost(10.0 * sum(precision.weight_format == "codebook" for precision in config.values()), None)


@pytest.mark.parametrize("device", [EXAMPLE, BITFUSION, Converting()], ids=lambda device: device.name)
def test_many_candidates_cost_what_each_costs_alone(device):
    price = pricing(cost_table(LAYERS, device), NETWORK, device)
    configs = [
        dict(zip([layer.name for layer in LAYERS], choice, strict=True))
        for choice in product(*map(device.precisions, LAYERS))
    ][:200]
    rows = np.array([[price.row(layer, precision) for layer, precision in config.items()] for config in configs])
    pd.testing.assert_frame_equal(price.many(rows), pd.DataFrame([price(config) for config in configs]))


def test_a_network_that_the_device_cannot_hold_is_refused():
    config = {layer.name: Precision(8, 8) for layer in LAYERS}
    check_fits(NETWORK, EXAMPLE, config)
    flash = {"name": "flash", "inputs": 0, "outputs": 0, "capacity_bytes": 700, "source": "sheet"}
    small = Analytic(**FIELDS | {"memory": [flash]})
    with pytest.raises(ValueError) as error:
        check_fits(NETWORK, small, config)
    weights = 3 * 16 * 9 + 16 * 9 + 16 * 10
    assert str(error.value) == (
        "Hardware 'example' cannot run the network even at its narrowest precisions: it needs "
        f"{weights - 700} bytes more of flash."
    )
    fpga = load_device(Path(__file__).parents[2] / "conf" / "hardware" / "finn_zynq_7020.yaml")
    assert isinstance(fpga, Dataflow)
    with pytest.raises(ValueError, match=r"'finn_zynq_7020' cannot run .*: it does not fit on the chip"):
        check_fits(NETWORK, replace(fpga, luts=100), config)
