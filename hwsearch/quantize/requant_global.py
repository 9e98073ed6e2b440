"""The weight range of least squared error among all, not a local minimum."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric

LONG_ROW = 2**16
"""A row of more weights is searched by its histogram; no output channel of a known network is longer."""

BINS = 2**14
"""Of that histogram, on a square-root scale: at 8 bits a step of the grid spans a hundred of them or more."""

BLOCK = 2**16
"""Weights evaluated at once; two such float32 arrays fit into a core's cache."""

SHARES = torch.tensor([0.997, 0.99, 0.98, 0.96, 0.93, 0.88, 0.8, 0.65, 0.45, 0.25, 0.1, 0.03, 0.01])
"""Shares of the largest weight at which the error of clipping alone is known."""

ROUGH = torch.tensor([1.0, 0.7, 0.45, 0.25, 0.1])
"""Shares that bound the least error from above; one of them is near the best at any width."""


def requant_global(x: Tensor, bits: int, counts: Tensor | None = None, *, points: int = 24) -> Range:
    """Global optimum of the exact squared error over the clipping point, at one width.

    Args:
        x: Weights ``[C, N]``.
        bits: 2 to 8.
        counts: Weight of each squared error, ``[C, N]``, e.g. a diagonal Hessian; all 1 if None.
        points: As for :func:`global_ranges`.

    Returns:
        Symmetric bounds, each ``[C]``.
    """
    return global_ranges(x, (bits,), counts, points=points)[0]


def global_ranges(
    x: Tensor, bits: Sequence[int], counts: Tensor | None = None, *, points: int = 24
) -> tuple[Range, ...]:
    """Global optimum of the exact squared error over the clipping point, at several widths at once.

    The error has a minimum for nearly every assignment of weights to levels: few matter in a long row at few bits, tens
    in a channel at 6 to 8 bits. Clipping errors alone exclude every clipping point below a bound; above it, ``points``
    candidates find the valleys, the three deepest are searched again twice at a quarter of the spacing, and the least
    squares scale of the final assignment, ``sum(w q) / sum(q^2)``, is the bottom of its own. A short row gets as many
    more candidates as it has fewer weights, up to 1,024. A row of more than 65,536 weights is replaced by the counts
    and means of 16,384 bins, which changes the error by less than ``1.5 (bin / step)^2`` of itself.

    Args:
        x: Weights ``[C, N]``.
        bits: Widths, each 2 to 8.
        counts: Weight of each squared error, ``[C, N]``; all 1 if None.
        points: Candidates per row of at least 400 weights in the first pass.

    Returns:
        Symmetric bounds per width, each ``[C]``.
    """
    magnitudes = x.abs().float()
    qmax = [weight_qmax(width) for width in bits]
    clips: list[list[Tensor]] = [[] for _ in qmax]
    if x.shape[1] > LONG_ROW:
        for i, row in enumerate(magnitudes):
            counted, total = _histogram(row, None if counts is None else counts[i])
            for found, q in zip(clips, qmax, strict=True):
                rows = _pooled(counted, total, BINS // max(128 * q, BINS // 4))
                found.append(_search(rows, rows.clipping_errors(), q, points))
    else:
        points = max(points, min(-(-points * 400 // x.shape[1]), 1024))
        size = max(1, BLOCK // x.shape[1])
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            rows = _Rows(magnitudes[part], None if counts is None else counts[part].float())
            clipping = rows.clipping_errors()
            for found, q in zip(clips, qmax, strict=True):
                found.append(_search(rows, clipping, q, points))
    return tuple(symmetric(torch.cat(found).to(x.dtype)) for found in clips)


@dataclass(frozen=True)
class _Rows:
    """Magnitudes of weights and how much each counts, ``[C, N]``."""

    values: Tensor
    counts: Tensor | None

    def errors(self, scale: Tensor, qmax: int) -> Tensor:
        """Sum of squared errors of each row at each of its scales, ``[C, K]``."""
        return torch.cat([self._errors(part.unsqueeze(2), qmax) for part in self._split(scale)], 1)

    def _errors(self, scale: Tensor, qmax: int) -> Tensor:
        return self._sum(self._codes(scale, qmax).mul_(scale).sub_(self.values.unsqueeze(1)).square_())

    def least_squares(self, scale: Tensor, qmax: int) -> Tensor:
        """Best scales for the codes that each of ``scale`` ``[C, K]`` gives; itself where all codes are 0."""
        codes = self._codes(scale.unsqueeze(2), qmax)
        squares, products = self._sum(codes.square()), self._sum(codes.mul_(self.values.unsqueeze(1)))
        return torch.where(squares > 0, products / squares, scale)

    def clipping_errors(self) -> Tensor:
        """What clipping at each of ``SHARES`` costs on its own, ``[C, len(SHARES)]``, increasing."""
        clip = SHARES * self.values.amax(1, keepdim=True)
        beyond = (self.values.unsqueeze(1) - part.unsqueeze(2) for part in self._split(clip))
        return torch.cat([self._sum(part.clamp_(min=0).square_()) for part in beyond], 1)

    def _codes(self, scale: Tensor, qmax: int) -> Tensor:
        """Of magnitudes at scales ``[C, K, 1]``, ``[C, K, N]``."""
        return torch.mul(self.values.unsqueeze(1), 1 / scale).round_().clamp_(max=qmax)

    def _sum(self, terms: Tensor) -> Tensor:
        return (terms if self.counts is None else terms.mul_(self.counts.unsqueeze(1))).sum(2)

    def _split(self, scale: Tensor) -> tuple[Tensor, ...]:
        """``[C, K]`` in parts that together with the rows fit into a block."""
        return torch.split(scale, max(1, BLOCK // self.values.numel()), 1)


def _search(rows: _Rows, clipping: Tensor, qmax: int, points: int) -> Tensor:
    """Clipping point of least error of each row, ``[C]``; 0 where all weights are 0."""
    largest = rows.values.amax(1, keepdim=True)
    full = torch.where(largest > 0, largest, torch.ones_like(largest)) / qmax
    bound = rows.errors(full * ROUGH, qmax).amin(1, keepdim=True)
    excluded = (clipping < bound).sum(1).clamp(max=len(SHARES) - 1)
    lowest = full * SHARES[excluded].unsqueeze(1)
    highest = full * (qmax / (qmax - 0.5) if qmax > 1 else 1)  # the last at which the largest weight has code qmax
    spacing = (lowest / highest).log() / (points - 1)
    scale = highest * (spacing * torch.arange(points)).exp()
    error = rows.errors(scale, qmax)
    for _ in range(2):
        scale, error = _best(scale, error, 3)
        spacing = spacing / 4
        neighbours = scale.unsqueeze(2) * (spacing.unsqueeze(2) * torch.tensor([-2, -1, 1, 2])).exp()
        scale, error = _with(rows, qmax, scale, error, neighbours.flatten(1))
    scale, error = _best(scale, error, 3)
    scale, error = _with(rows, qmax, scale, error, rows.least_squares(scale, qmax))
    return torch.where(largest > 0, _best(scale, error, 1)[0] * qmax, largest).squeeze(1)


def _best(scale: Tensor, error: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = error.topk(count, 1, largest=False).indices
    return scale.gather(1, order), error.gather(1, order)


def _with(rows: _Rows, qmax: int, scale: Tensor, error: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([scale, more], 1), torch.cat([error, rows.errors(more, qmax)], 1)


def _histogram(row: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Counts and sums of one row's magnitudes, float64 ``[BINS]`` each, in bins as wide as the root of their value."""
    counted, total = torch.zeros(BINS, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
    factor = BINS**2 * (1 - 2**-20) / (float(row.max()) or 1.0)
    for start in range(0, len(row), BLOCK):
        part = slice(start, start + BLOCK)
        values, weights = row[part], None if counts is None else counts[part]
        bins = values.mul(factor).sqrt_().long()
        counted += torch.bincount(bins, weights, BINS)
        total += torch.bincount(bins, values if weights is None else values * weights, BINS)
    return counted, total


def _pooled(counted: Tensor, total: Tensor, factor: int) -> _Rows:
    """Means and counts of ``factor`` neighbouring bins each, empty ones left out."""
    counted, total = counted.view(-1, factor).sum(1), total.view(-1, factor).sum(1)
    kept = counted > 0
    return _Rows((total[kept] / counted[kept]).float().unsqueeze(0), counted[kept].float().unsqueeze(0))
