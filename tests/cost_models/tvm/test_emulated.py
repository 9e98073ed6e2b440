"""Kernels cross-compiled for Arm and RISC-V and run under emulation."""

import numpy as np
import pytest

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds, convolve, requantize
from cost_models.tvm.kernels.convolution import ConvolutionKernel
from cost_models.tvm.kernels.depthwise import DepthwiseKernel
from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.isa import ISAS
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling
from cost_models.tvm.kernels.weights import WeightStorage
from cost_models.tvm.reference import SHIFTS, STEPS, reference_kernel, seeds


@pytest.mark.parametrize(
    "options",
    [
        {"mcpu": "cortex-a53", "cpu": "cortex-a53"},
        {"mcpu": "cortex-a76", "cpu": "cortex-a76"},
        {"mcpu": "neoverse-n2", "mattr": ("+i8mm",)},
    ],
)
def test_a_kernel_computes_the_same_on_every_arm_cpu(run_emulated, dot, options) -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, 300, dtype=np.uint8)
    w = generator.integers(-128, 128, (7, 300), dtype=np.int8)
    same_a, same_w, out = run_emulated("aarch64", dot(7, 300), [a, w, np.zeros(7, np.int32)], **options)
    assert np.array_equal(same_a, a)
    assert np.array_equal(same_w, w)
    assert np.array_equal(out, w.astype(np.int32) @ a)


def test_vectors_wider_than_the_cpus_are_split(run_emulated) -> None:
    expected = seeds()
    for _ in range(STEPS):
        for shift in SHIFTS:
            expected ^= expected << np.uint32(shift) if shift > 0 else expected >> np.uint32(-shift)
    (state,) = run_emulated("aarch64", reference_kernel(), [seeds()])
    assert np.array_equal(state, expected)


def test_an_instruction_that_the_cpu_lacks_is_noticed(run_emulated, dot) -> None:
    arrays = [np.zeros(300, np.uint8), np.zeros((7, 300), np.int8), np.zeros(7, np.int32)]
    with pytest.raises(RuntimeError, match="qemu-aarch64 ended with"):
        run_emulated("aarch64", dot(7, 300), arrays, mcpu="neoverse-n2", cpu="cortex-a53")


def test_wrong_arguments_are_reported(run_emulated, dot) -> None:
    arrays = [np.zeros(301, np.uint8), np.zeros((7, 300), np.int8), np.zeros(7, np.int32)]
    with pytest.raises(RuntimeError, match=r"ended with 1: .*a\.shape\[0\]"):
        run_emulated("aarch64", dot(7, 300), arrays)


@pytest.mark.parametrize(
    ("machine", "isa", "options"),
    [
        ("aarch64", "portable", {"mcpu": "cortex-a53", "cpu": "cortex-a53"}),
        ("aarch64", "dotprod", {"mcpu": "cortex-a76", "cpu": "cortex-a76"}),
        ("aarch64", "i8mm", {"mcpu": "neoverse-n1", "mattr": ("+i8mm",)}),
        ("riscv64", "portable", {}),
        ("cortex_m", "portable", {}),
    ],
)
@pytest.mark.parametrize("requantization", ["float32", "fixed_point"])
@pytest.mark.parametrize(("groups", "bits"), [(1, 8), (1, 4), (24, 8)])
def test_convolutions_are_exact(run_emulated, machine, isa, options, requantization, groups, bits) -> None:
    channels = 24
    out_channels = channels if groups > 1 else 20
    image, out = Image(5, 6, channels, ring=(1, 1, 1, 1)), Image(5, 6, out_channels)
    shape = Convolution(image, (5, 6), out_channels, (3, 3), padding=(1, 1), groups=groups)
    epilogue = Epilogue(out_channels, (out,), requantization=requantization)
    if groups > 1:
        kernel = DepthwiseKernel(shape, epilogue, ISAS[isa])
    else:
        kernel = ConvolutionKernel(
            shape=shape, storage=WeightStorage(bits), epilogue=epilogue, isa=ISAS[isa], tiling=Tiling()
        )
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, image.stored, np.uint8)
    codes = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (out_channels, 3, 3, channels // groups), np.int8)
    bias = generator.integers(-1000, 1000, out_channels).astype(np.int32)
    accumulator = convolve(x, codes, bias, groups=groups)
    output = Output(generator.uniform(50, 100, out_channels) / np.abs(accumulator).max(), Bounds(100, 0, 255))

    offset = kernel.activation_offset * codes.sum((1, 2, 3), dtype=np.int64)
    given = {
        "input": x,
        "weights": kernel.pack(codes),
        "parameters": epilogue.pack(bias + offset, [output], None, kernel.alignment),
    }
    arrays = [given.get(name, np.zeros(size, dtype)) for name, dtype, size in kernel.pointers()]
    result = run_emulated(machine, kernel.build("kernel"), arrays, **options)[-1].reshape(out.stored)
    expected = output.bounds.saturate(requantize(accumulator, output.scale, requantization))
    assert np.array_equal(result[..., :out_channels], expected)
