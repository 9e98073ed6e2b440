"""What the table of a configuration says of each layer."""

from math import inf

import pytest
import torch
from torch import Tensor, nn

from cost_models import FLOAT, Precision, size_bytes
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.evaluate.layer_table import layer_table, sqnr_db
from hwsearch.graph import capture
from hwsearch.quantize import build_database, calibrate, minmax
from hwsearch.quantize.storage import huffman_bytes


def test_bytes_and_ratios_of_each_layer():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 6, 6)
    network = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)), images)
    database = build_database(network, minmax, (4,))
    judge = FakeQuantNetwork(network, database, calibrate(network, [images], minmax, (8,)))
    first, last = network.layers
    table = layer_table(judge, {first.name: Precision(4, 8), last.name: FLOAT}, images).set_index("layer")
    weight, entry = network.weight("0"), database["0", 4, "uniform"]
    noise = (entry.dequantize() - weight).square().sum()
    decibels = float(10 * torch.log10(weight.square().sum() / noise))
    assert table.loc["0", "weight_sqnr_db"] == pytest.approx(decibels, abs=1e-3)
    assert table.loc["3", "weight_sqnr_db"] == inf
    assert table.loc["0", "size_bytes"] == size_bytes(first, Precision(4, 8)) == 54 + 32
    assert table.loc["0", "huffman_bytes"] == huffman_bytes(entry) + 32
    assert table.loc["3", "huffman_bytes"] == table.loc["3", "size_bytes"] == 4 * (5 * 64 + 5)
    assert decibels - 10 < table.loc["0", "output_sqnr_db"] < decibels + 15
    assert 0 < table.loc["3", "output_sqnr_db"] < inf


def test_ratios_by_hand():
    real = torch.tensor([3.0, 4.0])
    assert sqnr_db(real, torch.tensor([3.0, 4.5])) == pytest.approx(20)
    assert sqnr_db(real, real) == inf
    assert sqnr_db(torch.zeros(2), torch.zeros(2)) == inf
    assert sqnr_db(torch.zeros(2), real) == -inf


def four_levels(rows: Tensor, clip: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    return torch.tensor([-127, -40, 40, 127], dtype=torch.int8), clip / 127


@pytest.mark.parametrize(
    ("bits", "method", "scales", "levels"),
    [
        (4, {"granularity": "per_tensor"}, 1, 0),
        (4, {"granularity": "per_channel"}, 4, 0),
        (4, {"granularity": "per_group", "group_size": 9}, 4 * 3, 0),
        (2, {"codebook": four_levels, "codebook_bits": [2]}, 4, 4),
    ],
    ids=["per tensor", "per channel", "per group", "codebook"],
)
def test_scales_and_levels_are_counted_as_there_are(bits, method, scales, levels):
    """4 channels of 3x3x3 weights and their biases."""
    images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    network = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), images)
    database = build_database(network, minmax, (bits,), **method)
    judge = FakeQuantNetwork(network, database, {})
    row = layer_table(judge, {"0": Precision(bits, 32)}, images).iloc[0]
    assert row["size_bytes"] == 108 * bits // 8 + 4 * 4 + 4 * scales + levels
    assert row["huffman_bytes"] == huffman_bytes(database["0", bits, "uniform"]) + 4 * 4 + 4 * scales + levels
