"""What layers read: mean and covariance of their inputs over the calibration set."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from cost_models import LayerSpec
from hwsearch.graph import Network
from hwsearch.progress import track

NOISE = 1e-5
"""What float32 sums lose of a covariance, relative to the squared mean that is subtracted: a hundred times eps."""


@dataclass(frozen=True)
class InputMoments:
    """Moments of the values that one output of a layer multiplies, n of them in each of G groups.

    With weights ``w`` of one output and quantized ones ``q``, the mean of its error is ``(w - q) mean``, which a bias
    can take back, and what is left has the variance ``(w - q) covariance (w - q)``. Of a layer without a bias the mean
    is 0 and the covariance the second moment, since nothing takes the mean back.

    Attributes:
        mean: float32 ``[G, n]``, in the order of the flattened weights of one output.
        covariance: float32 ``[G, n, n]``.
        samples: How many they are the moments of; infinity where they are known exactly.
    """

    mean: Tensor
    covariance: Tensor
    samples: float = inf

    def damped(self, share: float) -> Tensor:
        """Covariance with ``share`` of its mean diagonal added to the diagonal, positive definite, ``[G, n, n]``.

        Before that it is shrunk as far as its samples are few: errors must not be moved to where these happen to be 0.
        """
        covariance = self._shrunk()
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        noise = NOISE * self.mean.square().mean(1, keepdim=True)
        floor = torch.finfo(diagonal.dtype).tiny ** 0.5
        added = (share * diagonal.mean(1, keepdim=True) + noise).clamp(min=floor)
        return covariance + torch.diag_embed(added.expand_as(diagonal))

    def _shrunk(self) -> Tensor:
        """Mixed with its mean diagonal as is best for independent Gaussian samples.

        "Oracle approximating shrinkage" of Chen et al. 2010, "Shrinkage Algorithms for MMSE Covariance Estimation",
        IEEE Trans. Signal Processing 58 (10), eq. (23), with the terms in 2 / n that scikit-learn's ``oas`` leaves out.
        """
        n = self.covariance.shape[1]
        diagonal = self.covariance.diagonal(dim1=1, dim2=2)
        total, square = diagonal.sum(1).square(), self.covariance.square().sum((1, 2))  # tr(S)^2, tr(S^2)
        spread = (self.samples + 1 - 2 / n) * (square - total / n)
        share = torch.where(spread > 0, ((1 - 2 / n) * square + total) / spread, 1.0).clamp(0, 1).view(-1, 1, 1)
        target = torch.diag_embed(diagonal.mean(1, keepdim=True).expand_as(diagonal))
        return torch.lerp(self.covariance, target, share)


Moments = Callable[[], InputMoments]
"""Moments of one layer's inputs; they are computed when a method first asks for them."""


def lazy_moments(network: Network, batches: Iterable[Any] | None) -> Callable[[str], InputMoments]:
    """Moments by layer name, all of them computed at the first call.

    Raises:
        ValueError: When called, if ``batches`` is None.
    """

    @cache
    def computed() -> dict[str, InputMoments]:
        if batches is None:
            raise ValueError("This quantizer needs calibration inputs: pass calibration=, batches of inputs.")
        return input_moments(network, batches)

    return lambda layer: computed()[layer]


def input_moments(
    network: Network, batches: Iterable[Any], *, positions: int = 64, seed: int = 0
) -> dict[str, InputMoments]:
    """Mean and covariance of every layer's inputs in the float network.

    Args:
        network: The captured float network.
        batches: Calibration inputs ``[N, ...]``, or (inputs, labels) pairs whose labels are ignored.
        positions: Output positions (pixels, tokens) of each batch's images that are looked at, if there are more.
        seed: Of the choice of positions.

    Raises:
        ValueError: If there are no inputs.
    """
    layers = {network.nodes[layer.name]: layer for layer in network.layers}
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def see(node: Node, x: Tensor) -> None:
        layer = layers[node.name]
        rows = patches(layer, x, positions, generator)  # [G, S, n]
        found = (rows.sum(1).double(), torch.bmm(rows.transpose(1, 2), rows).double(), rows.shape[1])
        total, second, count = sums.get(layer.name, (0, 0, 0))
        sums[layer.name] = (found[0] + total, found[1] + second, found[2] + count)

    for batch in track(batches, "calibrating layer inputs"):
        inputs = batch if isinstance(batch, Tensor) else batch[0]
        observe(network.graph, [inputs], set(layers), see)
    if not sums:
        raise ValueError("Calibration needs at least one batch of inputs; the calibration set is empty.")
    return {layer.name: _moments(layer, *sums[layer.name]) for layer in network.layers}


def _moments(layer: LayerSpec, total: Tensor, second: Tensor, count: int) -> InputMoments:
    mean = total / count if layer.bias else torch.zeros_like(total)
    covariance = second / count - mean.unsqueeze(2) * mean.unsqueeze(1)
    return InputMoments(mean.float(), covariance.float(), count)


def observe(
    graph: GraphModule, inputs: Sequence[Tensor | None], nodes: Collection[str], see: Callable[[Node, Tensor], None]
) -> None:
    """Run a graph and show the first argument of each of the named nodes."""

    class Observer(Interpreter):
        def run_node(self, n: Node) -> Any:
            if n.name in nodes:
                see(n, self.fetch_args_kwargs_from_env(n)[0][0])
            return super().run_node(n)

    with torch.inference_mode():
        Observer(graph).run(*inputs)


def first_input(graph: GraphModule, inputs: Sequence[Tensor | None], node: str) -> Tensor:
    """What one node of a graph reads."""
    found: list[Tensor] = []
    observe(graph, inputs, {node}, lambda _, x: found.append(x))
    return found[0]


def patches(layer: LayerSpec, x: Tensor, positions: int, generator: torch.Generator) -> Tensor:
    """What some outputs of a layer multiply by its weights.

    Args:
        layer: The layer.
        x: Its input: ``[N, C, H, W]`` of a convolution, ``[..., n]`` of a linear layer.
        positions: Output positions per image, chosen anew at each call, the same for all its images.
        generator: Of the choice.

    Returns:
        ``[G, S, n]``, n in the order of the flattened weights of one output.
    """
    if layer.op == "linear":
        tokens = x.reshape(len(x), -1, layer.in_channels)  # [N, T, n]
        return tokens[:, _chosen(tokens.shape[1], positions, generator)].reshape(1, -1, layer.in_channels)
    width = layer.out_size[1]
    chosen = _chosen(layer.out_size[0] * width, positions, generator)
    rows = _taps(torch.div(chosen, width, rounding_mode="floor"), layer, 0)  # [P, kh]
    columns = _taps(chosen % width, layer, 1)  # [P, kw]
    padded = F.pad(x, (*_padding(layer, 1), *_padding(layer, 0)))
    taps = padded[:, :, rows.unsqueeze(2), columns.unsqueeze(1)]  # [N, C, P, kh, kw]
    n = layer.in_channels // layer.groups * layer.kernel[0] * layer.kernel[1]
    grouped = taps.view(len(x), layer.groups, -1, *taps.shape[2:])  # [N, G, C / G, P, kh, kw]
    return grouped.permute(1, 0, 3, 2, 4, 5).reshape(layer.groups, -1, n)


def _chosen(count: int, at_most: int, generator: torch.Generator) -> Tensor:
    return torch.arange(count) if count <= at_most else torch.randperm(count, generator=generator)[:at_most]


def _taps(outputs: Tensor, layer: LayerSpec, axis: int) -> Tensor:
    """Padded input coordinates that an output coordinate reads, ``[P]`` -> ``[P, kernel]``."""
    return outputs.unsqueeze(1) * layer.stride[axis] + torch.arange(layer.kernel[axis]) * layer.dilation[axis]


def _padding(layer: LayerSpec, axis: int) -> tuple[int, int]:
    """Zeros before and after: 'same' padding of an even kernel has one more after."""
    reach = (layer.out_size[axis] - 1) * layer.stride[axis] + layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
    before = layer.padding[axis]
    return before, max(0, reach - layer.in_size[axis] - before)
