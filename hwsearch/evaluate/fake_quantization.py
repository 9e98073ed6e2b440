"""A network whose weights, biases and activations take the values that integers would give them."""

import copy
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from cost_models import FLOAT, FLOAT_BITS, BitConfig, Precision
from hwsearch.data import Batch
from hwsearch.evaluate.bit_config import check_config
from hwsearch.evaluate.graph_steps import GraphSteps
from hwsearch.evaluate.reuse import Memories
from hwsearch.graph import Network
from hwsearch.graph.network import parameter
from hwsearch.quantize import OTHER_BITS, ActivationGrid, ActivationRanges, LayerDatabase, look_up, quantize_bias

__all__ = ["OTHER_BITS", "ActivationQuantizer", "FakeQuantNetwork"]


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor; passes floats while it has no grid."""

    grid: ActivationGrid | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Quantize and dequantize ``x`` of any shape."""
        return x if self.grid is None else self.grid.quantize(x)


class FakeQuantNetwork:
    """Runs a captured network at any precision by looking weights up in the layer database.

    Args:
        network: The captured float network.
        database: Codes of every (layer, weight_bits, weight_format) that will be asked for.
        ranges: Grids of every (tensor, activation_bits) that will be asked for, and of 8 bits.
        device: Torch device that it runs on.
        reuse_bytes: Memory for what configurations share, for all batches in use together.
    """

    def __init__(
        self,
        network: Network,
        database: LayerDatabase,
        ranges: ActivationRanges,
        device: str | torch.device = "cpu",
        *,
        reuse_bytes: int = 0,
    ) -> None:
        self.network = network
        self.database = database
        self.ranges = ranges
        self.device = torch.device(device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its pytree
            self._graph = copy.deepcopy(network.graph)
        self._nodes: dict[str, Node] = {node.name: node for node in self._graph.graph.nodes}
        self._quantizers = self._insert_quantizers()
        self._graph = self._graph.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._float_weights = {
            layer.name: parameter(self._graph, self._nodes[network.nodes[layer.name]], 1).clone()
            for layer in network.layers
        }
        self._float_biases = {
            layer.name: parameter(network.graph, network.node(layer.name), 2) for layer in network.layers if layer.bias
        }
        self._loaded: dict[str, Precision] = {}
        self._memories: Memories[Any] = Memories(reuse_bytes)
        self._steps = GraphSteps(self._graph, self._quantizer_nodes.values())
        self.configure({layer.name: FLOAT for layer in network.layers})

    def _insert_quantizers(self) -> dict[tuple[str, str | None], ActivationQuantizer]:
        """One quantizer per (tensor, layer), and one per tensor for all its other readers."""
        quantizers: dict[tuple[str, str | None], ActivationQuantizer] = {}
        quantized: dict[tuple[str, str | None], Node] = {}
        graph = self._graph.graph
        for read in self.network.reads:
            key = (read.tensor, read.layer)
            source = self._nodes[read.tensor]
            if key not in quantizers:
                name = f"quantizer_{len(quantizers)}"
                quantizers[key] = ActivationQuantizer()
                self._graph.add_module(name, quantizers[key])
                with graph.inserting_after(source):
                    quantized[key] = graph.call_module(name, (source,))
            self._nodes[read.node].replace_input_with(source, quantized[key])
        self._graph.recompile()
        self._quantizer_nodes = {key: node.name for key, node in quantized.items()}
        return quantizers

    def configure(self, config: BitConfig) -> None:
        """Set every layer's precision; the other tensors are 8-bit unless all layers read floats.

        Raises:
            ValueError: If ``config`` names other layers than the network's, or a width or format that the database
                or the ranges do not hold.
        """
        check_config(config, [layer.name for layer in self.network.layers])
        integer = any(precision.activation_bits < FLOAT_BITS for precision in config.values())
        for (tensor, layer), quantizer in self._quantizers.items():
            bits = config[layer].activation_bits if layer else (OTHER_BITS if integer else FLOAT_BITS)
            quantizer.grid = self._grid(tensor, bits)
        grids = {layer: quantizer.grid for (_, layer), quantizer in self._quantizers.items()}
        for layer, precision in config.items():
            if self._loaded.get(layer) != precision:  # neighbours differ in few layers
                node = self._nodes[self.network.nodes[layer]]
                parameter(self._graph, node, 1).copy_(self._weight(layer, precision))
                if layer in self._float_biases:
                    parameter(self._graph, node, 2).copy_(self._bias(layer, precision, grids[layer]))
                self._loaded[layer] = precision

        contents: dict[str, Hashable] = {self.network.nodes[layer]: precision for layer, precision in config.items()}
        contents |= {node: self._quantizers[key].grid for key, node in self._quantizer_nodes.items()}
        self._keys = self._steps.keys(contents)

    def _grid(self, tensor: str, bits: int) -> ActivationGrid | None:
        if bits == FLOAT_BITS:
            return None
        if (tensor, bits) not in self.ranges:
            known = sorted({width for _, width in self.ranges})
            raise ValueError(f"There are no ranges for activation_bits={bits}; calibration made them for {known}.")
        return self.ranges[tensor, bits]

    def _weight(self, layer: str, precision: Precision) -> Tensor:
        if precision.weight_bits == FLOAT_BITS:
            return self._float_weights[layer]
        return look_up(self.database, layer, precision).dequantize()

    def _bias(self, layer: str, precision: Precision, grid: ActivationGrid | None) -> Tensor:
        bias = self._float_biases[layer]
        if precision.weight_bits == FLOAT_BITS:
            return bias
        entry = look_up(self.database, layer, precision)
        corrected = entry.correct_bias(bias)
        return corrected if grid is None else quantize_bias(corrected, entry, grid.scale)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of inputs ``[N, ...]``."""
        with _exact():
            return self._graph(self._placed(x))  # type: ignore[no-any-return]  # a GraphModule returns Any

    def logits(self, batch: Batch) -> Tensor:
        """The same of a batch, for which it is remembered what other configurations may share."""
        (memory,) = self._memories.of(batch)
        with _exact():
            return self._steps.run(self._keys, lambda: self._placed(batch.inputs), memory)

    def layer_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Output of every layer on inputs ``[N, ...]``."""
        layers = {node: layer for layer, node in self.network.nodes.items()}
        found = {}

        class Observer(Interpreter):
            def run_node(self, n: Node) -> Any:
                value = super().run_node(n)
                if n.name in layers:
                    found[layers[n.name]] = value
                return value

        with _exact():
            Observer(self._graph).run(self._placed(x))
        return found

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, memory_format=torch.channels_last) if x.dim() == 4 else x.to(self.device)


@contextmanager
def _exact() -> Iterator[None]:
    """Without gradients, and without TF32, cuDNN's default, which keeps 10 bits of each product."""
    cudnn = torch.backends.cudnn
    # Flags not given would be off.
    flags = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    with torch.inference_mode(), cudnn.flags(**flags, allow_tf32=False):
        yield
