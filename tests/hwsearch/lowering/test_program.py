"""Which kernels an integer network calls."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.operators import operator_kernel
from cost_models.tvm.runner import LocalRunner
from cost_models.tvm.tuner import isa_of
from cost_models.tvm.untuned import untuned
from cost_models.tvm.variants import candidates, variants
from hwsearch.lowering import IntegerNetwork, input_codes, run
from hwsearch.lowering.compiled import compile_network
from hwsearch.lowering.integer_network import Convolution, Output
from hwsearch.lowering.integer_network import Tensor as StoredTensor
from hwsearch.lowering.program import program
from hwsearch.lowering.window import Window

RUNNER = LocalRunner.host()
ISA = isa_of(RUNNER.target)


class Preactivation(nn.Module):
    """A batch norm that no layer takes in: another one reads what is before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1).mean((2, 3))


def test_the_kernel_of_a_batch_norm_is_the_one_that_is_priced(calibrated):
    quantized = calibrated(Preactivation(), torch.randn(8, 3, 8, 9))
    (norm,) = (operator for operator in quantized.network.spec.operators if operator.op == "batch_norm")
    calls = program(quantized.lower(), "float32", untuned(RUNNER.target), ISA).calls
    assert operator_kernel(norm, 1, "float32", ISA) in [call.kernel for call in calls]


def test_rings_take_part_in_the_bits_that_a_kernel_computes_with():
    """After a clamp below 0, the zero point that padding holds may be wider than any code: here 2, and 0 or 1."""

    def bit_serial(shape, epilogue, precision):
        every = [v for v in variants(shape, epilogue, ISA) if v.method == "bit_serial" and v.computes(precision)]
        return candidates(min(every), shape, epilogue, ISA, 1)[0]

    generator = np.random.default_rng(0)
    weight = generator.integers(-2, 2, (16, 3, 3, 32)).astype(np.int8)
    tensors = {
        "x": StoredTensor(Image(1, 1, 32, ring=(1, 1, 1, 1)), 1.0, Bounds(2, 0, 1)),
        "logits": StoredTensor(Image(1, 1, 16), 1.0, None),
    }
    bias = (-2 * weight.sum((1, 2, 3))).astype(np.int32)
    window, outputs = Window((3, 3), (1, 1), (1, 1)), (Output("logits", np.ones(16)),)
    network = IntegerNetwork((Convolution("conv", "x", weight, bias, 2, outputs, window),), tensors, ("x",), "logits")
    images = generator.integers(-2, 0, (4, 32, 1, 1)).astype(np.float32)
    codes = input_codes(network, images)
    found = compile_network(network, "fixed_point", bit_serial, RUNNER).loaded()(codes)
    np.testing.assert_array_equal(found, images[:, :, 0, 0] @ weight[:, 1, 1].T)  # padding means 0
    np.testing.assert_array_equal(found, run(network, codes, "fixed_point"))
