"""Kernels run on stored images, and what their epilogue must make of known accumulators."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from cost_models.tvm import driver, target
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, Int32, fixed_ratios, requantize, round_sum
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.program import Kernel
from cost_models.tvm.tuner import isa_of

Array = NDArray[Any]
Run = Callable[..., dict[str, Array]]
Store = Callable[[Image, Array, int], Array]
CheckEpilogue = Callable[..., None]

UNTOUCHED = 119
"""What outputs hold before a kernel writes them."""


@pytest.fixture(scope="session")
def isas() -> list[str]:
    """Instruction sets that this machine executes."""
    best = isa_of(target.host()).name
    wider = ["avx2", "avx512_vnni", "avx512_vbmi"]
    return ["portable", *(wider[: wider.index(best) + 1] if best in wider else {best} - {"portable"})]


@pytest.fixture(scope="session")
def store() -> Store:
    """Lays out ``[N, H, W, C]`` in memory: zero points in the ring, anything in the surplus channels."""
    return _store


@pytest.fixture(scope="session")
def run() -> Run:
    """Calls a kernel with an array per pointer; returns those that were not given."""
    return _run


@pytest.fixture(scope="session")
def check_epilogue() -> CheckEpilogue:
    """Compares every output of a kernel with its accumulators requantized in numpy, for random scales and bounds.

    Takes the kernel, the expected accumulators int32 ``[N, H, W, C]``, the bias ``[C]``, a generator, and the kernel's
    other arguments.
    """
    return _check_epilogue


def _store(image: Image, x: Array, zero_point: int) -> Array:
    stored = np.random.default_rng(0).integers(0, 256, image.stored).astype(x.dtype)
    stored[..., : image.channels] = zero_point
    top, left, _, _ = image.ring
    stored[:, top : top + image.height, left : left + image.width, : image.channels] = x
    return stored


def _run(kernel: Kernel, **arrays: Array) -> dict[str, Array]:
    pointers = kernel.pointers()
    for name, dtype, size in pointers:
        if name in arrays:
            assert (arrays[name].dtype, arrays[name].size) == (dtype, size), name
    arguments = [
        arrays[name].reshape(-1) if name in arrays else np.full(size, UNTOUCHED, dtype)
        for name, dtype, size in pointers
    ]
    executable = driver.compile(driver.standalone(kernel.build("kernel")), target.host().attributes)
    tensors = [tvm.runtime.tensor(argument) for argument in arguments]
    executable["main"](*tensors)
    return {name: t.numpy() for (name, _, _), t in zip(pointers, tensors, strict=True) if name not in arrays}


def _check_epilogue(
    kernel: Any, accumulator: Int32, bias: Array, generator: np.random.Generator, **arrays: Array
) -> None:
    epilogue: Epilogue = kernel.epilogue
    spread = float(np.abs(accumulator).max()) + 1.0
    scale = generator.uniform(0.1, 3.0, epilogue.channels) * 100 / spread
    residual, added = None, None
    if epilogue.residual:
        residual = Residual(int(generator.integers(0, 256)), scale, _bounds(generator))
        codes = generator.integers(0, 256, (*accumulator.shape[:3], epilogue.channels)).astype(np.uint8)
        arrays["residual"] = _store(epilogue.residual, codes, residual.zero_point)
        added = codes.astype(np.int32) - residual.zero_point
    outputs = [_output(epilogue, scale, generator) for _ in epilogue.outputs]
    results = _run(kernel, parameters=epilogue.pack(bias, outputs, residual), **arrays)
    for i, (image, output) in enumerate(zip(epilogue.outputs, outputs, strict=True)):
        expected = _expected(epilogue, accumulator, output, residual, added)
        zero_point = output.bounds.zero_point if output.bounds else 0
        stored = results[f"output_{i}"].reshape(image.stored)
        assert np.array_equal(stored[..., : image.channels], _store(image, expected, zero_point)[..., : image.channels])


def _bounds(generator: np.random.Generator) -> Bounds:
    qmin, zero_point, qmax = sorted(int(q) for q in generator.choice([0, 0, 3, 100, 128, 255, 255], 3))
    return Bounds(zero_point, qmin, qmax)


def _output(epilogue: Epilogue, scale: Array, generator: np.random.Generator) -> Output:
    if epilogue.residual:
        left, right = generator.uniform(0.01, 2.0, 2)
        return Output(np.array([left]), _bounds(generator), float(right))
    return Output(scale * generator.uniform(0.5, 2), _bounds(generator) if epilogue.dtype == "uint8" else None)


def _expected(
    epilogue: Epilogue, accumulator: Int32, output: Output, residual: Residual | None, added: Int32 | None
) -> Array:
    if residual is None or added is None:
        value = requantize(accumulator, output.scale, epilogue.requantization)
    else:
        zero_point = residual.bounds.zero_point
        own = residual.bounds.saturate(requantize(accumulator, residual.scale, epilogue.requantization))
        ratios = fixed_ratios(output.scale.item(), output.residual_scale)
        value = round_sum(own.astype(np.int32) - zero_point, added, ratios)
    return output.bounds.saturate(value) if output.bounds else value.astype(np.int32)
