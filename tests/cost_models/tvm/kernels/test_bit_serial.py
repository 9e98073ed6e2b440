"""Bit-serial kernels equal the numpy convolution bit for bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, convolve, requantize
from cost_models.tvm.kernels.bit_serial import BITS, BitSerialKernel
from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def shapes(draw: st.DrawFn) -> Convolution:
    size, kernel, stride, dilation = draw(pairs(1, 8)), draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 2))
    before, after = draw(pairs(0, 2)), draw(pairs(0, 2))
    padding = tuple(ring - draw(st.integers(0, ring)) for ring in before)
    height, width = (
        (p + n + end - (k - 1) * d - 1) // s + 1
        for p, n, end, k, s, d in zip(padding, size, after, kernel, stride, dilation, strict=True)
    )
    assume(height > 0 and width > 0)
    image = Image(*size, draw(st.integers(1, 100)), (*before, *after), draw(st.integers(1, 2)))
    out_channels = draw(st.integers(1, 70))
    return Convolution(image, (height, width), out_channels, kernel, stride, dilation, (padding[0], padding[1]))


def kernel_of(weight_bits=1, activation_bits=1, groups=1, **knobs) -> BitSerialKernel:
    shape = Convolution(Image(4, 4, 128), (4, 4), 20, groups=groups)
    epilogue = Epilogue(20, (Image(4, 4, 20),))
    return BitSerialKernel(shape, weight_bits, activation_bits, epilogue, ISAS["portable"], Tiling(**knobs))


def random_weights(generator: np.random.Generator, kernel: BitSerialKernel) -> np.ndarray:
    shape, half = kernel.shape, 2 ** (kernel.weight_bits - 1)
    codes = generator.integers(-half, half, (shape.out_channels, *shape.kernel, shape.image.channels)).astype(np.int8)
    return np.where(codes < 0, -1, 1).astype(np.int8) if kernel.weight_bits == 1 else codes


@settings(max_examples=25)
@given(st.data(), shapes(), st.sampled_from(BITS), st.sampled_from(BITS), st.integers(0, 2**32), st.booleans())
def test_equals_the_integer_convolution(
    isas, epilogues, store, check_epilogue, data, shape, weight_bits, activation_bits, seed, extreme
) -> None:
    image = shape.image
    out = Image(*shape.out_size, shape.out_channels, batch=image.batch)
    epilogue = data.draw(epilogues(out, data.draw(st.booleans())))
    knobs = *data.draw(st.tuples(*[st.integers(1, 3)] * 3)), 1, data.draw(st.sampled_from(["channels", "pixels"]))
    isa = ISAS[data.draw(st.sampled_from(isas))]
    kernel = BitSerialKernel(shape, weight_bits, activation_bits, epilogue, isa, Tiling(*knobs))
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**activation_bits, (image.batch, image.height, image.width, image.channels))
    x, weights = codes.astype(np.uint8), random_weights(generator, kernel)
    if extreme:
        x, weights = np.full_like(x, 2**activation_bits - 1), np.full_like(weights, weights.min())
    zero_point = int(generator.integers(0, 2**activation_bits))
    bias = generator.integers(-1000, 1000, shape.out_channels) - zero_point * weights.sum((1, 2, 3), dtype=np.int64)

    stored = store(image, x, zero_point)
    first = [ring - padding for ring, padding in zip(image.ring[:2], shape.padding, strict=True)]
    read = stored[:, first[0] :, first[1] :, : image.channels]
    accumulator = convolve(read, weights, bias.astype(np.int32), stride=shape.stride, dilation=shape.dilation)
    check_epilogue(
        kernel,
        accumulator,
        lambda *values: {"parameters": epilogue.pack(bias, *values)},
        generator,
        input=stored,
        weights=kernel.pack(weights),
    )


def test_unrolled_words_give_the_same(run) -> None:
    generator = np.random.default_rng(0)
    plain = kernel_of(2, 2)
    x = generator.integers(0, 4, plain.shape.image.stored).astype(np.uint8)
    parameters = plain.epilogue.pack(np.zeros(20, np.int64), [Output(np.full(20, 0.5), Bounds(100, 0, 255))])
    arrays = {"input": x, "weights": plain.pack(random_weights(generator, plain)), "parameters": parameters}
    once, twice = (run(kernel_of(2, 2, unroll=unroll), **arrays)["output_0"] for unroll in (1, 2))
    assert len(np.unique(once)) > 10
    assert np.array_equal(once, twice)


@pytest.mark.parametrize(
    ("isa", "options"),
    [
        ("portable", {"mcpu": "cortex-a53", "cpu": "cortex-a53"}),
        ("dotprod", {"mcpu": "cortex-a76", "cpu": "cortex-a76"}),
    ],
)
def test_is_exact_on_arm(run_emulated, store, isa, options) -> None:
    image, out = Image(5, 6, 40, ring=(1, 1, 1, 1)), Image(5, 6, 20)
    shape = Convolution(image, (5, 6), 20, (3, 3), padding=(1, 1))
    kernel = BitSerialKernel(shape, 2, 2, Epilogue(20, (out,)), ISAS[isa], Tiling(1, 3, 2))
    generator = np.random.default_rng(0)
    stored, weights = store(image, generator.integers(0, 4, (1, 5, 6, 40)), 1), random_weights(generator, kernel)
    accumulator = convolve(stored[..., :40], weights, np.zeros(20, np.int32))
    output = Output(generator.uniform(50, 100, 20) / np.abs(accumulator).max(), Bounds(100, 0, 255))
    given = {
        "input": stored.astype(np.uint8),
        "weights": kernel.pack(weights),
        "parameters": kernel.epilogue.pack(np.zeros(20, np.int64), [output]),
    }
    arrays = [given.get(name, np.zeros(size, dtype)) for name, dtype, size in kernel.pointers()]
    result = run_emulated("aarch64", kernel.build("kernel"), arrays, **options)[-1].reshape(out.stored)
    expected = output.bounds.saturate(requantize(accumulator, output.scale, "float32"))
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("bits", "knobs", "message"),
    [
        ((5, 1), {}, r"^No bit-serial kernel multiplies 5-bit weights by 1-bit activations; both have \(1, 2, 3, 4\)"),
        ((1, 8), {}, r"multiplies 1-bit weights by 8-bit activations"),
        ((1, 1), {"groups": 4}, r"^No bit-serial kernel computes groups=4"),
        ((1, 1), {"unroll": 3}, r"unroll=3.* does not fit runs of 4 words"),
        ((2, 2), {"in_place": True}, r"in_place=True.* does not fit"),
    ],
)
def test_what_it_does_not_compute_is_refused(bits, knobs, message) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_of(*bits, **knobs)


@pytest.mark.parametrize(("bits", "code"), [(1, 0), (1, -2), (2, 2), (4, -9)])
def test_codes_that_do_not_fit_are_refused(bits, code) -> None:
    codes = np.full((20, 1, 1, 128), -1, np.int8)
    codes[3, 0, 0, 5] = code
    with pytest.raises(ValueError, match=rf"^Weight codes \[{code}\] do not fit in {bits} bits\.$"):
        kernel_of(bits).pack(codes)
