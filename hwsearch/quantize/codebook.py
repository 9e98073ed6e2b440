"""Levels that are not evenly spaced: at most ``2**bits`` int8 values per layer, times the scales of its channels."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

INT8_MAX = 127

BINS = 2**12
"""Of the histogram from which levels are chosen; at 4 bits, a hundred or more lie between two levels."""

TINY = 2.0**-64
"""Scale of rows of zeros: their codes are not 0 where no level is."""

STARTS = (0.7, 0.85, 1.0, 1.2, 1.4)
"""Shares of a row's first scale from which a better one is sought."""

DESCENTS = 3
"""Each takes the scale of least squared error for the codes that the last one gave."""

BLOCK = 2**18
"""Weights and levels handled at once; a few such float64 arrays fit into a cache."""


class Codebook(Protocol):
    """How the levels of a layer are chosen."""

    def __call__(self, rows: Tensor, clip: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """Choose the levels of one layer and the scales of its rows.

        Args:
            rows: Weights that share a scale, ``[C, N]``.
            clip: Range of each row on the uniform grid, ``[C]``; 0 where all its weights are 0.
            bits: 2 to 8.

        Returns:
            Levels, int8 ``[L]``, increasing, ``L <= 2**bits``; and scales, float32 ``[C]``.
        """
        ...


def power_codebook(
    rows: Tensor, clip: Tensor, bits: int, *, powers: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
) -> tuple[Tensor, Tensor]:
    """Levels that are evenly spaced after the transform ``sign(w) |w|^p``.

    Stated in the paper: a reshaping transform that allocates quantization intervals non-uniformly, and a search of the
    range in the transformed space. Read into it here: the transform is a power, p is searched jointly with the clipping
    point, and weights go to the nearest level in weight space. Both the narrow grid of ``2^bits - 1`` levels around 0
    and the one of ``2^bits`` levels without 0 are tried; the error of the whole layer decides.

    Reference: Quantization Range Estimation for Convolutional Neural Networks, 2025, arXiv:2510.04044.
    """
    histogram = _histogram(rows.abs(), clip)
    half = 2 ** (bits - 1)
    steps = torch.arange(half, dtype=torch.float64)
    grids = [steps / (half - 1), (steps + 0.5) / (half - 0.5)]
    magnitudes = _int8(torch.stack([grid ** (1 / power) for power in powers for grid in grids]))  # [T, half]
    shares = torch.linspace(0.4, 1.6, 49, dtype=torch.float64)  # of the clipping point on the uniform grid
    tables = shares.view(1, -1, 1) * magnitudes.unsqueeze(1) / INT8_MAX  # [T, 49, half]
    products, squares = histogram.sums(tables.view(1, -1, half))
    choice, share = divmod(int((squares - 2 * products).argmin()), len(shares))
    chosen = magnitudes[choice]
    levels = torch.unique(torch.cat([-chosen, chosen]))
    return levels, _fitted(rows, levels, shares[share] * clip)


def lloyd_max(rows: Tensor, clip: Tensor, bits: int, *, iterations: int = 100) -> tuple[Tensor, Tensor]:
    """Levels of least squared error wherever they lie, by Lloyd's algorithm from the power codebook's.

    Only the rounding to int8 and one table for all rows keep it from the bound.

    Reference: Lloyd 1982, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (2).
    """
    histogram = _histogram(rows, clip)
    start, scale = power_codebook(rows, clip, bits)
    levels = start.double() * float((scale / clip)[clip > 0].mean().nan_to_num(1))
    for _ in range(iterations):
        mass, total = (taken.flatten() for taken in histogram.taken(levels.view(1, 1, -1)))
        levels = torch.where(mass > 0, total / mass.clamp(min=torch.finfo(mass.dtype).tiny), levels)
    largest = float(levels.abs().max())
    rounded = torch.unique(_int8(levels / largest))
    return rounded, _fitted(rows, rounded, largest * clip)


def _histogram(rows: Tensor, clip: Tensor) -> "_Sorted":
    """Values relative to their row's range, and the squared range by which their errors count, by bins."""
    used = clip.double().clamp(min=torch.finfo(clip.dtype).tiny).unsqueeze(1)
    share = (rows / used).flatten()
    square = used.square().expand_as(rows).flatten()
    width = float(share.max() - share.min()) / BINS or 1.0
    index = ((share - share.min()) / width).long().clamp_(max=BINS - 1)
    counts = torch.bincount(index, square, BINS)
    total = torch.bincount(index, square * share, BINS)
    kept = counts > 0
    return _Sorted.of((total[kept] / counts[kept]).unsqueeze(0), counts[kept])


@dataclass(frozen=True)
class _Sorted:
    """Rows of values in increasing order, with running sums that give the error at any levels from these alone.

    Attributes:
        values: ``[C, N]``.
        counts: Of the values before each and of all, float64 ``[C, N + 1]``.
        totals: Their sums, float64 ``[C, N + 1]``.
    """

    values: Tensor
    counts: Tensor
    totals: Tensor

    @classmethod
    def of(cls, values: Tensor, counts: Tensor) -> "_Sorted":
        """Of values ``[C, N]``, increasing, and how much each counts, ``[N]`` or ``[]``."""
        running = (pad(terms.cumsum(1), (1, 0)) for terms in (counts.expand_as(values), values * counts))
        return cls(values, *running)

    def sums(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """``sum(w q)`` and ``sum(q^2)`` where each value w takes the nearest q of levels ``[C, K, L]``, ``[C, K]``.

        The squared error is the second less twice the first plus ``sum(w^2)``.
        """
        counts, totals = self.taken(levels)
        return (totals * levels).sum(2), (counts * levels.square()).sum(2)

    def taken(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """How many values each level is nearest to and their sum, ``[C, K, L]``; ties go to the smaller level."""
        middles = (levels[..., 1:] + levels[..., :-1]).div_(2).flatten(1).to(self.values.dtype)
        ends = torch.searchsorted(self.values, middles, right=True)  # [C, K (L - 1)]
        return self._between(self.counts, ends, levels.shape), self._between(self.totals, ends, levels.shape)

    @staticmethod
    def _between(running: Tensor, ends: Tensor, shape: torch.Size) -> Tensor:
        """Differences of a running sum from end to end, in the shape of the levels."""
        inner = running.gather(1, ends).view(*shape[:2], -1)
        whole = running[:, -1:].unsqueeze(2).expand(-1, shape[1], -1)
        return torch.cat([inner, whole], 2).diff(dim=2, prepend=torch.zeros_like(whole))


def _fitted(rows: Tensor, levels: Tensor, clip: Tensor) -> Tensor:
    """Scales of least squared error for given levels, float32 ``[C]``: the best of several descents."""
    first = torch.where(clip > 0, clip.double() / INT8_MAX, TINY)
    size = max(1, BLOCK // (rows.shape[1] + len(STARTS) * len(levels)))
    parts = zip(torch.split(rows, size), torch.split(first, size), strict=True)
    return torch.cat([_descended(*part, levels.double()) for part in parts])


def _descended(rows: Tensor, first: Tensor, levels: Tensor) -> Tensor:
    """As :func:`_fitted`, for as many rows as are sorted at once."""
    ordered = torch.from_numpy(np.sort(rows.numpy(), axis=1))  # in a fifth of the time that torch takes
    weights = _Sorted.of(ordered, torch.ones((), dtype=torch.float64))
    scale = first.unsqueeze(1) * torch.tensor(STARTS, dtype=torch.float64)  # [C, K]
    for _ in range(DESCENTS):
        products, squares = weights.sums(scale.unsqueeze(2) * levels)
        scale = torch.where((products > 0) & (squares > 0), scale * products / squares, scale)
    products, squares = weights.sums(scale.unsqueeze(2) * levels)
    best = (squares - 2 * products).argmin(1, keepdim=True)
    return scale.gather(1, best).squeeze(1).float()


def _int8(shares: Tensor) -> Tensor:
    return (shares * INT8_MAX).round().to(torch.int8)
