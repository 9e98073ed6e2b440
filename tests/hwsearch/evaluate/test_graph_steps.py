"""Fake quantization from where a configuration parts from earlier ones."""

import numpy as np
import pytest
import torch

from cost_models import FLOAT, Precision
from hwsearch.data import Batch, Preprocess
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.networks import DigitsResNet
from hwsearch.quantize import build_database, calibrate, minmax


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    preprocess = Preprocess(shape=(1, 8, 8), divisor=16.0)
    images = np.random.default_rng(0).integers(0, 17, (6, 8, 8, 1)).astype(np.uint8)
    network = capture(DigitsResNet().eval(), preprocess(images))
    database, ranges = build_database(network, minmax), calibrate(network, [preprocess(images)], minmax)
    return network, database, ranges, Batch(images, np.zeros(6, np.int64), preprocess)


@pytest.mark.parametrize("reuse_bytes", [0, 12_000, 6_000_000])
def test_what_is_remembered_changes_no_logits(task, reuse_bytes):
    network, database, ranges, batch = task
    engine = FakeQuantNetwork(network, database, ranges, reuse_bytes=reuse_bytes)
    names = [layer.name for layer in network.layers]
    base = dict.fromkeys(names, Precision(8, 8))
    configs = [base, *({**base, name: Precision(3, 4)} for name in names), dict.fromkeys(names, FLOAT), base]
    for config in configs:
        engine.configure(config)
        assert torch.equal(engine.logits(batch), engine(batch.inputs))
