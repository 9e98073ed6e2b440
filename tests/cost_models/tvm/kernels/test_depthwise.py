"""Depthwise kernels equal the numpy convolution bit for bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import convolve
from cost_models.tvm.kernels.depthwise import DepthwiseKernel, DepthwiseTiling
from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def shapes(draw: st.DrawFn) -> Convolution:
    size, kernel, stride, dilation = draw(pairs(1, 8)), draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 2))
    before, after, channels = draw(pairs(0, 2)), draw(pairs(0, 2)), draw(st.integers(1, 150))
    padding = tuple(ring - draw(st.integers(0, 2)) for ring in before)
    height, width = (
        (p + n + end - (k - 1) * d - 1) // s + 1
        for p, n, end, k, s, d in zip(padding, size, after, kernel, stride, dilation, strict=True)
    )
    assume(height > 0 and width > 0)
    image = Image(*size, channels, (*before, *after), draw(st.integers(1, 2)))
    return Convolution(image, (height, width), channels, kernel, stride, dilation, (padding[0], padding[1]), channels)


@settings(max_examples=20)
@given(st.data(), st.integers(0, 2**32), st.booleans())
def test_equals_the_integer_convolution(isas, epilogues, store, check_epilogue, data, seed, extreme) -> None:
    shape = data.draw(shapes())
    out = Image(*shape.out_size, shape.out_channels, batch=shape.image.batch)
    epilogue = data.draw(epilogues(out, data.draw(st.booleans())))
    tiling = DepthwiseTiling(*data.draw(pairs(1, 2)), data.draw(st.sampled_from(["channels", "rows"])))
    isa = ISAS[data.draw(st.sampled_from(isas))]
    generator = np.random.default_rng(seed)
    image, zero_point = shape.image, int(generator.integers(0, 256))
    x = generator.integers(0, 256, (image.batch, image.height, image.width, image.channels)).astype(np.uint8)
    codes = generator.integers(-128, 128, (image.channels, *shape.kernel, 1)).astype(np.int8)
    if extreme:
        x, codes = np.where(x < 128, 0, 255).astype(np.uint8), np.where(codes < 0, -128, 127).astype(np.int8)
    bias = generator.integers(-1000, 1000, image.channels) - zero_point * codes.sum((1, 2, 3), dtype=np.int64)

    stored = store(image, x, zero_point)
    first = [ring - padding for ring, padding in zip(image.ring[:2], shape.padding, strict=True)]
    read = stored[:, first[0] :, first[1] :, : image.channels]
    accumulator = convolve(
        read, codes, bias.astype(np.int32), stride=shape.stride, dilation=shape.dilation, groups=shape.groups
    )
    kernel = DepthwiseKernel(shape, epilogue, isa, tiling)
    check_epilogue(
        kernel,
        accumulator,
        lambda *values: {"parameters": epilogue.pack(bias, *values)},
        generator,
        input=stored,
        weights=kernel.pack(codes),
    )


def test_a_convolution_across_channels_is_refused() -> None:
    shape = Convolution(Image(4, 4, 8), (4, 4), 8, groups=4)
    with pytest.raises(ValueError, match=r"as many groups as input and output channels; got groups=4, in_channels=8"):
        DepthwiseKernel(shape, Epilogue(8, (Image(4, 4, 8),)), ISAS["portable"])
