"""Kernels run on stored images, and what their epilogue must make of known accumulators."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import strategies as st
from numpy.typing import NDArray

from cost_models.tvm import driver, target
from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, Int32, fixed_ratios, requantize, round_sum
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.program import Kernel
from cost_models.tvm.tuner import isa_of

Array = NDArray[Any]

UNTOUCHED = 119
"""What outputs hold before a kernel writes them."""

ENDS = (0, 0, 3, 100, 128, 255, 255)


@pytest.fixture(scope="session")
def isas() -> list[str]:
    """Names of the instruction sets that this machine executes."""
    best = isa_of(target.host()).name
    x86 = ["avx2", "avx512_vnni", "avx512_vbmi"]
    return ["portable", *(x86[: x86.index(best) + 1] if best in x86 else {best} - {"portable"})]


@pytest.fixture(scope="session")
def epilogues() -> Callable[..., st.SearchStrategy[Epilogue]]:
    """Strategy of epilogues: of the output's image without a ring, and whether a residual is added."""
    return _epilogues


@pytest.fixture(scope="session")
def store() -> Callable[[Image, Array, int], Array]:
    """Lays out ``[N, H, W, C]`` in memory: the zero point in the ring, anything in the surplus channels."""
    return _store


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, Array]]:
    """Calls a kernel with an array per pointer; returns those that were not given."""
    return _run


@pytest.fixture(scope="session")
def check_epilogue() -> Callable[..., None]:
    """Compares every output of a kernel with its accumulators requantized in numpy, for random scales and bounds."""
    return _check_epilogue


@st.composite
def _epilogues(draw: st.DrawFn, image: Image, residual: bool = False) -> Epilogue:
    def ringed() -> Image:
        return replace(image, ring=draw(st.tuples(*[st.integers(0, 2)] * 4)))

    requantization = draw(st.sampled_from(["float32", "fixed_point"]))
    if not residual and draw(st.sampled_from([False, False, False, True])):
        return Epilogue(image.channels, (image,), None, requantization, "int32")
    outputs = [ringed() for _ in range(draw(st.integers(1, 2)))]
    return Epilogue(image.channels, tuple(outputs), ringed() if residual else None, requantization)


def _store(image: Image, x: Array, zero_point: int) -> Array:
    stored = np.random.default_rng(0).integers(0, 256, image.stored).astype(x.dtype)
    stored[..., : image.channels] = zero_point
    top, left, _, _ = image.ring
    stored[:, top : top + image.height, left : left + image.width, : image.channels] = x
    return stored


def _run(kernel: Kernel, **arrays: Array) -> dict[str, Array]:
    pointers = kernel.pointers()
    arguments = [arrays.get(name, np.full(size, UNTOUCHED, dtype)) for name, dtype, size in pointers]
    tensors = [tvm.runtime.tensor(argument.reshape(-1)) for argument in arguments]
    driver.compile(driver.standalone(kernel.build("kernel")), target.host().attributes)["main"](*tensors)
    return {name: t.numpy() for (name, _, _), t in zip(pointers, tensors, strict=True) if name not in arrays}


def _check_epilogue(
    kernel: Any,
    accumulator: Int32,
    constants: Callable[[list[Output], Residual | None], dict[str, Array]],
    generator: np.random.Generator,
    *,
    residual: Residual | None = None,
    rescaled: Callable[[Array], Array] = lambda scale: scale,
    **arrays: Array,
) -> None:
    """Run a kernel and compare.

    Args:
        kernel: With an epilogue.
        accumulator: What it requantizes, ``[N, H, W, C]``.
        constants: Arrays by pointer, from the values of the epilogue.
        generator: Of those values.
        residual: How the left operand of a sum becomes integers; random if not given.
        rescaled: Scales of every position from those of the outputs.
        **arrays: Its other arguments.
    """
    epilogue: Epilogue = kernel.epilogue
    scale = generator.uniform(0.1, 3.0, epilogue.channels) * 100 / (np.abs(accumulator).max() + 1.0)
    added = None
    if epilogue.residual:
        residual = residual or Residual(int(generator.integers(0, 256)), scale, _bounds(generator))
        codes = generator.integers(0, 256, accumulator.shape).astype(np.uint8)
        arrays["residual"] = _store(epilogue.residual, codes, residual.zero_point)
        added = codes.astype(np.int32) - residual.zero_point
    outputs = [_output(epilogue, scale, generator) for _ in epilogue.outputs]
    results = _run(kernel, **constants(outputs, residual), **arrays)
    for i, (image, output) in enumerate(zip(epilogue.outputs, outputs, strict=True)):
        zero_point = output.bounds.zero_point if output.bounds else 0
        if residual is None or added is None:
            value = requantize(accumulator, rescaled(output.scale), epilogue.requantization)
        else:
            left = residual.bounds.saturate(requantize(accumulator, residual.scale, epilogue.requantization))
            centred = left.astype(np.int32) - residual.bounds.zero_point
            value = round_sum(centred, added, fixed_ratios(output.scale.item(), output.residual_scale))
        expected = output.bounds.saturate(value) if output.bounds else value.astype(np.int32)
        stored = results[f"output_{i}"].reshape(image.stored)[..., : image.channels]
        assert np.array_equal(stored, _store(image, expected, zero_point)[..., : image.channels])


def _bounds(generator: np.random.Generator) -> Bounds:
    qmin, zero_point, qmax = sorted(int(q) for q in generator.choice(ENDS, 3))
    return Bounds(zero_point, qmin, qmax)


def _output(epilogue: Epilogue, scale: Array, generator: np.random.Generator) -> Output:
    if epilogue.residual:
        left, right = generator.uniform(0.01, 2.0, 2)
        return Output(np.array([left]), _bounds(generator), float(right))
    return Output(scale * generator.uniform(0.5, 2), _bounds(generator) if epilogue.dtype == "uint8" else None)
