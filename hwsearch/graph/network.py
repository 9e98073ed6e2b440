"""A captured network: one graph that layer shapes, fake quantization, integer lowering and export all read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from cost_models import LayerSpec, NetworkSpec
from hwsearch.graph.operators import network_spec
from hwsearch.graph.ops import ARITHMETIC


@dataclass(frozen=True)
class Read:
    """A place where a stored tensor is read, hence quantized.

    Attributes:
        tensor: Name of the graph node that produces the tensor.
        node: Name of the graph node that reads it.
        layer: The quantizable layer that reads it, or None for a residual sum, a pooling...
    """

    tensor: str
    node: str
    layer: str | None


@dataclass(frozen=True)
class Network:
    """A float network with batch norm folded, as a graph of ATen operators.

    Attributes:
        graph: Functional graph; called with ``[N, ...]`` it returns the logits ``[N, classes]``.
        layers: Quantizable layers in the order they run.
        nodes: Graph node of each layer.
        reads: Every place where a tensor that depends on the input is read by a layer or by arithmetic.
    """

    graph: GraphModule
    layers: tuple[LayerSpec, ...]
    nodes: Mapping[str, str]
    reads: tuple[Read, ...]

    def node(self, layer: str) -> Node:
        """Graph node of a layer."""
        nodes: dict[str, Node] = {node.name: node for node in self.graph.graph.nodes}
        return nodes[self.nodes[layer]]

    def weight(self, layer: str) -> Tensor:
        """Folded float weights, ``[O, I / groups, kh, kw]`` or ``[O, I]``."""
        return parameter(self.graph, self.node(layer), 1)

    @cached_property
    def spec(self) -> NetworkSpec:
        """Everything that costs something: layers, other operators, and who reads whose result."""
        return network_spec(self.graph, self.layers, self.nodes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the graph's code and of every parameter."""
        digest = hashlib.sha256(self.graph.code.encode())
        for name, tensor in sorted(self.graph.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def parameter(graph: GraphModule, node: Node, position: int) -> Tensor:
    """The constant tensor that ``node`` takes as its argument at ``position``."""
    argument = node.args[position]
    assert isinstance(argument, Node)
    assert argument.op == "get_attr"
    tensor = graph.get_buffer(str(argument.target))
    return tensor


def find_reads(graph: GraphModule, layers: Mapping[str, str]) -> tuple[Read, ...]:
    """Every (tensor, reader) pair: a layer's input, and each varying operand of an arithmetic operator."""
    by_node = {node: layer for layer, node in layers.items()}
    reads = []
    for node in graph.graph.nodes:
        if node.name in by_node:
            reads.append(Read(node.args[0].name, node.name, by_node[node.name]))
        elif node.target in ARITHMETIC:
            operands = {source.name: source for source in node.all_input_nodes if is_varying_tensor(source)}
            reads += [Read(name, node.name, None) for name in operands]
    return tuple(reads)


def is_varying_tensor(node: Node) -> bool:
    """Whether a node holds floating-point values that depend on the network's input."""
    return (
        node.op != "get_attr"
        and isinstance(node.meta.get("dtype"), torch.dtype)
        and node.meta["dtype"].is_floating_point
    )
