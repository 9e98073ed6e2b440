"""From one layer's float weights to its codes: range, rounding, corrections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from cost_models import WeightFormat
from hwsearch.quantize.codebook import Codebook, power_codebook
from hwsearch.quantize.correction import Correction, match_deviation
from hwsearch.quantize.grid import QuantizedWeight, in_steps, uniform_levels, weight_scale
from hwsearch.quantize.moments import Moments
from hwsearch.quantize.range import RangeEstimator
from hwsearch.quantize.rounding import Rounding, nearest
from hwsearch.quantize.squant import squant

Granularity = Literal["per_tensor", "per_channel", "per_group"]

GRANULARITIES: tuple[Granularity, ...] = ("per_tensor", "per_channel", "per_group")

DATA_FREE: tuple[Callable[..., Any], ...] = (nearest, squant, match_deviation)
"""Roundings and corrections that ask for no moments; any other may."""


@dataclass(frozen=True)
class LayerQuantizer:
    """Quantizes the weights of one layer at one width.

    Attributes:
        estimator: Range estimator; it sees ``[O, N]`` per channel, ``[1, O N]`` per tensor, ``[O G, N / G]`` per group.
        granularity: Whether a layer, an output channel, or a group of a channel's weights has a range of its own.
        group_size: Most weights of a group; the largest divisor of a channel's weights up to here is taken.
        hessian_weighted: Whether the estimator weighs squared errors by the mean square of the input they multiply.
        codebook: Chooses the levels of ``weight_format="codebook"``.
        codebook_bits: Widths at which ``weight_format="uniform"`` is a codebook, too: at 2 bits the narrow grid leaves
            one of four levels out.
        rounding: Chooses the codes.
        corrections: Applied to the codes in this order.
    """

    estimator: RangeEstimator
    granularity: Granularity = "per_channel"
    group_size: int = 64
    hessian_weighted: bool = False
    codebook: Codebook = power_codebook
    codebook_bits: Sequence[int] = ()
    rounding: Rounding = nearest
    corrections: Sequence[Correction] = ()

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"granularity is one of {list(GRANULARITIES)}, not '{self.granularity}'.")
        if self.group_size < 1:
            raise ValueError(f"group_size={self.group_size} must be at least 1.")

    @property
    def data_free(self) -> bool:
        """Whether the result surely does not depend on the calibration set."""
        return not self.hessian_weighted and all(
            (step.func if isinstance(step, partial) else step) in DATA_FREE
            for step in (self.rounding, *self.corrections)
        )

    def __call__(self, weight: Tensor, bits: int, weight_format: WeightFormat, moments: Moments) -> QuantizedWeight:
        """Codes and scales of float weights ``[O, ...]`` at 2 to 8 bits."""
        rows = self._rows(weight)
        importance = self._rows(self._importance(weight, moments)) if self.hessian_weighted else None
        levels = uniform_levels(bits)
        clip = self.estimator(rows, bits, importance).clip
        scale = weight_scale(clip, int(levels[-1]))
        coded = weight_format == "codebook" or bits in self.codebook_bits
        if coded:
            levels, scale = self.codebook(rows, clip, bits)
        scale = scale.view(len(weight), -1) if self.granularity == "per_group" else scale
        codes = self.rounding(in_steps(weight, scale), levels, moments)
        table = levels if coded else None
        quantized = QuantizedWeight(codes.to(torch.int8), scale, table)
        for correction in self.corrections:
            quantized = correction(weight, quantized, moments)
        return quantized

    def _rows(self, weight: Tensor) -> Tensor:
        """Weights that share a range, one row each."""
        if self.granularity == "per_tensor":
            return weight.reshape(1, -1)
        rows = weight.reshape(len(weight), -1)
        if self.granularity == "per_channel":
            return rows
        size = max(size for size in range(1, self.group_size + 1) if rows.shape[1] % size == 0)
        return rows.reshape(-1, size)

    def _importance(self, weight: Tensor, moments: Moments) -> Tensor:
        """Mean square of the input that each weight multiplies, in the shape of the weights."""
        found = moments()
        square = found.covariance.diagonal(dim1=1, dim2=2) + found.mean.square()  # [G, n]
        return square.repeat_interleave(len(weight) // len(square), 0).view(weight.shape)
