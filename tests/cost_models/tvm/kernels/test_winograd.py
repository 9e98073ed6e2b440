"""Winograd kernels equal the numpy convolution bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, convolve, requantize
from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.winograd import MOST_CHANNELS, WinogradKernel, WinogradTiling
from cost_models.tvm.tilings import winograd_tilings


def square(channels: int, size: int = 4, out_channels: int = 16, **fields) -> Convolution:
    image = Image(size, size, channels, ring=(1, 1, 1, 1))
    usual = {"out_size": (size, size), "kernel": (3, 3), "padding": (1, 1)}
    return Convolution(image, out_channels=out_channels, **usual | fields)


def kernel_of(shape: Convolution, isa: str = "portable", **knobs) -> WinogradKernel:
    epilogue = Epilogue(shape.out_channels, (Image(*shape.out_size, shape.out_channels),))
    return WinogradKernel(shape, epilogue, ISAS[isa], WinogradTiling(**knobs))


@st.composite
def shapes(draw: st.DrawFn) -> Convolution:
    out_size = 4 * draw(st.integers(1, 3)), 4 * draw(st.integers(1, 3))
    before, after = draw(st.tuples(*[st.integers(0, 2)] * 2)), draw(st.tuples(*[st.integers(0, 2)] * 2))
    padding = tuple(draw(st.integers(0, ring)) for ring in before)
    sizes = (out + 2 - p for out, p in zip(out_size, padding, strict=True))
    height, width = (size - draw(st.integers(0, end)) for size, end in zip(sizes, after, strict=True))
    image = Image(height, width, draw(st.integers(1, 70)), (*before, *after), draw(st.integers(1, 2)))
    return Convolution(image, out_size, draw(st.integers(1, 70)), (3, 3), padding=(padding[0], padding[1]))


@settings(max_examples=12)
@given(st.data(), shapes(), st.integers(0, 2**32), st.sampled_from(["random", "largest", "smallest"]))
def test_equals_the_integer_convolution(isas, epilogues, store, check_epilogue, data, shape, seed, values) -> None:
    image = shape.image
    out = Image(*shape.out_size, shape.out_channels, batch=image.batch)
    epilogue = data.draw(epilogues(out, data.draw(st.booleans())))
    tiling = WinogradTiling(*data.draw(st.tuples(*[st.integers(1, 3)] * 3)))
    kernel = WinogradKernel(shape, epilogue, ISAS[data.draw(st.sampled_from(isas))], tiling)
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (image.batch, image.height, image.width, image.channels)).astype(np.uint8)
    weights = generator.integers(-128, 128, (shape.out_channels, 3, 3, image.channels)).astype(np.int8)
    if values != "random":
        x = generator.choice(np.array([0, 255], np.uint8), x.shape)
        weights = np.full_like(weights, 127 if values == "largest" else -128)
    zero_point = int(generator.integers(0, 256))
    bias = generator.integers(-1000, 1000, shape.out_channels) - zero_point * weights.sum((1, 2, 3), dtype=np.int64)

    stored = store(image, x, zero_point)
    first = [ring - padding for ring, padding in zip(image.ring[:2], shape.padding, strict=True)]
    height, width = shape.out_size
    read = stored[:, first[0] : first[0] + height + 2, first[1] : first[1] + width + 2, : image.channels]
    offset = kernel.activation_offset * weights.sum((1, 2, 3), dtype=np.int64)
    check_epilogue(
        kernel,
        convolve(read, weights, bias.astype(np.int32)),
        lambda *values: {"parameters": epilogue.pack(bias + offset, *values)},
        generator,
        input=stored,
        weights=kernel.pack(weights),
    )


@pytest.mark.parametrize("code", [-128, 127])
@pytest.mark.parametrize("pixels", ["0", "255", "worst"])
def test_the_largest_sums_are_exact(isas, run, code, pixels) -> None:
    shape = square(MOST_CHANNELS)
    weights = np.full((16, 3, 3, MOST_CHANNELS), code, np.int8)
    # of the six inputs in a row, those that the first row of the transform counts positively
    worst = np.outer([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]) + np.outer([0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0])
    image = {"0": np.zeros((6, 6)), "255": np.full((6, 6), 255), "worst": 255 * worst}[pixels]
    x = np.broadcast_to(image[None, :, :, None], shape.image.stored).astype(np.uint8)
    expected = convolve(x[..., :MOST_CHANNELS], weights, np.zeros(16, np.int32))
    whole = Epilogue(16, (Image(4, 4, 16),), None, "fixed_point", "int32")
    for isa in isas:
        kernel = WinogradKernel(shape, whole, ISAS[isa])
        offset = kernel.activation_offset * weights.sum((1, 2, 3), dtype=np.int64)
        parameters = whole.pack(offset, [Output(np.ones(16), None)])
        result = run(kernel, input=x, weights=kernel.pack(weights), parameters=parameters)["output_0"]
        assert np.array_equal(result, expected.ravel())


def test_every_tiling_gives_the_same(isas, run) -> None:
    shape = square(6, 12, 34)
    generator = np.random.default_rng(0)
    weights = generator.integers(-128, 128, (34, 3, 3, 6)).astype(np.int8)
    x = generator.integers(0, 256, shape.image.stored).astype(np.uint8)
    kernels = [
        kernel_of(shape, isa, rows=rows, tiles=tiles, blocks=blocks)
        for isa, rows, tiles, blocks in [
            (isas[-1], 1, 4, 1),
            (isas[-1], 3, 2, 2),
            (isas[-1], 5, 4, 3),
            (isas[0], 2, 1, 5),
        ]
    ]
    bias = kernels[0].activation_offset * weights.sum((1, 2, 3), dtype=np.int64)
    parameters = kernels[0].epilogue.pack(bias, [Output(np.full(34, 1e-3), Bounds(100, 0, 255))])
    results = [run(k, input=x, weights=k.pack(weights), parameters=parameters)["output_0"] for k in kernels]
    meant = [result.reshape(-1, 36)[:, :34] for result in results]
    assert len(np.unique(meant[0])) > 10
    for other in meant[1:]:
        assert np.array_equal(other, meant[0])


@pytest.mark.parametrize("machine", ["aarch64", "riscv64", "cortex_m"])
def test_the_portable_kernel_is_exact_on_other_machines(run_emulated, machine) -> None:
    kernel = kernel_of(square(6))
    generator = np.random.default_rng(0)
    weights = generator.integers(-128, 128, (16, 3, 3, 6)).astype(np.int8)
    x = generator.integers(0, 256, kernel.shape.image.stored).astype(np.uint8)
    output = Output(np.full(16, 1e-3), Bounds(100, 0, 255))
    given = {
        "input": x,
        "weights": kernel.pack(weights),
        "parameters": kernel.epilogue.pack(kernel.activation_offset * weights.sum((1, 2, 3), dtype=np.int64), [output]),
    }
    arrays = [given.get(name, np.zeros(size, dtype)) for name, dtype, size in kernel.pointers()]
    result = run_emulated(machine, kernel.build("kernel"), arrays)[-1]
    accumulator = convolve(x[..., :6], weights, np.zeros(16, np.int32))
    assert np.array_equal(result, output.bounds.saturate(requantize(accumulator, output.scale, "float32")).ravel())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            square(8, stride=(2, 2), out_size=(2, 2)),
            "^The Winograd kernel computes ungrouped 3x3 convolutions of stride 1",
        ),
        (square(8, groups=2), "ungrouped 3x3"),
        (square(8, 6), r"outputs whose sides are multiples of 4, not \(6, 6\)"),
        (square(MOST_CHANNELS + 1), r"sums are exact for at most 227 input channels, not 228\.$"),
    ],
)
def test_what_it_does_not_compute_is_refused(shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_of(shape)


def test_every_sum_fits_where_channels_are_fewest_enough() -> None:
    assert 9 * MOST_CHANNELS * 128 * 128 < 2**25 <= 9 * (MOST_CHANNELS + 1) * 128 * 128


@pytest.mark.parametrize("isa", [isa for isa in ISAS.values() if isa.multiplies_pairs], ids=lambda isa: isa.name)
def test_tilings_fit_the_registers(isa) -> None:
    tilings = winograd_tilings(square(64, 56, 64), isa, limit=6)
    assert tilings
    assert all(6 * tiling.tiles * tiling.blocks + tiling.blocks <= isa.registers for tiling in tilings)
