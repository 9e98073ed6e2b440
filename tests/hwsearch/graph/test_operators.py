"""What a cost model sees of a captured graph beyond its layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cost_models import INPUT, OperatorSpec
from hwsearch.graph import capture
from hwsearch.graph.operators import _KINDS
from hwsearch.graph.ops import ARITHMETIC, PASSING
from hwsearch.networks import CifarResNet, InceptionV3, MobileNetV2, ResNet


class Sandwich(nn.Module):
    """A function of images between two convolutions."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def between(function) -> list[OperatorSpec]:
    """Operators that ``function`` of a ``[4, 10, 12]`` image stands for."""
    return list(capture(Sandwich(function), torch.zeros(2, 3, 12, 14)).spec.operators)


POOLINGS = {
    "max": (lambda x: F.max_pool2d(x, 3, 2, 1), "max_pool2d", (3, 3), (2, 2), (1, 1), (5, 6)),
    "stride by default": (lambda x: F.max_pool2d(x, 2), "max_pool2d", (2, 2), (2, 2), (0, 0), (5, 6)),
    "average": (lambda x: F.avg_pool2d(x, (1, 3), 1, (0, 1)), "avg_pool2d", (1, 3), (1, 1), (0, 1), (10, 12)),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (5, 3)), "avg_pool2d", (2, 4), (2, 4), (0, 0), (5, 3)),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), "avg_pool2d", (10, 12), (10, 12), (0, 0), (1, 1)),
}


@pytest.mark.parametrize("case", POOLINGS.values(), ids=POOLINGS)
def test_poolings_have_their_window(case) -> None:
    function, op, kernel, stride, padding, out_size = case
    (pool,) = between(function)
    assert (pool.op, pool.channels, pool.in_size, pool.out_size) == (op, 4, (10, 12), out_size)
    assert (pool.kernel, pool.stride, pool.padding) == (kernel, stride, padding)
    assert (pool.in_count, pool.out_count) == (4 * 10 * 12, 4 * out_size[0] * out_size[1])


ELEMENTWISE = {
    "sum": (lambda x: x + torch.flip(x, [2]), "add", (480, 480)),
    "gate": (lambda x: x * x.mean((2, 3), keepdim=True), "mul", (480, 4)),
    "constant": (lambda x: x * torch.arange(4.0).view(4, 1, 1), "mul", (480,)),
    "gelu": (F.gelu, "lookup", (480,)),
    "softmax": (lambda x: x.softmax(1), "softmax", (480,)),
    "batch norm": (lambda x: F.batch_norm(F.relu(x), torch.zeros(4), torch.ones(4)), "batch_norm", (480,)),
    "group norm": (nn.GroupNorm(2, 4), "norm", (480,)),
}


@pytest.mark.parametrize("case", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_elementwise_operators_count_what_they_read(case) -> None:
    function, op, counts = case
    *_, operator = between(function)
    assert (operator.op, operator.in_counts) == (op, counts)
    assert (operator.channels, operator.out_size) == (4, (10, 12))


def test_what_moves_values_or_keeps_their_order_is_seen_through() -> None:
    def function(x: Tensor) -> Tensor:
        left, right = F.pad(F.relu(x), (1, 1)).clamp(0, 6).transpose(2, 3).chunk(2, 1)
        return torch.cat([right, left], 1)

    spec = capture(Sandwich(function), torch.zeros(2, 3, 12, 14)).spec
    (concat,) = spec.operators
    assert (concat.op, concat.in_counts) == ("concat", (2 * 14 * 10,) * 2)
    assert spec.inputs == {"first": (INPUT,), concat.name: ("first",), "last": (concat.name,)}


def test_a_residual_sum_reads_both_branches() -> None:
    spec = capture(CifarResNet(8), torch.zeros(1, 3, 32, 32)).spec
    adds = [operator.name for operator in spec.operators if operator.op == "add"]
    assert [spec.inputs[name] for name in adds] == [
        ("layer1.0.conv2", "conv1"),
        ("layer2.0.conv2", adds[0]),
        ("layer3.0.conv2", adds[1]),
    ]
    assert list(spec.inputs)[-2:] == ["mean", "linear"]


def test_attention_is_two_products_and_a_softmax() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add, self.head = nn.Linear(5, 24), nn.Linear(24, 3)  # a layer called like an operator
            self.attention = nn.MultiheadAttention(24, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.add(x)
            x = x + self.attention(x, x, x, need_weights=False)[0]
            return self.head(x.mean(1))

    spec = capture(Attention(), torch.zeros(2, 7, 5)).spec
    scores, weights, values, total, mean = spec.operators
    assert [operator.op for operator in spec.operators] == ["matmul", "softmax", "matmul", "add", "avg_pool2d"]
    assert scores.macs == values.macs == 3 * 7 * 7 * 8
    assert (weights.in_counts, weights.out_count) == ((3 * 7 * 7,), 3 * 7 * 7)
    assert spec.inputs[scores.name] == ("attention.in_proj",)
    assert spec.inputs[weights.name] == (scores.name,)
    assert spec.inputs[values.name] == (weights.name, "attention.in_proj")
    assert spec.inputs[total.name] == ("add", "attention.out_proj")
    assert (mean.kernel, mean.channels) == ((7, 1), 24)
    assert len(spec.nodes) == len(spec.layers) + len(spec.operators)


def test_every_kind_is_of_an_operator_that_capture_understands() -> None:
    assert set(_KINDS) <= ARITHMETIC | PASSING


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "size"),
    [
        pytest.param(ResNet(18), 224, id="ResNet-18"),
        pytest.param(MobileNetV2(), 224, id="MobileNetV2"),
        pytest.param(InceptionV3(), 299, id="Inception-v3"),
    ],
)
def test_macs_are_half_of_the_operations_that_torch_counts(module: nn.Module, size: int) -> None:
    image = torch.zeros(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(image)
    spec = capture(module, image).spec
    assert 2 * sum(node.macs for node in spec.nodes.values()) == counter.get_total_flops()
