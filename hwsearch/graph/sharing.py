"""Which layers read the same stored tensor."""

from collections.abc import Iterable

from torch.fx import Node

from hwsearch.graph.network import Network, is_varying_tensor
from hwsearch.graph.ops import MOVING


def shared_inputs(network: Network) -> tuple[tuple[str, ...], ...]:
    """Layers that read the same stored tensor, directly or as a part of a concatenation.

    A device stores a tensor once, at one width, so these layers have it in common, or pay for conversions:
    the branches of a residual block or of an inception module; query, key and value.

    Returns:
        Groups of two and more layers, in the order of the network.
    """
    groups: list[tuple[set[Node], list[str]]] = []
    for layer in network.layers:
        tensors, members = set(_stored(network.node(layer.name).all_input_nodes[:1])), [layer.name]
        for group in [group for group in groups if group[0] & tensors]:
            groups.remove(group)
            tensors, members = tensors | group[0], group[1] + members
        groups.append((tensors, members))
    order = {layer.name: index for index, layer in enumerate(network.layers)}
    together = [tuple(sorted(members, key=order.__getitem__)) for _, members in groups if len(members) > 1]
    return tuple(sorted(together, key=lambda members: order[members[0]]))


def _stored(nodes: Iterable[Node]) -> Iterable[Node]:
    """The tensors in memory that these nodes are made of."""
    for node in nodes:
        if node.target in MOVING:
            yield from _stored(source for source in node.all_input_nodes if is_varying_tensor(source))
        else:
            yield node
