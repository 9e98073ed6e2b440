"""Products of two stored tensors equal numpy's bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.multiply import MultiplyKernel

SIZES = st.builds(Image, st.integers(1, 4), st.integers(1, 5), st.integers(1, 40), batch=st.integers(1, 2))
RINGS = st.tuples(*[st.integers(0, 2)] * 4)


@settings(max_examples=30)
@given(st.data(), SIZES, st.booleans(), st.integers(0, 2**32))
def test_equals_the_integer_product(isas, epilogues, store, check_epilogue, data, size, single, seed) -> None:
    left = Image(size.height, size.width, size.channels, data.draw(RINGS), size.batch)
    right_size = (1, 1) if single else (size.height, size.width)
    right = Image(*right_size, size.channels, data.draw(RINGS), size.batch)
    kernel = MultiplyKernel(left, right, data.draw(epilogues(size)), ISAS[data.draw(st.sampled_from(isas))])
    generator = np.random.default_rng(seed)
    a, b = (
        generator.choice([0, 1, 77, 254, 255], (size.batch, image.height, image.width, size.channels)).astype(np.uint8)
        for image in (left, right)
    )
    zero_points = tuple(int(value) for value in generator.choice([0, 1, 128, 255], 2))
    check_epilogue(
        kernel,
        (a.astype(np.int32) - zero_points[0]) * (b.astype(np.int32) - zero_points[1]),
        lambda outputs, _: kernel.constants(zero_points, outputs),
        generator,
        left=store(left, a, zero_points[0]),
        right=store(right, b, zero_points[1]),
    )


def test_an_operand_of_another_size_is_refused() -> None:
    image = Image(4, 4, 8)
    with pytest.raises(ValueError, match=r"\(4x4 pixels, 8 channels\) or 1x1; got 4x1 and 8 channels"):
        MultiplyKernel(image, Image(4, 1, 8), Epilogue(8, (image,)), ISAS["portable"])
