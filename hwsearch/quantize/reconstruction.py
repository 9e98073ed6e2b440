"""Block reconstruction: what a quantized block computes is brought near to what the float network computes there."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule

from cost_models import FLOAT_BITS
from hwsearch.graph import Network
from hwsearch.graph.network import parameter
from hwsearch.progress import track
from hwsearch.quantize.blocks import Block, block_graph, find_blocks
from hwsearch.quantize.cache import LayerCache, digest, fingerprint_batches
from hwsearch.quantize.calibrate import ACTIVATION_BITS, OTHER_BITS, ActivationRanges
from hwsearch.quantize.compensation import compensate, paired_moments
from hwsearch.quantize.database import WEIGHT_BITS, LayerDatabase
from hwsearch.quantize.gptq import coordinate_descent
from hwsearch.quantize.grid import QuantizedWeight, uniform_levels
from hwsearch.quantize.moments import first_input
from hwsearch.quantize.rounding import Rounding
from hwsearch.quantize.trainable import RandomQuantizer, TrainableLayer

PART = 64
"""Images at once where no gradient is needed."""

Entries = Mapping[str, QuantizedWeight]


@dataclass(frozen=True)
class Reconstruction:
    """Tunes codes, scales and biases of a block together, on the error of the block's outputs.

    Blocks are residual blocks, or single layers where nothing branches. They are taken one after the other; each reads
    what the quantized ones before it give, and aims at what the float network gives there. Every width is done on its
    own, network-wide: an entry of 3 bits has seen 3 bits in all layers before it.

    First each layer is rounded anew, so that it makes up for what the quantized ones before it have changed, see
    :func:`hwsearch.quantize.compensation.compensate`. From there on all weights of a block are kept in float and
    rounded in the forward pass, with the gradient passed straight through. A step of these two that does not bring a
    block's outputs nearer on its calibration inputs is undone.

    Attributes:
        bits: Weight widths that are reconstructed; entries of others stay as they are.
        activation_bits: Width of the layers' inputs meanwhile; 32 for floats.
        rounding: Chooses the codes that make up for earlier layers.
        positions: Output positions of each batch's images by which they are.
        iterations: Of Adam, per block.
        batch_size: Images per iteration.
        quantized_share: Probability with which an activation is quantized in an iteration; others pass as floats.
        lr: Learning rate of the weights, in mean gaps between levels; it falls to 0 in the second half.
        scale_lr: Of the logarithms of the scales, and of the biases in mean magnitudes of their layer's.
        seed: Of the choice of images and of activations to quantize.

    Reference: blocks from BRECQ (Li et al. 2021, arXiv:2102.05426), activations quantized at random from QDrop (Wei et
    al. 2022, arXiv:2203.05740), weights, scales and biases tuned together straight through from AdaQuant (Hubara et al.
    2021, arXiv:2006.10518).
    """

    bits: Sequence[int] = (2, 3, 4)
    activation_bits: int = 8
    rounding: Rounding = coordinate_descent
    positions: int = 64
    iterations: int = 100
    batch_size: int = 32
    quantized_share: float = 0.5
    lr: float = 0.003
    scale_lr: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.bits or set(self.bits) - set(WEIGHT_BITS):
            raise ValueError(f"reconstruction.bits={list(self.bits)} must be some of {list(WEIGHT_BITS)}.")
        if self.activation_bits not in (*ACTIVATION_BITS, FLOAT_BITS):
            raise ValueError(
                f"reconstruction.activation_bits={self.activation_bits} must be one of {list(ACTIVATION_BITS)}, or "
                f"{FLOAT_BITS} for floats."
            )
        for name in ("positions", "iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"reconstruction.{name}={getattr(self, name)} must be at least 1.")
        if not 0 <= self.quantized_share <= 1:
            raise ValueError(f"reconstruction.quantized_share={self.quantized_share} must lie between 0 and 1.")
        for name in ("lr", "scale_lr"):
            if not (getattr(self, name) > 0 and isfinite(getattr(self, name))):
                raise ValueError(f"reconstruction.{name}={getattr(self, name)} must be positive and finite.")

    def __call__(
        self,
        network: Network,
        database: LayerDatabase,
        ranges: ActivationRanges,
        calibration: Iterable[Any],
        cache_dir: Path | None = None,
    ) -> dict[tuple[str, int, str], QuantizedWeight]:
        """A database whose entries of ``bits`` are reconstructed.

        Args:
            network: The captured float network.
            database: Where to start from, e.g. of :func:`hwsearch.quantize.build_database`.
            ranges: Grids of every tensor at ``activation_bits`` and at 8 bits; not used with float activations.
            calibration: Inputs ``[N, ...]``, or (inputs, labels) pairs whose labels are ignored.
            cache_dir: Folder of finished layers, so that an interrupted run goes on after its last finished block.

        Raises:
            ValueError: If there are no calibration inputs.
        """
        batches = [batch if isinstance(batch, Tensor) else batch[0] for batch in calibration]
        if not batches:
            raise ValueError("Reconstruction needs at least one batch of inputs; the calibration set is empty.")
        images = fingerprint_batches(network, batches) if cache_dir else ""
        found = dict(database)
        for width, form in sorted({(width, form) for _, width, form in database if width in self.bits}):
            start = {layer.name: database[layer.name, width, form] for layer in network.layers}
            tensors = [tensor for entry in start.values() for tensor in vars(entry).values()]
            cache = LayerCache(cache_dir, [self], digest(images, [*ranges.items(), *tensors]))
            walk = _Walk(self, network, ranges, start, width, torch.cat(batches))
            for block in track(find_blocks(network), f"reconstructing blocks at {width} bits"):
                make = functools.cache(partial(walk.reconstruct, block))
                for layer in block.layers:
                    parts = [network.weight(layer), layer, width, form]
                    entry = cache.get(parts, lambda layer=layer, make=make: make()[layer])  # type: ignore[misc]
                    walk.entries[layer] = found[layer, width, form] = entry
                walk.passed.append(block)
            cache.report()
        return found


class _Walk:
    """One width's way through the network; what a block reads is computed only when the block has to be reconstructed.

    Attributes:
        entries: Of the layers that are done.
        passed: Blocks that are done and that the inputs have not yet gone through.
    """

    def __init__(
        self,
        options: Reconstruction,
        network: Network,
        ranges: ActivationRanges,
        start: Entries,
        width: int,
        inputs: Tensor,
    ) -> None:
        self.options, self.network, self.ranges, self.start, self.width = options, network, ranges, start, width
        self.entries: dict[str, QuantizedWeight] = {}
        self.passed: list[Block] = []
        self._float = self._quantized = _channels_last(inputs)
        self._generator = torch.Generator()

    def reconstruct(self, block: Block) -> Entries:
        """The entries of a block's layers, tuned on what reaches the block."""
        for earlier in self.passed:
            graph = self._graph(earlier).eval()
            self._quantized = _run(graph, self._quantized, self._parameters(earlier, self.entries))
            self._float = self._target(earlier)
        self.passed.clear()
        self._generator.manual_seed(self.options.seed)
        graph, target = self._graph(block), self._target(block)

        def error(entries: Entries) -> float:
            return _error(graph, self._quantized, self._parameters(block, entries), target)

        best, least = self.start, error(self.start)
        compensated = self._compensated(block, graph.eval())
        if (found := error(compensated)) < least:
            best, least = compensated, found
        layers = [self._trainable(layer, best[layer]) for layer in block.layers]
        self._tune(graph.train(), layers, target, least or 1.0)
        tuned = {name: layer.quantized() for name, layer in zip(block.layers, layers, strict=True)}
        return tuned if error(tuned) < least else best

    def _compensated(self, block: Block, graph: GraphModule) -> Entries:
        """The entries of a block's layers, each rounded on what reaches it from the block's source."""
        options, specs = self.options, {layer.name: layer for layer in self.network.layers}
        entries = {layer: self.start[layer] for layer in block.layers}
        for layer, entry in list(entries.items()):
            pairs = self._inputs(block, graph, entries, self.network.nodes[layer])
            generator = self._generator.manual_seed(options.seed)
            moments = paired_moments(specs[layer], pairs, positions=options.positions, generator=generator)
            levels = uniform_levels(self.width) if entry.levels is None else entry.levels
            weight = self.network.weight(layer)
            entries[layer] = compensate(weight, entry, levels, moments, options.rounding)
        return entries

    def _inputs(self, block: Block, graph: GraphModule, entries: Entries, node: str) -> Iterator[tuple[Tensor, Tensor]]:
        """What a layer of a block reads in the float and in the quantized network, in parts."""
        real, real_parameters = self._float_graph(block), self._float_parameters(block)
        parameters = self._parameters(block, entries)
        for x, y in zip(torch.split(self._float, PART), torch.split(self._quantized, PART), strict=True):
            yield first_input(real, [x, *real_parameters], node), first_input(graph, [y, *parameters], node)

    def _tune(self, graph: GraphModule, layers: Sequence[TrainableLayer], target: Tensor, unit: float) -> None:
        options = self.options
        factors = [parameter for layer in layers for parameter in (layer.log_factor, layer.correction)]
        groups = [{"params": [layer.steps], "lr": options.lr * layer.gap} for layer in layers]
        optimizer = torch.optim.Adam([*groups, {"params": factors, "lr": options.scale_lr}])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, 2 * (1 - i / options.iterations)))
        for _ in range(options.iterations):
            chosen = torch.randint(len(target), (options.batch_size,), generator=self._generator)
            parameters = [value for layer in layers for value in (layer.weight(), layer.bias())]
            loss = F.mse_loss(graph(self._quantized[chosen], *parameters), target[chosen]) / unit
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()

    def _graph(self, block: Block) -> GraphModule:
        """A block with quantized activations."""
        integer = self.options.activation_bits < FLOAT_BITS

        def quantizer(tensor: str, layer: str | None) -> RandomQuantizer:
            bits = self.options.activation_bits if layer else OTHER_BITS
            grid = self.ranges[tensor, bits]
            return RandomQuantizer(grid, self.options.quantized_share, self._generator)

        return block_graph(self.network, block, quantizer if integer else lambda tensor, layer: None)

    def _float_graph(self, block: Block) -> GraphModule:
        return block_graph(self.network, block, lambda tensor, layer: None)

    def _target(self, block: Block) -> Tensor:
        """What the float network computes."""
        return _run(self._float_graph(block), self._float, self._float_parameters(block))

    def _float_parameters(self, block: Block) -> list[Tensor | None]:
        return [value for layer in block.layers for value in (self.network.weight(layer), self._bias(layer))]

    def _parameters(self, block: Block, entries: Entries) -> list[Tensor | None]:
        """Weights and biases of a block's layers."""
        found: list[Tensor | None] = []
        for layer in block.layers:
            bias = self._bias(layer)
            found += [entries[layer].dequantize(), None if bias is None else entries[layer].correct_bias(bias)]
        return found

    def _trainable(self, layer: str, entry: QuantizedWeight) -> TrainableLayer:
        return TrainableLayer(self.network.weight(layer), self._bias(layer), entry, self.width)

    def _bias(self, layer: str) -> Tensor | None:
        node = self.network.node(layer)
        return parameter(self.network.graph, node, 2) if len(node.args) > 2 and node.args[2] is not None else None


def _run(graph: GraphModule, inputs: Tensor, parameters: Sequence[Tensor | None]) -> Tensor:
    """All images, in parts."""
    with torch.no_grad():
        return _channels_last(torch.cat([graph(part, *parameters) for part in torch.split(inputs, PART)]))


def _error(graph: GraphModule, inputs: Tensor, parameters: Sequence[Tensor | None], target: Tensor) -> float:
    """Mean squared error with all activations quantized."""
    return float(F.mse_loss(_run(graph.eval(), inputs, parameters), target))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
