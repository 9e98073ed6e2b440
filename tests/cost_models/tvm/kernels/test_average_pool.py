"""Average pooling equals the numpy sum bit for bit, and divides as torch does."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import sum_windows
from cost_models.tvm.kernels.average_pool import AveragePoolKernel
from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def shapes(draw: st.DrawFn) -> Convolution:
    size, kernel, stride = draw(pairs(1, 7)), draw(pairs(1, 7)), draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    ends = tuple(p + draw(st.integers(0, s - 1)) for p, s in zip(padding, stride, strict=True))
    height, width = (
        (n + p + end - k) // s + 1 for n, p, end, k, s in zip(size, padding, ends, kernel, stride, strict=True)
    )
    assume(height > 0 and width > 0)
    # torch starts no window beyond the image and its first padding
    assume((height - 1) * stride[0] < size[0] + padding[0] and (width - 1) * stride[1] < size[1] + padding[1])
    channels = draw(st.integers(1, 40))
    image = Image(*size, channels, (*padding, *ends), draw(st.integers(1, 2)))
    return Convolution(image, (height, width), channels, kernel, stride, (1, 1), padding, channels)


def divisors(shape: Convolution, counted: str) -> np.ndarray:
    """Of every window, ``[OH, OW]``, by counting ones."""
    image, (top, left) = shape.image, shape.padding
    ones = np.zeros((1, *image.stored[1:3], 1), np.int32)
    ones[:, top : top + image.height, left : left + image.width] = 1
    if counted == "padding":
        ones[:, : 2 * top + image.height, : 2 * left + image.width] = 1
    if counted == "all":
        ones[:] = 1
    return sum_windows(ones, shape.kernel, shape.stride)[0, :, :, 0]


@settings(max_examples=30)
@given(st.data(), shapes(), st.sampled_from(["all", "padding", "image"]), st.integers(0, 2**32))
def test_equals_the_integer_sum(isas, epilogues, store, check_epilogue, data, shape, counted, seed) -> None:
    image = shape.image
    out = Image(*shape.out_size, image.channels, batch=image.batch)
    isa = ISAS[data.draw(st.sampled_from(isas))]
    kernel = AveragePoolKernel(shape, data.draw(epilogues(out)), isa, counted)
    generator = np.random.default_rng(seed)
    zero_point = int(generator.integers(0, 256))
    x = generator.choice([0, 1, 77, 254, 255], (image.batch, image.height, image.width, image.channels))
    stored = store(image, x.astype(np.uint8), zero_point)
    centred = stored[..., : image.channels].astype(np.int32) - zero_point
    size = shape.kernel[0] * shape.kernel[1]
    check_epilogue(
        kernel,
        sum_windows(centred, shape.kernel, shape.stride),
        lambda outputs, _: kernel.constants(zero_point, outputs),
        generator,
        rescaled=lambda scale: scale * size / divisors(shape, counted)[..., np.newaxis],
        input=stored,
    )


@pytest.mark.parametrize(("counted", "include"), [("padding", True), ("image", False)])
@given(shapes())
def test_divisors_are_those_of_torch(counted, include, shape) -> None:
    image = shape.image
    ones = torch.ones(1, 1, image.height, image.width, dtype=torch.float64)
    average = torch.nn.AvgPool2d(shape.kernel, shape.stride, shape.padding, True, include)(ones)[0, 0].numpy()
    inside = divisors(shape, "image")
    height, width = (min(pair) for pair in zip(average.shape, inside.shape, strict=True))
    expected = inside / divisors(shape, counted)
    assert np.array_equal(average[:height, :width], expected[:height, :width])


def test_a_window_without_positions_is_refused() -> None:
    shape = Convolution(Image(2, 2, 4, (2, 0, 0, 0)), (3, 1), 4, (1, 1), padding=(2, 0), groups=4)
    with pytest.raises(ValueError, match="holds no position that counts"):
        AveragePoolKernel(shape, Epilogue(4, (Image(3, 1, 4),)), ISAS["portable"], "image")
