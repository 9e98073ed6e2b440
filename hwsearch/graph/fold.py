"""Batch-norm folding."""

from collections.abc import Mapping, Sequence

import torch
from torch.fx import GraphModule, Node

from hwsearch.graph.network import parameter
from hwsearch.graph.ops import BATCH_NORM, LAYERS


def fold_batch_norms(graph: GraphModule, shapes: Mapping[str, Sequence[int]]) -> None:
    """Fold each batch norm into the convolution or linear layer before it, where nothing else reads that layer.

    A batch norm over the tokens of ``[N, tokens, features]`` stays: the linear layer before it has no such channels.
    With statistics mu, sigma^2 and affine gamma, beta: ``w' = w gamma / sigma``, ``b' = (b - mu) gamma / sigma + beta``
    (Jacob et al. 2018, arXiv:1712.05877, eq. 14). Computed in float64.
    """
    for node in list(graph.graph.nodes):
        if node.target == BATCH_NORM and _foldable(node, shapes):
            _fold(graph, node.args[0], node)


def _foldable(batch_norm: Node, shapes: Mapping[str, Sequence[int]]) -> bool:
    source = batch_norm.args[0]
    if not isinstance(source, Node) or source.target not in LAYERS or len(source.users) > 1:
        return False
    return source.target != torch.ops.aten.linear.default or len(shapes[source.name]) == 2


def _fold(graph: GraphModule, layer: Node, batch_norm: Node) -> None:
    weight = parameter(graph, layer, 1)
    count = weight.shape[0]
    has_bias = len(layer.args) > 2 and layer.args[2] is not None
    bias = parameter(graph, layer, 2).double() if has_bias else torch.zeros(count, dtype=torch.float64)
    factor, mean, beta = batch_norm_parameters(graph, batch_norm)
    names = [f"{layer.name}__folded_weight", f"{layer.name}__folded_bias"]
    graph.register_buffer(names[0], (weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))).float())
    graph.register_buffer(names[1], ((bias - mean) * factor + beta).float())
    with graph.graph.inserting_before(layer):
        attributes = tuple(graph.graph.get_attr(name) for name in names)
    layer.args = (layer.args[0], *attributes, *layer.args[3:])
    for getitem in list(batch_norm.users):  # the operator returns (output, mean, rstd)
        getitem.replace_all_uses_with(layer)
        graph.graph.erase_node(getitem)
    graph.graph.erase_node(batch_norm)


def batch_norm_parameters(graph: GraphModule, batch_norm: Node) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(factor, mean, beta)`` of ``y = (x - mean) factor + beta``, each ``[C]`` in float64."""
    mean, variance = parameter(graph, batch_norm, 3).double(), parameter(graph, batch_norm, 4).double()
    gamma = _affine(graph, batch_norm, 1, torch.ones_like(mean))
    factor = gamma / torch.sqrt(variance + float(batch_norm.args[6]))  # type: ignore[arg-type]  # eps is a float
    return factor, mean, _affine(graph, batch_norm, 2, torch.zeros_like(mean))


def _affine(graph: GraphModule, batch_norm: Node, position: int, default: torch.Tensor) -> torch.Tensor:
    if batch_norm.args[position] is None:
        return default.double()
    return parameter(graph, batch_norm, position).double()
