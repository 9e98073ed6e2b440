"""Kernels chosen without timing."""

import pytest

from cost_models import LayerSpec, Precision
from cost_models.tvm.shapes import convolution
from cost_models.tvm.target import resolve
from cost_models.tvm.untuned import untuned

CPUS = {
    "vnni": {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "icelake-server"},
    "dotprod": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"},
}


def chosen(cpu: str, channels: int, bits: int, **prefer: str) -> tuple[str, int]:
    layer = LayerSpec("conv", "conv2d", channels, 16, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8))
    kernel = untuned(resolve(CPUS[cpu]), **prefer)(*convolution(layer, 1, "float32"), Precision(bits, 8))
    return type(kernel).__name__, kernel.storage.bits if hasattr(kernel, "storage") else 64


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("bits", [2, 8])
def test_the_smallest_stores_no_more_than_it_has_to(cpu, bits) -> None:
    assert chosen(cpu, 32, bits) == ("ConvolutionKernel", bits)


@pytest.mark.parametrize(
    ("cpu", "channels", "expected"),
    [
        ("vnni", 32, ("WinogradKernel", 64)),
        ("vnni", 4, ("ConvolutionKernel", 8)),
        ("dotprod", 32, ("ConvolutionKernel", 8)),
    ],
)
def test_the_fast_one_multiplies_least_and_unpacks_nothing(cpu, channels, expected) -> None:
    assert chosen(cpu, channels, 4, prefer="fast") == expected
