"""Networks quantized with powers of two, so that float32 fake quantization is exact and must equal the integers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cost_models import BitConfig, Precision
from cost_models.tvm.runner import LocalRunner
from cost_models.tvm.untuned import untuned
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import Network, capture
from hwsearch.lowering import IntegerNetwork, input_codes, lower, run
from hwsearch.lowering.compiled import compile_network
from hwsearch.quantize import (
    ActivationGrid,
    ActivationRanges,
    LayerDatabase,
    Range,
    build_database,
    calibrate,
    minmax,
    weight_qmax,
)

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
STEP = 2.0**-4
"""Of every activation."""


@dataclass
class Quantized:
    """A captured network with all that it takes to lower it, and images to try it on."""

    network: Network
    database: LayerDatabase
    ranges: ActivationRanges
    images: Tensor

    def uniform(self, weight_bits: int = 8, activation_bits: int = 8) -> dict[str, Precision]:
        return {layer.name: Precision(weight_bits, activation_bits) for layer in self.network.layers}

    def mixed(self) -> dict[str, Precision]:
        """Every width of weights and of activations, in neighbouring layers if there are enough of them."""
        return {
            layer.name: Precision(2 + (5 * i + 6) % 7, 4 + (2 * i + 4) % 5)
            for i, layer in enumerate(self.network.layers)
        }

    def lower(self, config: BitConfig | None = None, **options: bool) -> IntegerNetwork:
        return lower(self.network, config or self.uniform(), self.database, self.ranges, **options)

    def fake_logits(self, config: BitConfig | None = None) -> np.ndarray:
        fake = FakeQuantNetwork(self.network, self.database, self.ranges)
        fake.configure(config or self.uniform())
        return fake(self.images).numpy()

    def logits(self, integers: IntegerNetwork, requantization: str = "float32") -> np.ndarray:
        codes = input_codes(integers, self.images.numpy())
        return run(integers, codes, requantization) * integers.logit_scale


def warmed_up(module: nn.Module, shape: tuple[int, ...], images: int) -> Tensor:
    """Leave the module with random batch norms that fit its random inputs, which are returned."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            part.momentum = 1.0
    inputs = torch.randn(images, *shape)
    module.train()(inputs)
    module.eval()
    return inputs


def power_of_two(x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
    """Covers every weight with a scale that is a power of two."""
    assert counts is None
    clip = torch.exp2(torch.ceil(torch.log2(x.abs().amax(1) / weight_qmax(bits)))) * weight_qmax(bits)
    return Range(-clip, clip)


@pytest.fixture
def exact() -> Callable[..., Quantized]:
    """Quantize a module with powers of two, and one step for all activations but those that ``finer`` divides.

    Sums of tensors then need no rounding, where halves would go up in the integers and to even in float32.
    """

    def quantize(
        module: nn.Module, shape: tuple[int, ...], images: int = 4, finer: Mapping[str, float] | None = None
    ) -> Quantized:
        inputs = warmed_up(module, shape, images)
        network = capture(module, inputs)
        database = build_database(network, power_of_two)
        steps = finer or {}
        ranges = {
            (tensor, bits): ActivationGrid(
                STEP * steps.get(tensor, 1), min(grid.zero_point, 1) * 2 ** (bits - 1), grid.qmax
            )
            for (tensor, bits), grid in calibrate(network, [inputs], minmax).items()
        }
        return Quantized(network, database, ranges, inputs)

    return quantize


@pytest.fixture
def calibrated() -> Callable[..., Quantized]:
    """Quantize a module as users do, with ranges from its images."""

    def quantize(module: nn.Module, images: Tensor) -> Quantized:
        module.eval()(images)  # lazy layers learn their sizes
        network = capture(module, images)
        return Quantized(network, build_database(network, minmax), calibrate(network, [images], minmax), images)

    return quantize


@pytest.fixture
def check(exact) -> Callable[..., IntegerNetwork]:
    """Lower a module and require exactly the logits of fake quantization; returns the integers of W8A8."""
    requantizations = cycle(("float32", "fixed_point"))

    def equal(module: nn.Module, shape: tuple[int, ...], **options: Any) -> IntegerNetwork:
        quantized = exact(module, shape, **options)
        for config in (quantized.uniform(), quantized.mixed()):
            integers = quantized.lower(config)
            expected = quantized.fake_logits(config)
            assert np.ptp(expected, axis=0).any()
            np.testing.assert_array_equal(quantized.logits(integers), expected)
            assert_executable(integers)
        assert_compiled_exactly(integers, quantized.images.numpy(), next(requantizations))
        return integers

    return equal


def assert_executable(integers: IntegerNetwork) -> None:
    """Every tensor is written once and before it is read, and rings hold what is read."""
    written = list(integers.inputs)
    for operation in integers.operations:
        assert set(operation.sources) <= set(written)
        outputs = getattr(operation, "outputs", None)
        names = [output.tensor for output in outputs] if outputs else getattr(operation, "targets", None)
        written += names or [operation.target]
    assert sorted(written) == sorted(integers.tensors)


def assert_compiled_exactly(integers: IntegerNetwork, images: np.ndarray, requantization: str) -> None:
    """Machine code for this machine gives the integers that numpy does, bit for bit."""
    codes = input_codes(integers, images)
    found = compiled_here(integers, requantization)(codes)
    np.testing.assert_array_equal(found, run(integers, codes, requantization))


def compiled_here(integers: IntegerNetwork, requantization: str) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Machine code for this machine, as a function from stored inputs to logits."""
    runner = LocalRunner.host()
    return compile_network(integers, requantization, untuned(runner.target), runner).loaded()


@pytest.fixture
def compiled() -> Callable[..., Callable[[Mapping[str, np.ndarray]], np.ndarray]]:
    return compiled_here


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the pretrained networks and images in {SHARED}")
    return SHARED
