"""From the captured graph to what a cost model sees of it: operators that are no layers, and who reads whose result."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import torch
from torch.fx import GraphModule, Node

from cost_models import INPUT, LayerSpec, NetworkSpec, Operator, OperatorSpec
from hwsearch.graph.ops import ARITHMETIC, BATCH_NORM, SHAPES

EXAMPLE_BATCH = 2
"""Images in the recorded shapes: torch.export specializes a dimension of size 1 instead of keeping it dynamic."""

aten = torch.ops.aten
ATTENTION = aten.scaled_dot_product_attention.default

_TARGETS: dict[Operator, set[Any]] = {
    "add": {aten.add.Tensor, aten.sub.Tensor},
    "mul": {aten.mul.Tensor, aten.div.Tensor},
    "max": {aten.maximum.default, aten.minimum.default},
    "max_pool2d": {
        aten.adaptive_max_pool2d.default,
        aten.amax.default,
        aten.max_pool2d.default,
        aten.max_pool2d_with_indices.default,
    },
    "avg_pool2d": {
        aten._adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten.avg_pool2d.default,
        aten.mean.default,
        aten.mean.dim,
        aten.sum.dim_IntList,
    },
    "concat": {aten.cat.default, aten.hstack.default, aten.stack.default},
    "matmul": {aten.bmm.default, aten.matmul.default},
    "softmax": {aten._log_softmax.default, aten._softmax.default, aten.log_softmax.int, aten.softmax.int},
    "batch_norm": {BATCH_NORM},
    "norm": {
        aten.group_norm.default,
        aten.instance_norm.default,
        aten.layer_norm.default,
        aten.native_group_norm.default,
        aten.native_layer_norm.default,
    },
    "resize": {aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec},
}
_KINDS: dict[Any, Operator] = {target: kind for kind, targets in _TARGETS.items() for target in targets}

_WINDOWS = {aten.avg_pool2d.default, aten.max_pool2d.default, aten.max_pool2d_with_indices.default}
"""Pooling with a kernel of its own; other pooling covers its input evenly."""


def network_spec(graph: GraphModule, layers: Sequence[LayerSpec], nodes: Mapping[str, str]) -> NetworkSpec:
    """Everything of a captured network that costs something.

    Args:
        graph: Its nodes know the ``shape`` of their tensor for two images.
        layers: Quantizable layers in the order they run.
        nodes: Graph node of each layer.
    """
    layer_at = {node: layer for layer, node in nodes.items()}
    taken = {layer.name for layer in layers}
    sources: dict[Node, tuple[str, ...]] = {}  # what was written before each node
    operators: list[OperatorSpec] = []
    inputs: dict[str, tuple[str, ...]] = {}
    for node in graph.graph.nodes:
        if node.target in SHAPES:
            continue
        read = _distinct(sources.get(source, ()) for source in node.all_input_nodes)
        if node.op == "placeholder":
            sources[node] = (INPUT,)
        elif node.name in layer_at:
            inputs[layer_at[node.name]] = read
            sources[node] = (layer_at[node.name],)
        elif read and _kind(node) is not None:
            name = node.name if node.name not in taken else f"{node.name}__2"
            for operator, operands in _operators(node, name, sources):
                operators.append(operator)
                inputs[operator.name] = operands
            sources[node] = (name,)
        else:
            sources[node] = read
    return NetworkSpec(tuple(layers), tuple(operators), inputs)


def _distinct(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def _kind(node: Node) -> Operator | None:
    """What an operator is to a cost model; None if it only moves values or is part of its reader."""
    return _KINDS.get(node.target, "lookup" if node.target in ARITHMETIC else None)


def _operators(
    node: Node, name: str, sources: Mapping[Node, tuple[str, ...]]
) -> Iterable[tuple[OperatorSpec, tuple[str, ...]]]:
    """The operators that a node stands for, each with what it reads."""
    operands = [source for source in node.all_input_nodes if sources.get(source)]
    shapes = [source.meta["shape"] for source in operands]
    read = [sources[source] for source in operands]
    if node.target != ATTENTION:
        yield _operator(node, name, shapes), _distinct(read)
        return
    (query, key, value), result = shapes[:3], node.meta["shape"]
    scores = (*query[:-1], key[-2])
    weights = f"{name}.weights"
    yield _matmul(f"{name}.scores", query, key, scores), _distinct(read[:2])
    yield _elementwise(weights, "softmax", [scores], scores), (f"{name}.scores",)
    yield _matmul(name, scores, value, result), _distinct([(weights,), read[2]])


def _operator(node: Node, name: str, shapes: Sequence[Sequence[int]]) -> OperatorSpec:
    kind = _kind(node)
    assert kind is not None
    result = _result_shape(node)
    if kind == "matmul":
        return _matmul(name, shapes[0], shapes[1], result)
    if kind in ("max_pool2d", "avg_pool2d"):
        return _pool(node, name, kind, shapes[0], result)
    return _elementwise(name, kind, shapes, result)


def _result_shape(node: Node) -> Sequence[int]:
    """Shape of the result, or of the first of several."""
    if "shape" in node.meta:
        shape: Sequence[int] = node.meta["shape"]
        return shape
    return _result_shape(next(user for user in node.users if user.args[1] == 0))


def _matmul(name: str, left: Sequence[int], right: Sequence[int], result: Sequence[int]) -> OperatorSpec:
    rows, columns = result[-2], result[-1]
    size = (_count(result) // (rows * columns), rows)
    return OperatorSpec(name, "matmul", columns, size, size, (_count(left), _count(right)))


def _pool(node: Node, name: str, kind: Operator, source: Sequence[int], result: Sequence[int]) -> OperatorSpec:
    (in_channels, in_size), (channels, out_size) = _channels_and_size(source), _channels_and_size(result)
    if node.target in _WINDOWS:
        defaults: list[Any] = [None, [], 0]  # ATen's: a stride of [] is the kernel
        kernel, stride, padding = [*node.args[1:4], *defaults[len(node.args) - 1 :]][:3]
        window = (_pair(kernel), _pair(stride or kernel), _pair(padding))
    else:
        if in_channels != channels:  # a mean over features, say
            channels, in_size, out_size = 1, (_count(source), 1), (_count(result), 1)
        cell = (-(-in_size[0] // out_size[0]), -(-in_size[1] // out_size[1]))
        window = (cell, cell, (0, 0))
    return OperatorSpec(name, kind, channels, in_size, out_size, (_count(source),), *window)


def _elementwise(name: str, kind: Operator, shapes: Sequence[Sequence[int]], result: Sequence[int]) -> OperatorSpec:
    counts = tuple(_count(shape) for shape in shapes)
    in_size = _channels_and_size(shapes[0])[1]
    channels, out_size = _channels_and_size(result)
    return OperatorSpec(name, kind, channels, in_size, out_size, counts)


def _count(shape: Sequence[int]) -> int:
    """Values per image."""
    return prod(shape) // EXAMPLE_BATCH


def _channels_and_size(shape: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """Channels, and (height, width) or (tokens, 1), of one image; the batch may be part of any dimension."""
    batched = next(index for index, length in enumerate(shape) if length % EXAMPLE_BATCH == 0)
    image = [length // EXAMPLE_BATCH if index == batched else length for index, length in enumerate(shape)]
    image = [length for index, length in enumerate(image) if index != batched or length > 1]
    if len(image) <= 2:  # [features] or [tokens, features]
        return prod(image[-1:]), (prod(image[:-1]), 1)
    return image[0], (prod(image[1:-1]), image[-1])


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
