"""Copied bytes are those of numpy's slices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.copying import CopiedPart, CopyKernel

ZERO_POINT = 7
RINGS = st.tuples(*[st.integers(0, 2)] * 4)


@st.composite
def copies(draw: st.DrawFn) -> CopyKernel:
    height, width, batch = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    parts, filled = [], 0
    for _ in range(draw(st.integers(1, 3))):
        stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        ring = draw(RINGS)
        row, column = draw(st.integers(-ring[0], 1)), draw(st.integers(-ring[1], 1))
        last_row, last_column = row + (height - 1) * stride[0], column + (width - 1) * stride[1]
        size = max(1, last_row + 1 - ring[2]), max(1, last_column + 1 - ring[3])
        channel, channels, after = draw(st.integers(0, 5)), draw(st.integers(1, 90)), draw(st.integers(0, 5))
        filled += draw(st.integers(0, 9))
        image = Image(*size, channel + channels + after, ring, batch)
        parts.append(CopiedPart(image, row, column, stride, channel, channels, filled))
        filled += channels
    target = Image(height, width, filled + draw(st.integers(0, 5)), draw(RINGS), batch)
    return CopyKernel(tuple(draw(st.permutations(parts))), target)


@settings(max_examples=30)
@given(copies(), st.integers(0, 2**32))
def test_parts_are_slices(store, run, kernel, seed) -> None:
    generator = np.random.default_rng(seed)
    target = kernel.image
    expected = np.full((target.batch, target.height, target.width, target.channels), ZERO_POINT, np.uint8)
    stored = {}
    for i, part in enumerate(kernel.parts):
        image = part.image
        x = generator.integers(0, 256, (image.batch, image.height, image.width, image.channels)).astype(np.uint8)
        stored[f"source_{i}"] = source = store(image, x, ZERO_POINT)
        rows = source[:, part.row + image.ring[0] :: part.stride[0], part.column + image.ring[1] :: part.stride[1]]
        taken = rows[:, : target.height, : target.width, part.channel : part.channel + part.channels]
        expected[..., part.output_channel : part.output_channel + part.channels] = taken
    result = run(kernel, **stored, **kernel.constants(ZERO_POINT))["output"].reshape(target.stored)
    assert np.array_equal(result[..., : target.channels], store(target, expected, ZERO_POINT)[..., : target.channels])
