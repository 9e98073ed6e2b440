"""Judging on growing parts of the search split."""

from operator import gt as greater
from operator import lt as less

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cost_models import Precision
from hwsearch.data import Batch, Preprocess, load_digits
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.judging import SplitJudge, growing_parts
from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import build_database, calibrate, minmax
from hwsearch.search import never

PREPROCESS = Preprocess(shape=(1, 8, 8), divisor=16.0)
IMAGES = 400


@pytest.fixture(scope="module")
def digits():
    data = load_digits(preprocess=PREPROCESS)
    inputs = PREPROCESS(data.inputs[:IMAGES])
    network = capture(load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors").eval(), inputs)
    database, ranges = build_database(network, minmax), calibrate(network, [inputs], minmax)
    parts = [
        [Batch(data.inputs[:IMAGES][part], data.labels[:IMAGES][part], PREPROCESS)]
        for part in growing_parts(data.labels[:IMAGES], seed=0)
    ]
    return network, database, ranges, parts


@pytest.fixture
def judge(digits):
    network, database, ranges, parts = digits
    return SplitJudge(FakeQuantNetwork(network, database, ranges), FakeQuantNetwork(network, {}, {}), parts)


def uniform(digits, bits):
    return {layer.name: Precision(bits, bits) for layer in digits[0].layers}


def test_parts_double_and_have_every_class():
    labels = np.random.default_rng(0).integers(0, 4, 800)
    parts = growing_parts(labels, seed=0)
    assert [len(part) for part in parts] == [50, 50, 100, 200, 400]
    assert sorted(np.concatenate(parts)) == list(range(800))
    share = np.bincount(labels) / len(labels)
    for part in parts:
        assert np.abs(np.bincount(labels[part]) - share * len(part)).max() <= 3
    assert [list(part) for part in growing_parts(labels, seed=0)] == [list(part) for part in parts]
    assert [len(part) for part in growing_parts(labels[:90], seed=0)] == [90]


def test_a_candidate_with_hope_is_judged_on_all_images(digits, judge):
    network, database, ranges, parts = digits
    found = judge(uniform(digits, 4), never)
    assert (found.n, found.dropped) == (IMAGES, False)
    fake = FakeQuantNetwork(network, database, ranges)
    fake.configure(uniform(digits, 4))
    inputs = torch.cat([batch.inputs for part in parts for batch in part])
    labels = np.concatenate([batch.labels for part in parts for batch in part])
    logits, expected = fake(inputs).double(), network.graph(inputs).double()
    assert found.measures["top1"] == pytest.approx(100 * np.mean(logits.argmax(1).numpy() == labels))
    assert found.measures["agreement"] == pytest.approx(
        100 * float((logits.argmax(1) == expected.argmax(1)).double().mean())
    )
    p = F.softmax(expected, 1)
    kl = (p * (torch.log_softmax(expected, 1) - torch.log_softmax(logits, 1))).sum(1).mean()
    assert found.measures["kl"] == pytest.approx(float(kl), rel=1e-5, abs=1e-9)


def test_a_candidate_without_hope_is_dropped_with_an_estimate(digits, judge):
    front = judge(uniform(digits, 8), never).measures
    full = judge(uniform(digits, 2), never).measures
    assert full["kl"] > front["kl"]
    for measure, worse in (("top1", less), ("agreement", less), ("kl", greater)):
        asked = []

        def hopeless(best, measure=measure, worse=worse, asked=asked):
            asked.append(best[measure])
            return worse(best[measure], front[measure])

        found = judge(uniform(digits, 2), hopeless)
        assert found.dropped
        assert found.n == len(digits[3][0][0])
        assert worse(asked[0], front[measure])
        assert not worse(asked[0], found.measures[measure])  # what it may be is no worse than what it most likely is
        assert found.measures[measure] == pytest.approx(full[measure], rel=0.5)
        assert judge(uniform(digits, 8), hopeless).n == IMAGES  # a tie is not worse


def test_bounds_keep_to_what_a_measure_can_be(judge, digits):
    asked = []
    judge(uniform(digits, 2), lambda best: asked.append(best))
    assert len(asked) == len(digits[3]) - 1
    for best in asked:
        assert best["kl"] >= 0
        assert best["top1"] <= 100
        assert best["agreement"] <= 100


def test_the_float_network_is_compared_with(digits, judge):
    assert judge.n == IMAGES
    assert judge.float_correct > 0.95 * IMAGES
