"""Quantized weights and activations that gradient descent can tune."""

import torch
from torch import Tensor, nn

from hwsearch.quantize.grid import ActivationGrid, QuantizedWeight, from_steps, in_steps, nearest_level, uniform_levels

MARGIN = 0.02
"""Distance, in gaps between levels, that a weight keeps at first from where its code would change."""


class RandomQuantizer(nn.Module):
    """Quantizes each value with a probability, and passes the gradient straight through.

    Reference: Wei et al. 2022, "QDrop", arXiv:2203.05740.

    Args:
        grid: Where values are quantized to.
        probability: 1 quantizes all.
        generator: Of the choice.
    """

    def __init__(self, grid: ActivationGrid, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self.grid, self.probability, self.generator = grid, probability, generator

    def forward(self, x: Tensor) -> Tensor:
        """``x``, of any shape; all of it is quantized in evaluation mode."""
        error = self.grid.quantize(x.detach()).sub_(x.detach())
        if self.training and self.probability < 1:
            error *= torch.rand(x.shape, generator=self.generator) < self.probability
        return x + error


class TrainableLayer(nn.Module):
    """Weights that are kept in float and rounded to their levels, factors of their scales, and a change of the bias.

    Args:
        weight: Float weights ``[O, ...]``.
        bias: Float bias ``[O]``, or None.
        entry: Where to start from. A weight starts at its float value, or as near as its code lets it.
        bits: Width of the entry.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, entry: QuantizedWeight, bits: int) -> None:
        super().__init__()
        self.float_bias, self.entry = bias, entry
        self.levels = (uniform_levels(bits) if entry.levels is None else entry.levels).float()
        self.gap = float(self.levels[-1] - self.levels[0]) / (len(self.levels) - 1)
        lowest, highest = self._cells(entry.codes.float())
        inset = MARGIN * self.gap
        steps = in_steps(weight, entry.scale)
        self.steps = nn.Parameter(steps.maximum(lowest + inset).minimum(highest - inset))
        self.log_factor = nn.Parameter(torch.zeros_like(entry.scale))
        start = torch.zeros(len(weight)) if entry.bias_correction is None else entry.bias_correction
        self.unit = (0.0 if bias is None else float(bias.abs().mean())) or 1.0
        self.correction = nn.Parameter(start / self.unit)

    def _cells(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Between which values each code is the nearest; the outermost levels end their cells."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        bounds = torch.cat([self.levels[:1], middles, self.levels[-1:]])
        index = torch.searchsorted(self.levels, codes)
        return bounds[index], bounds[index + 1]

    def weight(self) -> Tensor:
        """Dequantized weights; their gradient is that of the weights before rounding."""
        steps = self.steps.detach()
        rounded = self.steps + (nearest_level(steps, self.levels) - steps)
        return from_steps(rounded, self.entry.scale * self.log_factor.exp())

    def bias(self) -> Tensor | None:
        """The changed bias; None where there is none."""
        return None if self.float_bias is None else self.float_bias + self.unit * self.correction

    def quantized(self) -> QuantizedWeight:
        """Codes, scales and the change of the bias."""
        codes = nearest_level(self.steps.detach(), self.levels).to(torch.int8)
        scale = self.entry.scale * self.log_factor.detach().exp()
        correction = None if self.float_bias is None else self.unit * self.correction.detach()
        return QuantizedWeight(codes, scale, self.entry.levels, correction)
