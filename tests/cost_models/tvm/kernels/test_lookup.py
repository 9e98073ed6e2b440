"""Looked-up bytes are those of the table."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.lookup import LookupKernel

RINGS = st.tuples(*[st.integers(0, 2)] * 4)
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 150))


@settings(max_examples=25)
@given(st.data(), SIZES, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**32))
def test_equals_the_table(isas, store, run, data, size, outputs, batch, seed) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (batch, *size)).astype(np.uint8)
    tables = generator.integers(0, 256, (outputs, 256)).astype(np.uint8)
    zero_points = [int(value) for value in generator.integers(0, 256, outputs)]
    image = Image(*size, data.draw(RINGS), batch)
    images = tuple(Image(*size, data.draw(RINGS), batch) for _ in range(outputs))
    kernel = LookupKernel(image, images, ISAS[data.draw(st.sampled_from(isas))])
    results = run(kernel, input=store(image, x, 0), **kernel.constants(tables, zero_points))
    for i, (out, table, zero_point) in enumerate(zip(images, tables, zero_points, strict=True)):
        stored = results[f"output_{i}"].reshape(out.stored)[..., : size[2]]
        assert np.array_equal(stored, store(out, table[x], zero_point)[..., : size[2]])
