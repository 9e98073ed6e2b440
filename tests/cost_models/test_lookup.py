"""Look-up tables: what their rows answer, and what is wrong with a table."""

from pathlib import Path
from typing import Any

import pytest
from published import FIXTURES, haq_layer, table

from cost_models import LayerSpec, Lookup, NetworkSpec, OperatorSpec, Precision

FIELDS: dict[str, Any] = {
    **{"name": "table", "chip": "none", "runtime": "none", "batch": 2, "origin": "measured"},
    **{"source": "own", "sources": {"own": {"kind": "measurement", "cite": "round numbers"}}},
}
OVERHEAD = {"layer_s": 2, "between_layers_s": 4, "operator_s": 6, "inference_s": 8, "source": "own"}
CONV = LayerSpec("conv", "conv2d", 3, 8, (3, 3), in_size=(9, 9), out_size=(7, 7))
ROWS = """# a comment
op,in_channels,out_channels,kernel_h,weight_bits,activation_bits,latency_s,energy_j
conv2d,3,8,3,8,8,10,100
conv2d,3,8,3,4,8,7,70
linear,8,4,1,8,8,5,50
"""


def lookup(tmp_path: Path, rows: str = ROWS, **fields: Any) -> Lookup:
    path = tmp_path / "table.csv"
    path.write_text(rows)
    return Lookup(path=path, **FIELDS | fields)


def test_rows_answer_for_their_shape(tmp_path) -> None:
    device = lookup(tmp_path)
    assert device.cost_source == "measured"
    assert device.precisions(CONV) == (Precision(4, 8), Precision(8, 8))
    cost = device.layer_cost(CONV, Precision(4, 8))
    assert (cost.latency_s, cost.energy_j, cost.bound_by) == (7, 70, "kernel")
    assert device.layer_cost(LayerSpec("fc", "linear", 8, 4), Precision(8, 8)).latency_s == 5


def test_formats_and_overheads(tmp_path) -> None:
    rows = "op,weight_bits,activation_bits,weight_format,latency_s\nconv2d,4,8,uniform,1\nconv2d,4,8,codebook,3\n"
    device = lookup(tmp_path, rows, overhead=OVERHEAD)
    assert device.precisions(CONV) == (Precision(4, 8, "codebook"), Precision(4, 8))
    assert device.layer_cost(CONV, Precision(4, 8, "codebook")).latency_s == 3 + 2 / 2
    assert device.layer_cost(CONV, Precision(4, 8)).energy_j is None
    add = OperatorSpec("add", "add", 8, (7, 7), (7, 7), (392, 392))
    network = NetworkSpec((CONV,), (add,), {"conv": ("(input)",), "add": ("conv",)})
    assert device.network_cost(network, {}).latency_s == (4 + 6 + 8) / 2


def test_a_shape_without_rows_is_refused_not_free(tmp_path) -> None:
    device, other = lookup(tmp_path), LayerSpec("other", "conv2d", 4, 8, (3, 3))
    assert device.precisions(other) == ()
    with pytest.raises(ValueError, match="Hardware 'table' has no kernels for conv2d layers, such as layer 'other'"):
        device.layer_cost(other, Precision(8, 8))
    with pytest.raises(ValueError, match=r"weight_bits=\[2\] in layer 'conv'; it supports \[4, 8\]"):
        device.layer_cost(CONV, Precision(2, 8))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("weight_bits,activation_bits,ms\n", "has columns .*'ms'.*; required are .*'latency_s'"),
        ("weight_bits,latency_s\n", "required are .*'activation_bits'"),
        ("weight_bits,activation_bits,latency_s\n8,8,1\n8,8,2\n", "gives {'weight_bits': 8.*} twice"),
        ("weight_bits,activation_bits,latency_s\n8,8,0\n", "holds latency_s=0, which is no positive number"),
        ("weight_bits,activation_bits,latency_s\n8,8,fast\n", "holds latency_s=fast, which is no positive number"),
        ("weight_bits,activation_bits,latency_s\n8,8,1\n8,4,inf\n", "holds latency_s=inf, which is no positive number"),
        (
            "weight_bits,activation_bits,latency_s,energy_j\n8,8,1,-1\n",
            "holds energy_j=-1, which is no positive number",
        ),
        (
            "weight_bits,activation_bits,latency_s\n8.5,8,1\n",
            "holds weight_bits=8.5, which is no positive whole number",
        ),
        (
            "weight_bits,activation_bits,latency_s\n8,,1\n",
            "holds activation_bits=nan, which is no positive whole number",
        ),
        (
            "op,weight_bits,activation_bits,latency_s\nconv,8,8,1\n",
            r"holds op=conv; choose from \['conv2d', 'linear'\]",
        ),
        ("", "is no CSV table: No columns to parse from file"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path, rows, message) -> None:
    with pytest.raises(ValueError, match=message):
        lookup(tmp_path, rows)


def test_a_missing_table_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"path: there is no file '.*table\.csv'"):
        Lookup(path=tmp_path / "table.csv", **FIELDS)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"needs {FIXTURES}")
def test_haqs_own_table_serves_as_a_device(tmp_path) -> None:
    cells = table("haq_mobilenetv2_latency.csv").drop_duplicates(
        ["kind", "in_channels", "out_channels", "in_hw", "stride", "weight_bits", "activation_bits"]
    )
    layers = [haq_layer(row) for row in cells.itertuples()]
    columns = {
        **{"op": [layer.op for layer in layers], "groups": [layer.groups for layer in layers]},
        **{name: cells[name].to_numpy() for name in ("in_channels", "out_channels", "weight_bits", "activation_bits")},
        **{"in_h": cells["in_hw"].to_numpy(), "stride_h": cells["stride"].to_numpy()},
        **{"latency_s": cells["cycles"].to_numpy()},
    }
    device = lookup(tmp_path, cells.assign(**columns)[list(columns)].to_csv(index=False), origin="modelled")
    for layer, row in zip(layers, cells.itertuples(), strict=True):
        assert device.layer_cost(layer, Precision(row.weight_bits, row.activation_bits)).latency_s == row.cycles
