"""The interval that a quantizer covers, and the estimators that need no error measure.

A range estimator is a function ``(x, bits, counts=None) -> Range``. Weights come as they are, one row per channel (or
one row in all); activations come as a histogram: ``x`` its bin centres and ``counts`` how many values each bin holds.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Range:
    """Bounds of the representable interval, ``lo <= 0 <= hi``, each ``[C]``."""

    lo: Tensor
    hi: Tensor

    @property
    def clip(self) -> Tensor:
        """Half-width of the smallest symmetric interval that holds the range, ``[C]``."""
        return torch.maximum(-self.lo, self.hi)


class RangeEstimator(Protocol):
    """How a range is chosen."""

    def __call__(self, x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
        """Choose one range per row of ``x`` ``[C, N]``."""
        ...


def symmetric(clip: Tensor) -> Range:
    """The range ``[-clip, clip]``."""
    return Range(-clip, clip)


def weight_samples(x: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Magnitudes of weights and how much each counts (1 by default), float64 ``[C, N]``."""
    return x.abs().double(), torch.ones_like(x, dtype=torch.float64) if counts is None else counts.double()


def minmax(x: Tensor, bits: int, counts: Tensor | None = None) -> Range:
    """Cover every value.

    Args:
        x: Samples ``[C, N]``, or bin centres.
        bits: Not used: the range is the same at every width.
        counts: Values per bin, ``[C, N]``; empty bins are ignored.
    """
    if counts is not None:
        x = torch.where(counts > 0, x, torch.zeros_like(x))
    return Range(x.amin(1).clamp(max=0), x.amax(1).clamp(min=0))


def percentile(x: Tensor, bits: int, counts: Tensor | None = None, *, q: float = 99.99) -> Range:
    """Clip each row to its central ``q`` percent of values.

    Args:
        x: Samples ``[C, N]``, or bin centres.
        bits: Not used: the range is the same at every width.
        counts: Values per bin, ``[C, N]``.
        q: Kept share in percent, ``50 < q <= 100``.

    Raises:
        ValueError: If ``q`` is outside its interval.

    Reference: Wu et al. 2020, arXiv:2004.09602.
    """
    if not 50 < q <= 100:
        raise ValueError(f"percentile keeps a share q in percent with 50 < q <= 100, not {q}.")
    order = x.sort(dim=1)
    weight = torch.ones_like(x) if counts is None else counts.to(x.dtype).gather(1, order.indices)
    share = weight.double().cumsum(1) / weight.double().sum(1, keepdim=True)
    tail = (1 - q / 100) / 2
    # The epsilon keeps q = 100 from being lost to the rounding of the cumulative sum.
    last = x.shape[1] - 1
    lo = order.values.gather(1, (share <= tail).sum(1, keepdim=True).clamp(max=last)).squeeze(1)
    hi = order.values.gather(1, (share < 1 - tail - 1e-12).sum(1, keepdim=True).clamp(max=last)).squeeze(1)
    return Range(lo.clamp(max=0), hi.clamp(min=0))
