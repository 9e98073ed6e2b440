from math import ceil

import pytest
import torch
from torch import nn

from hwsearch.networks.same_padding import SameConvNorm, SamePad, same_conv, same_padding


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 10])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_is_the_least_that_gives_ceil_of_size_by_stride(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    outputs = ceil(size / stride)
    assert before <= after <= before + 1
    assert (size + before + after - kernel) // stride + 1 == outputs
    one_less = size + before + after - 1
    assert before + after == 0 or one_less < kernel or (one_less - kernel) // stride + 1 < outputs


def test_odd_padding_goes_to_bottom_and_right():
    # the stem of MLPerf Tiny's DS-CNN: 49x10 inputs, 10x4 kernel, stride 2
    assert same_padding(49, 10, 2) == (4, 5) and same_padding(10, 4, 2) == (1, 1)
    y = SamePad((3, 3), 2)(torch.ones(1, 1, 4, 4))
    assert y.shape == (1, 1, 5, 5) and torch.equal(y[0, 0, :4, :4], torch.ones(4, 4)) and y.sum() == 16


def test_symmetric_padding_is_left_to_the_convolution():
    assert [type(layer) for layer in same_conv(3, 8, (3, 3))] == [nn.Conv2d]
    assert [type(layer) for layer in same_conv(3, 8, (1, 1), 2)] == [nn.Conv2d]
    assert [type(layer) for layer in same_conv(3, 8, (3, 3), 2)] == [SamePad, nn.Conv2d]
    assert [type(layer) for layer in same_conv(3, 8, (4, 3))] == [SamePad, nn.Conv2d]


def test_padding_adds_no_keys():
    keys = {key.split(".")[0] for key in SameConvNorm(3, 8, (3, 3), 2).state_dict()}
    assert keys == {"conv", "bn"}
