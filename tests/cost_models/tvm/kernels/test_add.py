"""Sums of two stored tensors equal numpy's bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.kernels.add import AddKernel
from cost_models.tvm.kernels.epilogue import Epilogue, Residual
from cost_models.tvm.kernels.isa import ISAS

SIZES = st.builds(Image, st.integers(1, 4), st.integers(1, 5), st.integers(1, 40), batch=st.integers(1, 2))


@settings(max_examples=30)
@given(st.data(), SIZES, st.integers(0, 2**32))
def test_equals_the_integer_sum(isas, epilogues, store, check_epilogue, data, size, seed) -> None:
    ring = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    image = Image(size.height, size.width, size.channels, ring, size.batch)
    kernel = AddKernel(image, data.draw(epilogues(size, residual=True)), ISAS[data.draw(st.sampled_from(isas))])
    generator = np.random.default_rng(seed)
    left = generator.choice([0, 1, 77, 254, 255], (size.batch, size.height, size.width, size.channels)).astype(np.uint8)
    zero_point, right_zero_point = (int(value) for value in generator.choice([0, 1, 128, 255], 2))
    check_epilogue(
        kernel,
        left.astype(np.int32) - zero_point,
        lambda outputs, _: kernel.constants(zero_point, right_zero_point, outputs),
        generator,
        residual=Residual(right_zero_point, np.ones(size.channels), Bounds(zero_point, 0, 255)),
        input=store(image, left, zero_point),
    )


def test_a_sum_of_one_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="has its right operand as residual; got none"):
        AddKernel(Image(2, 2, 4), Epilogue(4, (Image(2, 2, 4),)), ISAS["portable"])
