"""Weights that make up for what quantization has changed before them: a layer is rounded on what really reaches it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cost_models import LayerSpec
from hwsearch.quantize.correction import least_squares
from hwsearch.quantize.grid import QuantizedWeight, in_steps
from hwsearch.quantize.moments import InputMoments, patches
from hwsearch.quantize.rounding import Rounding

DAMPINGS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Shares of a covariance's mean diagonal that may be added to it; the more samples there are, the less it takes."""

SHARES = (0.85, 0.92, 1.0, 1.08, 1.17)
"""Of an entry's scales: those at which codes are chosen. Channels of few weights are the better for a choice."""


@dataclass(frozen=True)
class PairedMoments:
    """Moments of a layer's inputs x in the float network and y in the quantized one, at the same places.

    Attributes:
        quantized: Of y.
        mean: Of x, float32 ``[G, n]``; 0 for a layer without a bias.
        shift: Covariance of ``x - y`` with y, float32 ``[G, n, n]``.
    """

    quantized: InputMoments
    mean: Tensor
    shift: Tensor

    def change(self, weight: Tensor, damping: float) -> Tensor:
        """What to add to weights w ``[O, ...]`` so that they give with y what w gives with x: ``w shift cov(y)^-1``."""
        through = torch.bmm(self._rows(weight), self.shift).double()
        covariance = self.quantized.damped(damping).double()
        change: Tensor = torch.linalg.solve(covariance, through, left=False)
        return change.float().view(weight.shape)

    def gain(self, weight: Tensor, change: Tensor) -> float:
        """By how much a change lowers the squared error of the outputs, summed: ``2 w shift d - d cov(y) d``."""
        rows, change = self._rows(weight), self._rows(change)
        slope = 2 * torch.bmm(rows, self.shift) - torch.bmm(change, self.quantized.covariance)
        return float((slope * change).sum())

    def errors(self, weight: Tensor, other: Tensor) -> Tensor:
        """Variance of what other weights give with y less what these do, ``[O]``."""
        rows = self._rows(weight - other)
        return (torch.bmm(rows, self.quantized.covariance) * rows).sum(2).flatten()

    def output_shift(self, weight: Tensor, quantized: Tensor) -> Tensor:
        """Mean of ``w x - q y``, which a bias can take back, ``[O]``."""
        pairs = ((weight, self.mean), (quantized, self.quantized.mean))
        real, found = (torch.bmm(self._rows(values), mean.unsqueeze(2)).flatten() for values, mean in pairs)
        return real - found

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.reshape(len(self.shift), -1, self.shift.shape[1])


def paired_moments(
    layer: LayerSpec, inputs: Iterable[tuple[Tensor, Tensor]], *, positions: int, generator: torch.Generator
) -> tuple[PairedMoments, PairedMoments, PairedMoments]:
    """Moments over a calibration set, and over the first and the second half of each of its batches.

    Args:
        layer: The layer.
        inputs: Batches of its input in the float and in the quantized network, at least one.
        positions: Output positions of each batch's images that are looked at, if there are more.
        generator: Of the choice of positions.
    """
    halves: tuple[list[list[Tensor]], ...] = ([], [])
    for pair in inputs:
        rows = patches(layer, torch.cat(pair), positions, generator).chunk(2, 1)  # [G, S, n] each
        for sums, *part in zip(halves, *(values.tensor_split(2, 1) for values in rows), strict=True):
            sums.append(_sums(*part))
    first, second = ([torch.stack(terms).sum(0) for terms in zip(*sums, strict=True)] for sums in halves)
    both = [one + other for one, other in zip(first, second, strict=True)]
    return _moments(layer, both), _moments(layer, first), _moments(layer, second)


def _sums(x: Tensor, y: Tensor) -> list[Tensor]:
    products = (torch.bmm(values.transpose(1, 2), y).double() for values in (y, x - y))
    return [torch.tensor(float(x.shape[1])), x.sum(1).double(), y.sum(1).double(), *products]


def _moments(layer: LayerSpec, sums: Sequence[Tensor]) -> PairedMoments:
    count = sums[0].clamp(min=1)
    x, y, square, shift = (term / count for term in sums[1:])
    if not layer.bias:
        x, y = torch.zeros_like(x), torch.zeros_like(y)
    covariance = square - y.unsqueeze(2) * y.unsqueeze(1)
    shift = shift - (x - y).unsqueeze(2) * y.unsqueeze(1)
    return PairedMoments(InputMoments(y.float(), covariance.float(), float(sums[0])), x.float(), shift.float())


def compensate(
    weight: Tensor,
    entry: QuantizedWeight,
    levels: Tensor,
    moments: tuple[PairedMoments, PairedMoments, PairedMoments],
    rounding: Rounding,
) -> QuantizedWeight:
    """Choose codes, scales and the change of the bias of a layer anew, on the grid of an entry.

    Each half of the calibration set says how much damping the weights fitted to the other one need.

    Args:
        weight: Float weights ``[O, ...]``.
        entry: Its scales are where the search for better ones starts.
        levels: int8 ``[L]``, increasing.
        moments: Of the layer's inputs over the whole calibration set, and over each half.
        rounding: Chooses the codes.

    Reference: the objective is that of Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric
    Calibration", arXiv:2504.02692; here its least squares solution is found first and rounded then.
    """
    whole, first, second = moments

    def gain(damping: float) -> float:
        return sum(other.gain(weight, one.change(weight, damping)) for one, other in ((first, second), (second, first)))

    damping = max(DAMPINGS, key=gain)
    target = weight + whole.change(weight, damping) if gain(damping) > 0 else weight
    rounded = [_rounded(target, entry, entry.scale * share, levels, whole, rounding) for share in SHARES]
    best = _best_of_each_output(rounded, [whole.errors(target, one.dequantize()) for one in rounded])
    return replace(best, bias_correction=whole.output_shift(weight, best.dequantize()))


def _rounded(
    target: Tensor, entry: QuantizedWeight, scale: Tensor, levels: Tensor, moments: PairedMoments, rounding: Rounding
) -> QuantizedWeight:
    """Codes on a grid, and the scales of least squared output error that go with them."""
    codes = rounding(in_steps(target, scale), levels, lambda: moments.quantized)
    return least_squares(target, replace(entry, codes=codes.to(torch.int8), scale=scale), lambda: moments.quantized)


def _best_of_each_output(candidates: Sequence[QuantizedWeight], errors: Sequence[Tensor]) -> QuantizedWeight:
    """The candidate of least error of each output, or of all where they share one scale."""
    error = torch.stack(list(errors))  # [K, O]
    if len(candidates[0].scale) == 1:
        error = error.sum(1, keepdim=True).expand_as(error)
    best = error.argmin(0)
    codes = torch.stack([one.codes for one in candidates])[best, torch.arange(len(best))]
    scales = torch.stack([one.scale for one in candidates])  # [K, O], [K, 1] or [K, O, G]
    rows = best[: scales.shape[1]]
    return replace(candidates[0], codes=codes, scale=scales[rows, torch.arange(len(rows))])
