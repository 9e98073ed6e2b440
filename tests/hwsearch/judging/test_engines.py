"""Which engine judges."""

import logging

import pytest
import torch
from torch import nn

from cost_models import FLOAT_BITS, Precision
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.judging import choose_engine
from hwsearch.lowering.engine import IntegerEngine
from hwsearch.quantize import build_database, calibrate, minmax

EIGHT = [Precision(8, 8)]


def quantized(*middle):
    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 4, 4)
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(48, 8), *middle, nn.Linear(8, 5)).eval(), inputs)
    return network, build_database(network, minmax), calibrate(network, [inputs], minmax)


@pytest.fixture(scope="module")
def plain():
    return quantized()


@pytest.fixture
def choose(plain, tmp_path):
    def chosen(name, task=plain, precisions=EIGHT, images=10**9, **options):
        return type(choose_engine(name, *task, precisions, images=images, batch_size=4, cache_dir=tmp_path, **options))

    return chosen


def test_torch_is_taken_where_little_is_to_be_computed(choose):
    assert choose("auto", images=10) is FakeQuantNetwork
    assert choose("auto") is IntegerEngine
    assert choose("torch") is FakeQuantNetwork
    assert choose("integer", images=10) is IntegerEngine


def test_floats_are_left_to_torch(choose, caplog):
    precisions = [Precision(4, 8), Precision(4, FLOAT_BITS)]
    with caplog.at_level(logging.INFO, "hwsearch"):
        assert choose("auto", precisions=precisions) is FakeQuantNetwork
    assert "the space holds ['W4A32']" in caplog.text
    with pytest.raises(ValueError, match=r"^engine=integer: .*Set engine=torch\.$"):
        choose("integer", precisions=precisions)


def test_another_device_is_left_to_torch(choose, caplog):
    with caplog.at_level(logging.INFO, "hwsearch"):
        assert choose("auto", device="meta") is FakeQuantNetwork  # a device that every machine has
    assert "runs on device=cpu, not meta" in caplog.text
    with pytest.raises(ValueError, match="runs on device=cpu, not cuda"):
        choose("integer", device="cuda")


def test_an_operator_without_integers_is_left_to_torch(choose, caplog):
    task = quantized(nn.Softmax(1))
    with caplog.at_level(logging.INFO, "hwsearch"):
        assert choose("auto", task) is FakeQuantNetwork
    assert "has no integer form" in caplog.text
    with pytest.raises(ValueError, match="has no integer form"):
        choose("integer", task)


def test_integers_are_requantized_as_the_device_does(plain, tmp_path):
    options = {"images": 4, "batch_size": 4, "cache_dir": tmp_path}
    for requantization in ("float32", "fixed_point"):
        engine = choose_engine("integer", *plain, EIGHT, requantization=requantization, **options)
        assert engine.requantization == requantization
