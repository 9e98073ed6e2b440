"""Parts of a network that are reconstructed as a whole: residual blocks, and single layers elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.fx import Graph, GraphModule, Node

from hwsearch.graph import Network
from hwsearch.graph.network import is_varying_tensor
from hwsearch.graph.ops import SHAPES


@dataclass(frozen=True)
class Block:
    """Consecutive nodes that read one tensor and of which everything after them reads one tensor.

    Attributes:
        layers: Quantizable layers, in the order they run; at least one.
        source: Graph node of the tensor that is read.
        nodes: Graph nodes in the order they run; the last one's tensor is the result.
    """

    layers: tuple[str, ...]
    source: str
    nodes: tuple[str, ...]


def find_blocks(network: Network) -> tuple[Block, ...]:
    """Cut a network after the last single tensor before each layer that holds all that is needed from there on.

    A residual block thus is whole, and an activation goes with the layer before it. Sizes, such as that of the batch,
    end no block: each reads them off its own source.
    """
    layer_at = {node: layer for layer, node in network.nodes.items()}
    nodes = [node for node in network.graph.graph.nodes if node.op != "get_attr" and node.target not in SHAPES]
    order = {node: position for position, node in enumerate(nodes)}
    last_use = {node: max((order.get(user, -1) for user in node.users), default=-1) for node in nodes}
    blocks: list[Block] = []
    source, members, cut = nodes[0], list[Node](), 0
    live: set[Node] = {source}
    for position, node in enumerate(nodes[1:-1], start=1):
        if node.name in layer_at and cut:
            blocks.append(_block(source, members[:cut], layer_at))
            source, members, cut = members[cut - 1], members[cut:], 0
        members.append(node)
        live = {value for value in {*live, node} if last_use[value] > position}
        if live == {node} and is_varying_tensor(node) and any(member.name in layer_at for member in members):
            cut = len(members)
    return (*blocks, _block(source, members, layer_at))


def _block(source: Node, members: Sequence[Node], layer_at: Mapping[str, str]) -> Block:
    layers = tuple(layer_at[node.name] for node in members if node.name in layer_at)
    return Block(layers, source.name, tuple(node.name for node in members))


def block_graph(
    network: Network, block: Block, quantizer: Callable[[str, str | None], nn.Module | None]
) -> GraphModule:
    """A block as a function of its source and of its layers' weights and biases: ``x, w1, b1, w2, b2...``.

    Args:
        network: The captured float network.
        block: Which part of it.
        quantizer: What a read of (tensor, layer) goes through; None for nothing. The layer is None for arithmetic.
    """
    originals = {node.name: node for node in network.graph.graph.nodes}
    reads = {(read.node, read.tensor): read.layer for read in network.reads}
    graph, modules = Graph(), dict[str, nn.Module]()
    copies: dict[Node, Node] = {originals[block.source]: graph.placeholder("x")}
    quantized: dict[tuple[str, str | None], Node] = {}
    parameters = {
        originals[network.nodes[layer]]: [graph.placeholder(f"{kind}_{i}") for kind in ("weight", "bias")]
        for i, layer in enumerate(block.layers)
    }

    def fetch(reader: Node, source: Node) -> Node:
        if source not in copies and source.op != "get_attr" and source.target not in SHAPES:
            return copies[originals[block.source]]  # only sizes read tensors of other blocks
        if source not in copies:
            copies[source] = graph.node_copy(source, partial(fetch, source))
        key = (source.name, reads.get((reader.name, source.name)))
        module = quantizer(*key) if (reader.name, source.name) in reads else None
        if module is None:
            return copies[source]
        if key not in quantized:
            name = f"quantizer_{len(modules)}"
            modules[name] = module
            quantized[key] = graph.call_module(name, (copies[source],))
        return quantized[key]

    for name in block.nodes:
        node = originals[name]
        copy = graph.node_copy(node, partial(fetch, node))
        if node in parameters:
            weight, bias = parameters[node]
            copy.args = (copy.args[0], weight, bias, *copy.args[3:])
        copies[node] = copy
    graph.output(copies[originals[block.nodes[-1]]])
    constants = {
        str(node.target): network.graph.get_buffer(str(node.target)) for node in graph.nodes if node.op == "get_attr"
    }
    return GraphModule({**constants, **modules}, graph)
