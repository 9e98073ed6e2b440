"""Max pooling equals torch's."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.max_pool import MaxPoolKernel

RINGS = st.tuples(*[st.integers(0, 2)] * 4)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=25)
@given(st.data(), pairs(1, 9), pairs(1, 7), pairs(1, 3), st.integers(1, 150), st.booleans(), st.integers(0, 2**32))
def test_equals_torch(isas, store, run, data, size, kernel, stride, channels, ceil_mode, seed) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (2, *size, channels)).astype(np.uint8)
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    assume(all(n + 2 * p >= k for n, k, p in zip(size, kernel, padding, strict=True)))
    pool = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    expected = pool(torch.from_numpy(x).permute(0, 3, 1, 2).float()).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    image = Image(*size, channels, data.draw(RINGS), 2)
    output = Image(*expected.shape[1:], data.draw(RINGS), 2)
    subject = MaxPoolKernel(image, output, kernel, stride, padding, ISAS[data.draw(st.sampled_from(isas))])
    result = run(subject, input=store(image, x, 255), **subject.constants(7))["output"].reshape(output.stored)
    assert np.array_equal(result[..., :channels], store(output, expected, 7)[..., :channels])


def test_a_window_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="lies outside the image"):
        MaxPoolKernel(Image(2, 2, 4), Image(2, 2, 4), (1, 1), (1, 1), (1, 0), ISAS["portable"])
