"""Which layers read the same stored tensor, on networks whose answer is plain from their code."""

import pytest
import torch
from torch import nn

from hwsearch.graph import capture, shared_inputs
from hwsearch.networks import DigitsResNet


class Net(nn.Module):
    """Convolutions a, b... of four channels, wired by ``wire(network, x)``."""

    def __init__(self, wire):
        super().__init__()
        for name in "abcd":
            setattr(self, name, nn.Conv2d(4 if name in "abc" else 8, 4, 3, padding=1))
        self.wire = wire

    def forward(self, x):
        return self.wire(self, x).mean((2, 3))


def chain(n, x):
    return n.c(n.b(n.a(x).relu()).relu())


def residual(n, x):
    x = n.a(x).relu()
    return n.b(x) + n.c(x)


def before_and_after_relu(n, x):
    x = n.a(x)
    return n.b(x) + n.c(x.relu())


def pooled_and_not(n, x):
    x = n.a(x).relu()
    pool = nn.functional.max_pool2d
    return pool(n.b(x), 2) + n.c(pool(x, 2))


def concatenated(n, x):
    first, second = n.a(x).relu(), n.b(x).relu()
    return n.d(torch.cat([first, second], 1)) + n.c(second)


def sum_of_both(n, x):
    return n.c(n.a(x) + n.b(x).relu())


@pytest.mark.parametrize(
    ("wire", "groups"),
    [
        (chain, ()),
        (residual, (("b", "c"),)),
        (before_and_after_relu, ()),  # two tensors: one may be negative
        (pooled_and_not, (("b", "c"),)),  # the largest of four codes is one of them
        (concatenated, (("a", "b"), ("d", "c"))),
        (sum_of_both, (("a", "b"),)),  # and c reads another tensor
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_layers_share_what_is_stored_once(wire, groups):
    network = capture(Net(wire).eval(), torch.zeros(1, 4, 8, 8))
    assert {frozenset(members) for members in shared_inputs(network)} == {frozenset(members) for members in groups}


def test_the_branches_of_a_residual_block_share_their_input():
    network = capture(DigitsResNet().eval(), torch.zeros(1, 1, 8, 8))
    assert shared_inputs(network) == (("block2.downsample.0", "block2.conv1"),)
