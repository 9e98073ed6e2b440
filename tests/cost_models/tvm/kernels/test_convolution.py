"""Convolution kernels equal the numpy convolution bit for bit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, convolve, requantize
from cost_models.tvm.kernels.convolution import ConvolutionKernel
from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling
from cost_models.tvm.kernels.weights import CODEBOOK_BITS, PLANES, WeightStorage
from cost_models.tvm.tilings import convolution_tilings

STORAGES = [WeightStorage(bits) for bits in PLANES] + [WeightStorage(bits, "codebook") for bits in CODEBOOK_BITS]
BYTES = WeightStorage(8)

tilings = st.builds(
    Tiling, st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), order=st.sampled_from(["channels", "pixels"])
)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def shapes(draw: st.DrawFn, channels: st.SearchStrategy[tuple[int, int, int]]) -> Convolution:
    """Shapes of any geometry; ``channels`` are (groups, inputs per group, outputs per group)."""
    size, kernel, stride, dilation = draw(pairs(1, 8)), draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 2))
    before, after = draw(pairs(0, 2)), draw(pairs(0, 2))
    padding = tuple(ring - draw(st.integers(0, ring)) for ring in before)
    height, width = (
        (p + n + end - (k - 1) * d - 1) // s + 1
        for p, n, end, k, s, d in zip(padding, size, after, kernel, stride, dilation, strict=True)
    )
    assume(height > 0 and width > 0)
    groups, inputs, outputs = draw(channels)
    image = Image(*size, groups * inputs, (*before, *after), draw(st.integers(1, 2)))
    top_left = (padding[0], padding[1])
    return Convolution(image, (height, width), groups * outputs, kernel, stride, dilation, top_left, groups)


any_channels = st.one_of(
    st.tuples(st.just(1), st.integers(1, 40), st.integers(1, 70)),
    st.tuples(st.integers(2, 9), st.integers(1, 12), st.integers(1, 20)),
    st.tuples(st.integers(2, 40), st.just(1), st.just(1)),
)
filled_channels = st.tuples(st.integers(1, 2), st.sampled_from([32, 64]), st.integers(1, 40))
"""Input channels that fill whole steps of every storage."""


@dataclass(frozen=True)
class Weights:
    """``codes`` as a storage packs them and the int8 ``values`` that they mean, ``[O, kh, kw, C / groups]``."""

    codes: np.ndarray
    values: np.ndarray
    levels: np.ndarray


def random_weights(generator: np.random.Generator, shape: Convolution, storage: WeightStorage) -> Weights:
    size = (shape.out_channels, *shape.kernel, shape.image.channels // shape.groups)
    levels = generator.integers(-128, 128, 2**storage.bits).astype(np.int8)
    if storage.format == "codebook":
        codes = generator.integers(0, 2**storage.bits, size).astype(np.int8)
        return Weights(codes, levels[codes], levels)
    half = 2 ** (storage.bits - 1)
    codes = generator.integers(-half, half, size).astype(np.int8)
    if storage.bits == 1:
        codes = np.where(codes < 0, -1, 1).astype(np.int8)
    return Weights(codes, codes, levels)


def arguments(kernel: ConvolutionKernel, weights: Weights) -> dict[str, np.ndarray]:
    table = {"table": kernel.pack_table(weights.levels)} if kernel.storage.format == "codebook" else {}
    return {"weights": kernel.pack(weights.codes), **table}


@pytest.fixture(scope="session")
def check(store, check_epilogue):
    """Compares a kernel with numpy, for given weights and activations; both random if not given."""

    def run(kernel: ConvolutionKernel, generator: np.random.Generator, weights=None, activation=None) -> None:
        shape, image = kernel.shape, kernel.shape.image
        weights = weights or random_weights(generator, shape, kernel.storage)
        zero_point = int(generator.integers(0, 256))
        bias = generator.integers(-1000, 1000, shape.out_channels)
        bias -= zero_point * weights.values.sum((1, 2, 3), dtype=np.int64)
        size = (image.batch, image.height, image.width, image.channels)
        x = generator.integers(0, 256, size) if activation is None else np.full(size, activation)
        stored = store(image, x.astype(np.uint8), zero_point)
        first = [ring - padding for ring, padding in zip(image.ring[:2], shape.padding, strict=True)]
        accumulator = convolve(
            stored[:, first[0] :, first[1] :, : image.channels],
            weights.values,
            bias.astype(np.int32),
            stride=shape.stride,
            dilation=shape.dilation,
            groups=shape.groups,
        )
        check_epilogue(
            kernel,
            accumulator,
            lambda *values: {"parameters": kernel.epilogue.pack(bias, *values, kernel.alignment)},
            generator,
            input=stored,
            **arguments(kernel, weights),
        )

    return run


@settings(max_examples=30)
@given(st.data(), shapes(any_channels), tilings, st.integers(0, 2**32))
def test_bytes_equal_the_integer_convolution(isas, epilogues, check, data, shape, tiling, seed) -> None:
    out = Image(*shape.out_size, shape.out_channels, batch=shape.image.batch)
    epilogue = data.draw(epilogues(out, data.draw(st.booleans())))
    isa = ISAS[data.draw(st.sampled_from(isas))]
    check(ConvolutionKernel(shape, BYTES, epilogue, isa, tiling), np.random.default_rng(seed))


@settings(max_examples=30)
@given(st.data(), shapes(filled_channels), st.sampled_from(STORAGES), tilings, st.integers(0, 2**32))
def test_packed_weights_equal_the_integer_convolution(
    isas, epilogues, check, data, shape, storage, tiling, seed
) -> None:
    out = Image(*shape.out_size, shape.out_channels, batch=shape.image.batch)
    epilogue = data.draw(epilogues(out))
    isa = ISAS[data.draw(st.sampled_from(isas))]
    in_place = storage.shares > 1 and data.draw(st.booleans())
    kernel = ConvolutionKernel(shape, storage, epilogue, isa, replace(tiling, in_place=in_place))
    check(kernel, np.random.default_rng(seed))


@pytest.mark.parametrize(("bits", "in_place"), [(8, False), (4, False), (4, True), (2, False), (2, True)])
def test_the_largest_sums_are_exact(isas, check, bits, in_place) -> None:
    ends = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    shape = Convolution(Image(3, 5, 512), (1, 3), 20, (3, 3))
    epilogue = Epilogue(20, (Image(1, 3, 20),), dtype="int32")
    tiling = Tiling(1, 3, 2, unroll=2, in_place=in_place)
    codes = np.resize(np.array(ends, np.int8)[:, None], (20, 512)).repeat(9).reshape(20, 3, 3, 512)
    for isa in isas:
        kernel = ConvolutionKernel(shape, WeightStorage(bits), epilogue, ISAS[isa], tiling)
        check(kernel, np.random.default_rng(0), Weights(codes, codes, codes), activation=255)


def test_sums_that_could_overflow_when_shifted_are_not_unpacked_in_place() -> None:
    for inputs, allowed in ((65_792, {True, False}), (65_796, {False})):
        shape = Convolution(Image(1, 1, inputs), (1, 1), 16)
        tilings = convolution_tilings(shape, WeightStorage(4, "uniform"), ISAS["avx512_vnni"], limit=100)
        assert {tiling.in_place for tiling in tilings} == allowed


@pytest.mark.parametrize(
    ("isa", "options"),
    [
        ("portable", {"mcpu": "cortex-a53", "cpu": "cortex-a53"}),
        ("dotprod", {"mcpu": "cortex-a76", "cpu": "cortex-a76"}),
        ("i8mm", {"mcpu": "neoverse-n1", "mattr": ("+i8mm",)}),
    ],
)
@pytest.mark.parametrize(
    ("storage", "in_place"),
    [(WeightStorage(3), False), (WeightStorage(2), True), (WeightStorage(2, "codebook"), False)],
)
def test_packed_weights_are_exact_on_arm(run_emulated, store, isa, options, storage, in_place) -> None:
    image, out = Image(4, 5, 32, ring=(1, 1, 1, 1)), Image(4, 5, 20)
    shape = Convolution(image, (4, 5), 20, (3, 3), padding=(1, 1))
    kernel = ConvolutionKernel(shape, storage, Epilogue(20, (out,)), ISAS[isa], Tiling(1, 3, 2, in_place=in_place))
    generator = np.random.default_rng(0)
    weights = random_weights(generator, shape, storage)
    stored = store(image, generator.integers(0, 256, (1, 4, 5, 32)).astype(np.uint8), 3)
    accumulator = convolve(stored, weights.values, np.zeros(20, np.int32))
    output = Output(generator.uniform(50, 100, 20) / np.abs(accumulator).max(), Bounds(100, 0, 255))
    offset = kernel.activation_offset * weights.values.sum((1, 2, 3), dtype=np.int64)
    given = {
        "input": stored,
        "parameters": kernel.epilogue.pack(offset, [output], None, kernel.alignment),
        **arguments(kernel, weights),
    }
    arrays = [given.get(name, np.zeros(size, dtype)) for name, dtype, size in kernel.pointers()]
    result = run_emulated("aarch64", kernel.build("kernel"), arrays, **options)[-1].reshape(out.stored)
    assert np.array_equal(result, output.bounds.saturate(requantize(accumulator, output.scale, "float32")))


def kernel_of(storage: WeightStorage, channels: int = 32, groups: int = 1, **knobs) -> ConvolutionKernel:
    shape = Convolution(Image(4, 4, channels), (4, 4), 6, groups=groups)
    return ConvolutionKernel(shape, storage, Epilogue(6, (Image(4, 4, 6),)), ISAS["portable"], Tiling(**knobs))


@pytest.mark.parametrize(
    ("storage", "options", "message"),
    [
        (
            WeightStorage(4),
            {"channels": 12},
            r"^Runs of 12 weights do not hold whole steps of 8 packed in 4 bits; store",
        ),
        (WeightStorage(3), {"channels": 16}, r"^Runs of 16 weights do not hold whole steps of 32 packed in 3 bits"),
        (
            WeightStorage(1),
            {"channels": 31},
            r"^WeightStorage\(bits=1, .*\) has no zero to fill up groups of 4 channels",
        ),
        (WeightStorage(4, "codebook"), {"channels": 30}, r"format='codebook'\) has no zero to fill up groups"),
        (WeightStorage(1), {"channels": 96, "groups": 6, "unroll": 3}, r"^Runs of 16 weights do not hold whole steps"),
        (BYTES, {"unroll": 3}, r"^unroll=3 does not divide the 8 steps of a run"),
        (BYTES, {"in_place": True}, r"^in_place needs uniform weights of 2 or 4 bits, not WeightStorage\(bits=8"),
    ],
)
def test_what_it_does_not_compute_is_refused(storage, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_of(storage, **options)


@pytest.mark.parametrize(
    ("storage", "code"),
    [
        (WeightStorage(1), 0),
        (WeightStorage(2), 2),
        (WeightStorage(5), -17),
        (WeightStorage(2, "codebook"), 4),
        (WeightStorage(4, "codebook"), -1),
    ],
)
def test_codes_that_do_not_fit_are_refused(storage, code) -> None:
    codes = np.full((6, 1, 1, 32), 1, np.int8)
    codes[3, 0, 0, 5] = code
    with pytest.raises(
        ValueError, match=rf"^Weight codes \[{code}\] do not fit in {storage.bits} bits \({storage.format}\)"
    ):
        kernel_of(storage).pack(codes)


@pytest.mark.parametrize(("bits", "format"), [(9, "uniform"), (0, "uniform"), (5, "codebook")])
def test_unknown_storage_is_refused(bits, format) -> None:
    with pytest.raises(ValueError, match=rf"^No kernel stores {format} weights in {bits} bits; there are \["):
        WeightStorage(bits, format)


def test_a_bias_that_overflows_once_aligned_is_refused() -> None:
    kernel, output = kernel_of(WeightStorage(2)), Output(np.ones(6), Bounds(0, 0, 255))
    assert kernel.alignment == 6
    kernel.epilogue.pack(np.full(6, -(2**25)), [output], None, kernel.alignment)
    with pytest.raises(OverflowError, match=r"^An accumulator of 2147483648 does not fit in int32\.$"):
        kernel.epilogue.pack(np.full(6, 2**25), [output], None, kernel.alignment)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 4}, r"^groups=4 divides neither in_channels=8 nor out_channels=6"),
        ({"out_size": (4, 5)}, r"^The ring \(1, 1, 0, 0\) does not hold the padding of Convolution\("),
        ({"padding": (2, 0)}, r"^The ring \(1, 1, 0, 0\) does not hold"),
        ({"kernel": (3, 3), "padding": (1, 1)}, r"^The ring \(1, 1, 0, 0\) does not hold"),
    ],
)
def test_shapes_that_read_beyond_the_ring_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Convolution(Image(4, 4, 8, ring=(1, 1, 0, 0)), **{"out_size": (4, 4), "out_channels": 6, **options})
