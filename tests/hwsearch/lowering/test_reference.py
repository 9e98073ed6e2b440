"""Execution of integer networks in numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from hwsearch.lowering import IntegerNetwork, input_codes, run
from hwsearch.lowering.integer_network import Convolution, Output, Tensor
from hwsearch.lowering.window import Window


def by_hand(scale):
    """One 2x1 convolution with padding above, of a 2x1 image of 3 channels."""
    weight = np.array([[[[1, 2, 3]], [[4, 5, 6]]]], np.int8)
    tensors = {
        "x": Tensor(Image(2, 1, 3, ring=(1, 0, 0, 0)), 0.5, Bounds(10, 0, 255)),
        "logits": Tensor(Image(2, 1, 1), 1.0, None),
    }
    bias = np.array([1 - 10 * weight.sum()], np.int32)
    conv = Convolution(
        "conv", "x", weight, bias, 8, (Output("logits", np.array([scale])),), Window((2, 1), (1, 1), (1, 0))
    )
    return IntegerNetwork((conv,), tensors, ("x",), "logits")


IMAGE = np.array([[1.0, -1.0, 0.25], [0.0, 200.0, 0.75]], np.float32)  # [pixel, channel]


def test_inputs_are_rounded_to_even_inside_a_ring_of_zero_points():
    codes = input_codes(by_hand(1.0), IMAGE.T.reshape(1, 3, 2, 1))
    assert codes["x"].tolist() == [[[[10, 10, 10, 0]], [[12, 8, 10, 0]], [[10, 255, 12, 0]]]]


def test_logits_are_sums_of_products():
    network = by_hand(1.0)
    codes = input_codes(network, IMAGE.T.reshape(1, 3, 2, 1))
    first = 1 + 4 * 2 + 5 * -2
    second = 1 + 1 * 2 + 2 * -2 + 5 * 245 + 6 * 2
    for requantization in ("float32", "fixed_point"):
        assert run(network, codes, requantization).tolist() == [[first, second]]


def test_the_two_requantizations_round_halves_in_their_own_ways():
    network = by_hand(0.5)
    codes = input_codes(network, IMAGE.T.reshape(1, 3, 2, 1))
    assert run(network, codes, "float32").tolist() == [[0, 618]]  # of -0.5 and 618
    assert run(network, codes, "fixed_point").tolist() == [[0, 618]]
    images = np.zeros((1, 3, 2, 1), np.float32)
    assert run(network, input_codes(network, images), "float32").tolist() == [[0, 0]]  # of 0.5
    assert run(network, input_codes(network, images), "fixed_point").tolist() == [[1, 1]]


@pytest.mark.parametrize("requantization", ["float32", "fixed_point"])
def test_batches_are_independent(calibrated, requantization):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5))
    quantized = calibrated(module, torch.randn(6, 3, 6, 6))
    integers = quantized.lower()
    codes = input_codes(integers, quantized.images.numpy())
    whole = run(integers, codes, requantization)
    for i in range(6):
        one = run(integers, {name: array[i : i + 1] for name, array in codes.items()}, requantization)
        np.testing.assert_array_equal(one, whole[i : i + 1])
    assert set(codes) == set(integers.inputs)  # the caller's arrays are left alone


def test_fixed_point_differs_from_float32_by_few_steps_of_a_code(calibrated):
    torch.manual_seed(0)

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv, self.fc = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 5)

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = F.relu(self.conv(x) + x) * torch.sigmoid(x)
            return self.fc(x.mean((2, 3)))

    quantized = calibrated(Branches(), torch.randn(64, 3, 8, 8))
    integers = quantized.lower()
    first, second = (quantized.logits(integers, kind) for kind in ("float32", "fixed_point"))
    assert np.std(first - second) <= 1e-3 * np.std(first)
