"""The digits' network, quantized at every width."""

import numpy as np
import pytest

from cost_models import Precision
from hwsearch.data import Batches, Preprocess, load_digits
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import build_database, calibrate, minmax, mse
from hwsearch.sensitivity import Quantized

REUSE_BYTES = 2**27


@pytest.fixture(scope="session")
def digits() -> Quantized:
    module = load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors")
    scale = Preprocess(shape=(1, 8, 8), divisor=16)
    images = load_digits(preprocess=scale).calibration[:128]
    calibration = Batches(images, np.zeros(len(images), np.int64), scale, batch_size=64)
    network = capture(module, next(iter(calibration))[0])
    database, ranges = build_database(network, minmax), calibrate(network, calibration, mse)
    return Quantized(
        network, database, ranges, FakeQuantNetwork(network, database, ranges, reuse_bytes=REUSE_BYTES), calibration
    )


@pytest.fixture(scope="session")
def choices(digits):
    """W{2,4,8}A{4,8} in every layer."""
    precisions = [Precision(weight_bits, bits) for weight_bits in (2, 4, 8) for bits in (4, 8)]
    return {layer.name: precisions for layer in digits.network.layers}
