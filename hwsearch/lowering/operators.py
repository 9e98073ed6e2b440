"""The graph's operators by how they are lowered, and their arguments by name."""

import operator
from math import inf
from typing import Any

import torch
from torch.fx import GraphModule, Node

from hwsearch.graph.network import is_varying_tensor
from hwsearch.graph.ops import ARITHMETIC, BATCH_NORM, LAYERS, PASSING

aten = torch.ops.aten

RESHAPES = frozenset(
    {
        aten.flatten.using_ints,
        aten.reshape.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.unsqueeze.default,
    }
)
"""Views of the same image, as long as its dimensions are only merged, or of size 1."""

PERMUTATIONS = frozenset({aten.permute.default, aten.transpose.int, aten.t.default})

CLAMPS = frozenset(
    {
        aten.clamp.default,
        aten.clamp_max.default,
        aten.clamp_min.default,
        aten.hardtanh.default,
        aten.relu.default,
        aten.relu6.default,
    }
)
"""Operators that become bounds of what is before them."""

CONCATENATION = aten.cat.default
SLICE = aten.slice.Tensor
SPLITS = frozenset({aten.split.Tensor, aten.split_with_sizes.default})
PADS = frozenset({aten.pad.default, aten.constant_pad_nd.default})

MAX_POOLS = frozenset(
    {
        aten.adaptive_max_pool2d.default,
        aten.amax.default,
        aten.max_pool2d.default,
        aten.max_pool2d_with_indices.default,
    }
)

FIRST_OF_SEVERAL = frozenset({BATCH_NORM, aten.adaptive_max_pool2d.default, aten.max_pool2d_with_indices.default})
"""Operators that return statistics or indices, too, which nothing reads."""

AVERAGE_POOLS = frozenset(
    {
        aten._adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten.avg_pool2d.default,
        aten.mean.dim,
    }
)

REDUCTIONS = frozenset({aten.amax.default, aten.mean.dim})
"""Pooling over whole dimensions."""

LINEAR = aten.linear.default
ADD = aten.add.Tensor
MULTIPLY = aten.mul.Tensor

FUNCTIONS = frozenset(
    {
        aten.abs.default,
        aten.add.Scalar,
        aten.add.Tensor,
        aten.celu.default,
        aten.div.Scalar,
        aten.div.Tensor,
        aten.elu.default,
        aten.exp.default,
        aten.gelu.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.leaky_relu.default,
        aten.mish.default,
        aten.mul.Scalar,
        aten.mul.Tensor,
        aten.neg.default,
        aten.pow.Tensor_Scalar,
        aten.rsqrt.default,
        aten.rsub.Scalar,
        aten.selu.default,
        aten.sigmoid.default,
        aten.silu.default,
        aten.softplus.default,
        aten.sqrt.default,
        aten.sub.Scalar,
        aten.sub.Tensor,
        aten.tanh.default,
    }
)
"""Functions of one value, where all their other arguments are numbers."""

LOWERED = (
    LAYERS
    | RESHAPES
    | PERMUTATIONS
    | CLAMPS
    | SPLITS
    | PADS
    | MAX_POOLS
    | AVERAGE_POOLS
    | FUNCTIONS
    | {BATCH_NORM, CONCATENATION, SLICE, operator.getitem}
)

SUPPORTED = (
    "conv2d, linear, batch norm, residual sums, products of two tensors, average and max pooling, clamps (relu, "
    "relu6...), functions of one value (sigmoid, hardswish, gelu...), concatenation, slicing and splitting, zero "
    "padding, flattening"
)


def unsupported(node: Node, why: str = "") -> ValueError:
    """The error for what has no integer form; ``why`` is a clause about this node."""
    return ValueError(
        f"Operator '{node.target}' (node '{node.name}') has no integer form{why and f': {why}'}. An integer network "
        f"holds {SUPPORTED}."
    )


def check_operators(graph: GraphModule) -> None:
    """Refuse a graph with an operator that is never lowered, whatever its arguments.

    Raises:
        ValueError: Names the first one.
    """
    for node in graph.graph.nodes:
        if node.target in (PASSING | ARITHMETIC) - LOWERED:
            raise unsupported(node)


def arguments(node: Node) -> dict[str, Any]:
    """All arguments by name, with defaults."""
    schema: Any = node.target._schema  # type: ignore[union-attr]  # an operator's target is an OpOverload
    defaults = {argument.name: argument.default_value for argument in schema.arguments}
    given = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    return defaults | given | dict(node.kwargs)


def is_layer(node: Node) -> bool:
    """Whether a node is a quantizable layer."""
    return node.target in LAYERS


def operands(node: Node) -> list[Node]:
    """The varying tensors among the arguments; one that is used twice is there twice."""
    values = node.args[0] if node.target == CONCATENATION else node.args
    assert isinstance(values, list | tuple)
    return [value for value in values if isinstance(value, Node) and is_varying_tensor(value)]


def source(node: Node) -> Node:
    """The first argument, a tensor."""
    first = node.args[0]
    assert isinstance(first, Node)
    return first


def is_function(node: Node) -> bool:
    """Whether a node is a function of each value of one tensor: its other arguments are numbers."""
    return node.target in FUNCTIONS and len(operands(node)) == len(node.all_input_nodes) == 1


def clamp_bounds(node: Node) -> tuple[float, float]:
    """Smallest and largest value that a clamp lets through."""
    if node.target in (aten.relu.default, aten.relu6.default):
        return 0.0, 6.0 if node.target == aten.relu6.default else inf
    given = arguments(node)
    lo, hi = (given.get(name, given.get(f"{name}_val")) for name in ("min", "max"))
    return -inf if lo is None else float(lo), inf if hi is None else float(hi)
