"""The integer engine: one compilation, any configuration."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cost_models import FLOAT
from hwsearch.data import Batch, Preprocess, load_digits
from hwsearch.lowering import input_codes, run
from hwsearch.lowering.engine import IntegerEngine
from hwsearch.networks import DigitsResNet, load_checkpoint

PREPROCESS = Preprocess(shape=(1, 8, 8), divisor=16.0)


class Branches(nn.Module):
    """A sum, a product, a table, a concatenation, poolings and a depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)  # by Winograd's algorithm on x86
        self.depthwise, self.fc = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Linear(32, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.relu(self.conv(x) + x) * torch.sigmoid(x)
        return self.fc(torch.cat([self.depthwise(x), x], 1).mean((2, 3)))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def branches(calibrated):
    torch.manual_seed(0)
    return calibrated(Branches(), torch.randn(70, 3, 8, 8))


@pytest.fixture
def engine(cache_dir):
    def make(quantized, **options):
        return IntegerEngine(quantized.network, quantized.database, quantized.ranges, cache_dir=cache_dir, **options)

    return make


@pytest.mark.parametrize("requantization", ["float32", "fixed_point"])
def test_logits_are_those_of_the_integer_network_at_every_configuration(branches, engine, requantization):
    judge = engine(branches, requantization=requantization)
    images = branches.images.numpy()
    for config in (branches.mixed(), branches.uniform(2, 2), branches.uniform(8, 8), branches.mixed()):
        judge.configure(config)
        integers = branches.lower(config)
        expected = run(integers, input_codes(integers, images), requantization) * integers.logit_scale
        np.testing.assert_array_equal(judge(branches.images).numpy(), expected)


def test_digits_are_those_of_fake_quantization(calibrated, engine):
    data = load_digits(preprocess=PREPROCESS)
    digits = load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors")
    quantized = calibrated(digits, PREPROCESS(data.inputs))
    judge = engine(quantized)
    for config in (quantized.mixed(), quantized.uniform()):
        judge.configure(config)
        expected, found = quantized.fake_logits(config), judge(quantized.images).numpy()
        assert np.mean(expected.argmax(1) == found.argmax(1)) >= 0.999  # but for ties of rounding
        assert np.std(found - expected) <= 0.01 * np.std(expected)


@pytest.mark.parametrize("reuse_bytes", [0, 140_000, 70_000_000])
def test_what_is_remembered_changes_no_logits(branches, engine, reuse_bytes):
    judge = engine(branches, reuse_bytes=reuse_bytes)
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3)).astype(np.uint8)
    batch = Batch(images, np.zeros(70, np.int64), Preprocess(shape=(3, 8, 8), divisor=64.0))
    base = branches.uniform(8, 8)
    for config in [base, *({**base, name: branches.mixed()[name]} for name in base), base]:
        judge.configure(config)
        assert torch.equal(judge.logits(batch), judge(batch.inputs))


def test_threads_are_those_that_torch_has_at_the_call(branches, engine):
    judge, seen = engine(branches), []

    def preprocess(images):
        seen.append(threading.current_thread() is threading.main_thread())
        return branches.images

    before = torch.get_num_threads()
    try:
        for threads in (2, 1, 2):
            torch.set_num_threads(threads)
            judge.logits(Batch(branches.images.numpy(), np.zeros(70, np.int64), preprocess))
    finally:
        torch.set_num_threads(before)
    assert (seen[0], True in seen, seen[-1]) == (False, True, False)


def test_kernels_are_compiled_once(branches, engine, cache_dir):
    engine(branches)
    libraries = {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.so")}
    engine(branches)
    assert {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.so")} == libraries


def test_a_damaged_library_is_compiled_again(calibrated, tmp_path, caplog):
    torch.manual_seed(0)
    quantized = calibrated(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(4, 3, 2, 2))
    arguments = quantized.network, quantized.database, quantized.ranges
    expected = IntegerEngine(*arguments, cache_dir=tmp_path)(quantized.images)
    (library,) = tmp_path.rglob("*.so")
    library.write_bytes(b"damaged")
    assert torch.equal(IntegerEngine(*arguments, cache_dir=tmp_path)(quantized.images), expected)
    assert "Damaged entries of the kernel cache" in caplog.text


def test_floats_are_refused(branches, engine):
    judge = engine(branches)
    with pytest.raises(ValueError, match="reads floats"):
        judge.configure(dict.fromkeys(branches.uniform(), FLOAT))
