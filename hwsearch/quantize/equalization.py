"""Cross-layer equalization: ranges of the same channel in two layers made alike, without changing the network."""

import copy
import logging
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch.fx import GraphModule, Node

from cost_models import LayerSpec
from hwsearch.graph import Network
from hwsearch.graph.network import parameter

aten = torch.ops.aten

log = logging.getLogger("hwsearch")

HOMOGENEOUS = frozenset(
    {
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_max_pool2d.default,
        aten.avg_pool2d.default,
        aten.constant_pad_nd.default,
        aten.max_pool2d.default,
        aten.pad.default,
        aten.relu.default,
    }
)
"""Operators with ``f(s x) = s f(x)`` for ``s > 0`` that keep channels apart; padding only with zeros. A ReLU6 is none:
it clips every channel at the same value."""


def equalize(network: Network, *, rounds: int = 20) -> Network:
    """Scale each channel between two convolutions so that its weights have the same range in both.

    With ranges ``max|w|`` of the weights that write and that read a channel and ``s = sqrt(r_write / r_read)``, the
    former and their bias are divided by s, the latter multiplied. Where something else reads the tensor between, or
    clips it, the pair stays as it is; a warning is logged where that leaves none. Long chains converge over the rounds.

    Args:
        network: The captured float network.
        rounds: Over all pairs.

    Returns:
        A network that computes the same but for rounding of floats.

    Reference: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    arXiv:1906.04721, section 4.1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its pytree
        graph = copy.deepcopy(network.graph)
    equalized = replace(network, graph=graph)
    layers = {network.nodes[layer.name]: layer for layer in network.layers}
    pairs = [
        (producer, node, layers[node.name])
        for node in graph.graph.nodes
        if node.name in layers and (producer := _producer(node, layers)) is not None
    ]
    if not pairs:
        log.warning(
            "Nothing is equalized: between any two convolutions there is more than ReLU, pooling and zeros as padding; "
            "a ReLU6, for one, clips every channel at the same value."
        )
    for _ in range(rounds):
        for producer, reader, spec in pairs:
            _equalize_pair(graph, producer, reader, spec)
    return equalized


def _producer(reader: Node, layers: dict[str, LayerSpec]) -> Node | None:
    """The convolution whose channels a convolution reads, if scaling these changes nothing else."""
    node: Any = reader.args[0]
    if layers[reader.name].op != "conv2d":
        return None
    while len(node.users) == 1 and node.target in HOMOGENEOUS and _pads_with_zeros(node):
        node = node.args[0]
    found = layers.get(node.name)
    return node if found and found.op == "conv2d" and len(node.users) == 1 else None


def _pads_with_zeros(node: Node) -> bool:
    if node.target == aten.constant_pad_nd.default:
        return not any(node.args[2:])
    return node.target != aten.pad.default or (
        node.args[2:3] in ((), ("constant",)) and not node.kwargs and not any(node.args[3:])
    )


def _equalize_pair(graph: GraphModule, producer: Node, reader: Node, spec: LayerSpec) -> None:
    before, after = parameter(graph, producer, 1), parameter(graph, reader, 1)
    groups, inputs = spec.groups, after.shape[1]
    written = before.abs().flatten(1).amax(1)  # [I]
    read = (
        after.abs().reshape(groups, -1, inputs, after[0, 0].numel()).amax((1, 3)).flatten()
    )  # [G, O / G, I / G, k] -> [I]
    used = (written > 0) & (read > 0)
    factor = torch.where(used, (written / read).sqrt(), 1.0)
    before.div_(factor.view(-1, 1, 1, 1))
    if len(producer.args) > 2 and producer.args[2] is not None:
        parameter(graph, producer, 2).div_(factor)
    each = factor.view(groups, 1, inputs).expand(-1, len(after) // groups, -1)
    after.mul_(each.reshape(len(after), inputs, 1, 1))
