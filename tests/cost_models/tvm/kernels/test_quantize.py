"""Quantized inputs equal numpy's float32 division, rounded to even."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.quantize import QuantizeKernel

RINGS = st.tuples(*[st.integers(0, 2)] * 4)
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 37), st.integers(1, 9))
GRIDS = st.sampled_from([Bounds(0, 0, 255), Bounds(128, 0, 255), Bounds(255, 0, 255), Bounds(1, 0, 3)])


@settings(max_examples=25)
@given(st.data(), SIZES, GRIDS, st.sampled_from(["NCHW", "NHWC"]), st.integers(1, 2), st.integers(0, 2**32))
def test_equals_rounded_division(isas, store, run, data, size, bounds, layout, batch, seed) -> None:
    generator = np.random.default_rng(seed)
    scale = float(generator.choice([0.5, generator.uniform(1e-3, 1)]))  # halves make ties
    x = generator.normal(0, 100 * scale, (batch, *size)).astype(np.float32)
    x = np.where(generator.random(x.shape) < 0.3, np.round(x * 4) / 4, x).astype(np.float32)
    x.flat[:3] = [1e30, -1e30, np.inf][: x.size]
    image = Image(*size, data.draw(RINGS), batch)
    kernel = QuantizeKernel(image, layout, ISAS[data.draw(st.sampled_from(isas))])
    source = x.transpose(0, 3, 1, 2) if layout == "NCHW" else x
    result = run(kernel, input=np.ascontiguousarray(source), **kernel.constants(scale, bounds))["output"]
    expected = bounds.saturate(np.rint(x / np.float32(scale)))
    stored = result.reshape(image.stored)[..., : size[2]]
    assert np.array_equal(stored, store(image, expected, bounds.zero_point)[..., : size[2]])
