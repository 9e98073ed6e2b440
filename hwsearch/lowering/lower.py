"""From a captured network and a configuration to integer operations."""

from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Node

from cost_models import BitConfig
from cost_models.tvm.image import Image
from hwsearch.evaluate import check_config
from hwsearch.graph import Network
from hwsearch.graph.fold import batch_norm_parameters
from hwsearch.graph.network import parameter
from hwsearch.graph.ops import BATCH_NORM
from hwsearch.lowering.integer_network import (
    Add,
    AveragePool,
    Convolution,
    IntegerNetwork,
    Lookup,
    Multiply,
    Output,
    Residual,
    Tensor,
)
from hwsearch.lowering.layout import Layout
from hwsearch.lowering.operators import (
    ADD,
    AVERAGE_POOLS,
    CLAMPS,
    LINEAR,
    MULTIPLY,
    RESHAPES,
    arguments,
    check_operators,
    clamp_bounds,
    is_function,
    is_layer,
    operands,
    source,
    unsupported,
)
from hwsearch.lowering.pooling import pooling_window
from hwsearch.lowering.quantization import Format, Parameters, Quantization, integer_parameters
from hwsearch.lowering.stored import StoredTensors
from hwsearch.lowering.trace import trace_layouts
from hwsearch.lowering.window import Window
from hwsearch.quantize import ActivationRanges, LayerDatabase

LOGIT_BITS = 30
"""Logits stay below 2**30 in magnitude: int32 holds them, and float32 rounds them to 24 significant bits."""

LOGITS = "logits"
"""Name of the result; graph nodes are named after operators."""

UNIT = 127
"""Magnitude of a batch norm's weights: the largest int8, for the finest bias."""


def lower(
    network: Network, config: BitConfig, database: LayerDatabase, ranges: ActivationRanges, *, dedupe: bool = True
) -> IntegerNetwork:
    """Lower a network at one configuration to integers.

    Its integers are those that :class:`hwsearch.evaluate.FakeQuantNetwork` imitates: each layer's input at the layer's
    ``activation_bits``, what other operators read at 8 bits, each requantized once from the accumulator. Where float32
    arithmetic meets a rounding tie, the two may differ by one step.

    Args:
        network: The captured float network.
        config: Precision of every layer; none of them float.
        database: Codes of every (layer, weight_bits, weight_format) of ``config``.
        ranges: Grids of every (tensor, activation_bits) of ``config``, and of 8 bits.
        dedupe: Whether readers that want the same integers of a tensor share them. Without, operations and layouts
            depend on the network alone, so that one compiled module serves every configuration.

    Raises:
        ValueError: If an operator has no integer form, an accumulator could overflow, or ``config`` asks for floats or
            for what the database or the ranges do not hold.
    """
    return Lowering(network)(config, database, ranges, dedupe=dedupe)


class Lowering:
    """A network that is checked and laid out once, to be lowered at any number of configurations.

    Args:
        network: The captured float network.

    Raises:
        ValueError: If an operator has no integer form.
    """

    def __init__(self, network: Network) -> None:
        check_operators(network.graph)
        self.network = network
        self.nodes = list(network.graph.graph.nodes)
        self.layouts = trace_layouts(network.graph)
        self.specs = {network.nodes[layer.name]: layer for layer in network.layers}
        self.positions = {node.name: i for i, node in enumerate(self.nodes)}

    def __call__(
        self, config: BitConfig, database: LayerDatabase, ranges: ActivationRanges, *, dedupe: bool = True
    ) -> IntegerNetwork:
        """As :func:`lower`."""
        check_config(config, list(self.network.nodes))
        return _Pass(self, Quantization(config, database, ranges, dedupe)).run()


@dataclass(frozen=True)
class _Sum:
    """A sum of a left operand, computed by a layer or read, and of a stored right one."""

    node: Node
    left: Format
    right: str
    right_scale: float


class _Pass:
    """Walks a graph from its end: when a node is reached, what its readers want of it is known."""

    def __init__(self, lowering: Lowering, quantization: Quantization) -> None:
        self.graph = lowering.network.graph
        self.quantization = quantization
        self.specs = lowering.specs
        self.nodes = lowering.nodes
        self.layouts = lowering.layouts
        self.positions = lowering.positions
        self.stored = StoredTensors(self.layouts, self.positions)
        self.sums: dict[str, _Sum] = {}
        self.logits = _logits_node(self.nodes[-1])
        self.logit_scale = 1.0

    def run(self) -> IntegerNetwork:
        for node in reversed(self.nodes):
            if node is self.logits or node.name in self.stored.wanted or node.name in self.sums:
                self._convert(node)
        (first,) = (node for node in self.nodes if node.op == "placeholder")
        operations = sorted(self.stored.operations, key=lambda item: item[0])
        logits = Tensor(self.layouts[self.logits.name].image, self.logit_scale, None)
        return IntegerNetwork(
            operations=tuple(operation for _, operation in operations),
            tensors={**self.stored.tensors(), LOGITS: logits},
            inputs=tuple(self.stored.wanted[first.name].values()),
            logits=LOGITS,
        )

    def _convert(self, node: Node) -> None:
        """Emit the operation that computes a node."""
        if node is self.logits and (
            node.name in self.stored.wanted or not (is_layer(node) or node.target in AVERAGE_POOLS)
        ):
            raise unsupported(node, "the logits must come from a layer or an average, and be read by nothing else")
        if is_layer(node):
            self._layer(node)
        elif node.target == BATCH_NORM:
            self._batch_norm(node)
        elif node.target in AVERAGE_POOLS:
            self._average_pool(node)
        elif is_function(node):
            self._function(node)
        elif node.target == ADD:
            self._add(node)
        elif node.target == MULTIPLY:
            self._multiply(node)
        elif node.op != "placeholder":  # the host writes the input
            raise unsupported(node, "it takes two tensors")

    def _layer(self, node: Node) -> None:
        spec = self.specs[node.name]
        fmt = self.quantization.format(source(node).name, spec.name)
        codes, scale = self.quantization.weight(spec.name)
        has_bias = len(node.args) > 2 and node.args[2] is not None
        bias = self.quantization.bias(spec.name, parameter(self.graph, node, 2).numpy()) if has_bias else None
        layout = self.layouts[source(node).name]
        if node.target == LINEAR:
            codes = _unflattened(codes, layout)
            window = Window((codes.shape[1], codes.shape[2]), (1, 1))
        else:
            codes = codes.transpose(0, 2, 3, 1)  # [O, I, kh, kw] -> [O, kh, kw, I]
            window = Window(spec.kernel, spec.stride, spec.padding, spec.dilation)
        parameters = integer_parameters(spec.name, codes, scale, bias, fmt, *self.quantization.storage(spec.name))
        self._convolution(node, spec.name, fmt, parameters, window, spec.groups)

    def _batch_norm(self, node: Node) -> None:
        """A batch norm that no layer took in: a depthwise 1x1 convolution with weights of one magnitude."""
        if self.layouts[node.name].position("C") != 1:
            raise unsupported(node, "it normalizes something else than channels")
        factor, mean, beta = (values.numpy() for values in batch_norm_parameters(self.graph, node))
        codes = (UNIT * np.sign(factor)).astype(np.int8).reshape(-1, 1, 1, 1)
        fmt = self._format(source(node))
        parameters = integer_parameters(node.name, codes, np.abs(factor) / UNIT, beta - mean * factor, fmt)
        self._convolution(node, node.name, fmt, parameters, Window((1, 1), (1, 1)), len(codes))

    def _convolution(
        self, node: Node, name: str, fmt: Format, parameters: Parameters, window: Window, groups: int
    ) -> None:
        image = self.layouts[node.name].image
        tensor, window = self.stored.window(source(node), fmt, window, (image.height, image.width))
        total = self.sums.get(node.name)
        outputs = self._sum_outputs(total) if total else self._outputs(node, parameters.scale, parameters.limit)
        residual = Residual(total.right, parameters.scale / total.left.scale, total.left.bounds) if total else None
        weights = parameters.weight, parameters.bias, parameters.weight_bits
        layer = Convolution(name, tensor, *weights, outputs, window, groups, residual, parameters.weight_format)
        self.stored.emit(total.node if total else node, layer)

    def _average_pool(self, node: Node) -> None:
        image, fmt = self.layouts[node.name].image, self._format(source(node))
        window = pooling_window(node, self.layouts[source(node).name])
        tensor, window = self.stored.window(source(node), fmt, window, (image.height, image.width))
        count = prod(window.kernel)
        outputs = self._outputs(node, np.array([fmt.scale / count]), np.array([count * 255]))
        self.stored.emit(node, AveragePool(node.name, tensor, window, outputs))

    def _function(self, node: Node) -> None:
        """A table of the operator itself, applied to every integer in float32 as fake quantization does."""
        (operand,) = operands(node)
        fmt = self._format(operand)
        target: Any = node.target
        values = torch.from_numpy(fmt.dequantize(np.arange(256)))
        results = target(*(values if value is operand else value for value in node.args), **node.kwargs).numpy()
        wanted = self.stored.wanted[node.name]
        tables = np.stack([out.quantize(results) for out in wanted])
        self.stored.emit(node, Lookup(node.name, self.stored.whole(operand, fmt), tuple(wanted.values()), tables))

    def _add(self, node: Node) -> None:
        left, right = self._two_operands(node)
        if self.layouts[left.name].sizes != self.layouts[right.name].sizes or arguments(node)["alpha"] != 1:
            raise unsupported(node, "it adds something else than two tensors of one shape")
        # Only one of two layers can take the sum in; the later one, since the other's result is there by then.
        pairs = sorted(((left, right), (right, left)), key=lambda pair: self.positions[pair[0].name], reverse=True)
        for first, second in pairs if left is not right else []:
            found = _layer_of(first, self._format(first))
            if found:
                layer, fmt = found
                other = self._format(second)
                self.sums[layer.name] = _Sum(node, fmt, self.stored.whole(second, other), other.scale)
                return
        fmt, other = self._format(left), self._format(right)
        outputs = self._sum_outputs(_Sum(node, fmt, "", other.scale))
        tensors = self.stored.whole(left, fmt), self.stored.whole(right, other)
        self.stored.emit(node, Add(node.name, *tensors, outputs))

    def _multiply(self, node: Node) -> None:
        left, right = sorted(
            self._two_operands(node), key=lambda operand: self.layouts[operand.name].sizes, reverse=True
        )
        image, other = self.layouts[left.name].image, self.layouts[right.name].image
        if image != other and other != Image(1, 1, image.channels):
            raise unsupported(node, "its operands have different shapes, and none is one value per channel")
        fmt, other_fmt = self._format(left), self._format(right)
        outputs = tuple(
            Output(tensor, np.array([fmt.scale * other_fmt.scale / out.scale]))
            for out, tensor in self.stored.wanted[node.name].items()
        )
        tensors = self.stored.whole(left, fmt), self.stored.whole(right, other_fmt)
        self.stored.emit(node, Multiply(node.name, *tensors, outputs))

    def _format(self, tensor: Node) -> Format:
        """Format in which arithmetic reads a tensor."""
        return self.quantization.format(tensor.name, None)

    def _two_operands(self, node: Node) -> tuple[Node, Node]:
        both = operands(node)
        if len(both) != 2 or not self.layouts[both[0].name].matches(self.layouts[both[1].name]):
            raise unsupported(node, "it takes something else than two tensors that lie alike in memory")
        return both[0], both[1]

    def _outputs(self, node: Node, scale: NDArray[np.float64], limit: NDArray[np.int64]) -> tuple[Output, ...]:
        """Where accumulators of a scale go; ``limit`` bounds their magnitude."""
        if node is self.logits:
            largest = float((scale * limit).max())
            self.logit_scale = 2.0 ** (ceil(log2(largest)) - LOGIT_BITS) if largest else 1.0
            return (Output(LOGITS, scale / self.logit_scale),)
        return tuple(Output(tensor, scale / fmt.scale) for fmt, tensor in self.stored.wanted[node.name].items())

    def _sum_outputs(self, total: _Sum) -> tuple[Output, ...]:
        return tuple(
            Output(tensor, np.array([total.left.scale / fmt.scale]), total.right_scale / fmt.scale)
            for fmt, tensor in self.stored.wanted[total.node.name].items()
        )


def _logits_node(output: Node) -> Node:
    """The node that computes the network's result."""
    (node,) = output.all_input_nodes
    while node.target in RESHAPES:
        node = source(node)
    return node


def _layer_of(node: Node, fmt: Format) -> tuple[Node, Format] | None:
    """The layer whose result, clamped perhaps, is read by one node only; and the format with its clamps."""
    while len(node.users) == 1:
        if is_layer(node):
            return node, fmt
        if node.target not in CLAMPS:
            break
        fmt, node = fmt.clamped(*clamp_bounds(node)), source(node)
    return None


def _unflattened(codes: NDArray[np.int8], layout: Layout) -> NDArray[np.int8]:
    """Weights ``[O, features]`` of a linear layer as ``[O, H, W, C]`` of the image that it flattens."""
    letters = layout.axes[-1]
    parts = codes.reshape(-1, *(layout.size(letter) for letter in letters))
    missing = [axis for axis in "HWC" if axis not in letters]
    parts = parts.reshape(*parts.shape, *(1 for _ in missing))
    order = [*letters, *missing]
    return parts.transpose(0, *(order.index(axis) + 1 for axis in "HWC"))
