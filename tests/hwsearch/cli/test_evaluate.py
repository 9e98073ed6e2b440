"""``hwsearch evaluate`` with quantizers of every kind: what it reports of a configuration."""

import json
from math import inf

import pandas as pd
import pytest


@pytest.mark.parametrize(
    ("precisions", "quantizer"),
    [
        ("W4A32", ["fast"]),
        ("W32A8", ["fast"]),
        ("W3A8", ["best", "+quantizer.reconstruction.iterations=3", "data.calibration_images=32"]),
        ("W2A8", ["equalized"]),
    ],
)
def test_bytes_and_ratios_of_every_layer_are_reported(hwsearch, tmp_path, precisions, quantizer):
    name, *options = quantizer
    run = hwsearch("evaluate", f"precisions={precisions}", f"quantizer={name}", *options, f"run_dir={tmp_path}")
    assert run.status == 0, run.err
    result = json.loads((tmp_path / "result.json").read_text())
    table = pd.read_csv(tmp_path / "sqnr.csv")
    assert set(table["layer"]) == set(result["precisions"])
    assert result["size_bytes"] == table["size_bytes"].sum()
    assert result["huffman_bytes"] == table["huffman_bytes"].sum()
    if precisions == "W32A8":
        assert result["huffman_bytes"] == result["size_bytes"]
        assert (table["weight_sqnr_db"] == inf).all()
        assert table["output_sqnr_db"].between(10, 80).all()
    else:
        assert result["huffman_bytes"] < 1.1 * result["size_bytes"]
        assert table["weight_sqnr_db"].between(0, 40).all()
    assert f"{result['size_bytes']:,} bytes, {result['huffman_bytes']:,} Huffman-coded" in run.out
