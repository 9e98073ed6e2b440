"""The weight range of least squared error among all, not a local minimum."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range, symmetric

LONG_ROW = 2**14
"""A row of more weights is searched by its histogram; output channels of known networks are shorter."""

MANTISSA_BITS, OCTAVES = 11, 12
"""Of that histogram: 2,048 bins for each of the 12 octaves below the largest weight; the rest share the lowest."""

DROPPED_BITS = 23 - MANTISSA_BITS

MAGNITUDE = 0x7FFFFFFF
"""All bits of a float32 but that of its sign."""

BLOCK = 2**16
"""Weights evaluated at once; two such float32 arrays fit into a core's cache."""

SHARES = torch.tensor([0.997, 0.99, 0.98, 0.96, 0.93, 0.88, 0.8, 0.65, 0.45, 0.25, 0.1, 0.03, 0.01])
"""Shares of the largest weight at which the error of clipping alone is known."""

EDGE = 1e-6
"""Relative distance from the highest clipping point: below it the largest weight has the highest code, above it not."""

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
    squares scale of an assignment, ``sum(w q) / sum(q^2)``, is the bottom of its own: of the final ones, and of the
    two beside the highest point, whose bottoms may lie above it. A short row gets as many
    more candidates as it has fewer weights, up to 1,024. A row of more than 16,384 weights is replaced by a histogram
    whose bins are as wide as 1/2048 of their value or less, and whose suffix sums give the error at a clipping point
    from its levels alone.

    Args:
        x: Weights ``[C, N]``.
        bits: Widths, each 2 to 8.
        counts: Weight of each squared error, ``[C, N]``; all 1 if None.
        points: Candidates per row of at least 400 weights in the first pass.

    Returns:
        Symmetric bounds per width, each ``[C]``.
    """
    values = x.float()
    qmax = torch.tensor([weight_qmax(width) for width in bits]).view(-1, 1, 1)
    long = x.shape[1] > LONG_ROW
    points = points if long else max(points, min(-(-points * 400 // x.shape[1]), 1024))
    size = 1 if long else max(1, BLOCK // (x.shape[1] * len(qmax)))
    clips = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        weights = None if counts is None else counts[part].float()
        rows = _Histogram.of(values[part], weights, qmax) if long else _Weights(values[part].abs(), weights, qmax)
        clips.append(_search(rows, points))
    return tuple(symmetric(found.to(x.dtype)) for found in torch.cat(clips, 1))


class _Rows(Protocol):
    """Magnitudes of C rows of weights at W widths; scales are ``[W, C, K]``.

    Attributes:
        largest: ``[C, 1]``.
        qmax: Of the widths, ``[W, 1, 1]``.
    """

    @property
    def largest(self) -> Tensor: ...

    @property
    def qmax(self) -> Tensor: ...

    def errors(self, scale: Tensor) -> Tensor:
        """Sums of squared errors, ``[W, C, K]``."""

    def least_squares(self, scale: Tensor) -> Tensor:
        """Best scales for the codes that each of ``scale`` gives; itself where all codes are 0."""

    def clipping_errors(self) -> Tensor:
        """What clipping at each of ``SHARES`` costs on its own, ``[C, len(SHARES)]``, increasing."""


@dataclass(frozen=True)
class _Weights:
    """Every weight by itself: magnitudes and how much each counts, ``[C, N]``."""

    values: Tensor
    counts: Tensor | None
    qmax: Tensor

    @property
    def largest(self) -> Tensor:
        return self.values.amax(1, keepdim=True)

    def errors(self, scale: Tensor) -> Tensor:
        return torch.cat([self._errors(part.unsqueeze(3)) for part in self._split(scale)], 2)

    def _errors(self, scale: Tensor) -> Tensor:
        return self._sum(self._codes(scale).mul_(scale).sub_(self.values.unsqueeze(1)).square_())

    def least_squares(self, scale: Tensor) -> Tensor:
        codes = self._codes(scale.unsqueeze(3))
        squares, products = self._sum(codes.square()), self._sum(codes.mul_(self.values.unsqueeze(1)))
        return torch.where(squares > 0, products / squares, scale)

    def clipping_errors(self) -> Tensor:
        clip = (SHARES * self.largest).unsqueeze(0)
        beyond = (self.values.unsqueeze(1) - part.unsqueeze(3) for part in self._split(clip))
        return torch.cat([self._sum(part.clamp_(min=0).square_()) for part in beyond], 2).squeeze(0)

    def _codes(self, scale: Tensor) -> Tensor:
        """Of magnitudes at scales ``[W, C, K, 1]``, ``[W, C, K, N]``."""
        return torch.mul(self.values.unsqueeze(1), 1 / scale).round_().clamp_(max=self.qmax.unsqueeze(3))

    def _sum(self, terms: Tensor) -> Tensor:
        return (terms if self.counts is None else terms.mul_(self.counts.unsqueeze(1))).sum(3)

    def _split(self, scale: Tensor) -> tuple[Tensor, ...]:
        """Into parts whose errors fit into a block."""
        return torch.split(scale, max(1, BLOCK // (len(scale) * self.values.numel())), 2)


@dataclass(frozen=True)
class _Histogram:
    """One row by suffix sums over its bins, each a point at its centre; a float's leading bits number them.

    A weight has code k or more from the midpoint ``(k - 1/2) scale`` on, so ``sum(w q)`` is the sum, over midpoints, of
    all weights beyond, and ``sum(q^2)`` that of their number times ``2 k - 1``.

    Attributes:
        largest: Magnitude, ``[1, 1]``.
        lowest: Leading bits of the first bin.
        beyond: Count, sum and sum of squares of the weights in a bin and all above, float64 ``[3, bins + 1]``.
        qmax: Of the widths, ``[W, 1, 1]``.
        width: Index of each midpoint's width, ``[M]``.
        middle: Each midpoint in steps, ``k - 1/2``, ``[M, 1]``.
        own: 1 at the midpoints of a width, float64 ``[W, M]``.
    """

    largest: Tensor
    lowest: int
    beyond: Tensor
    qmax: Tensor
    width: Tensor
    middle: Tensor
    own: Tensor

    @classmethod
    def of(cls, values: Tensor, counts: Tensor | None, qmax: Tensor) -> "_Histogram":
        """Of one row of weights ``[1, N]``."""
        largest = torch.stack(torch.aminmax(values)).abs().amax().view(1, 1)
        highest = int(_leading_bits(largest))
        lowest = max(0, highest - (OCTAVES << MANTISSA_BITS))
        bins = highest - lowest + 1
        held = torch.zeros(bins, dtype=torch.float64)
        for start in range(0, values.shape[1], 16 * BLOCK):
            part = slice(start, start + 16 * BLOCK)
            number = _leading_bits(values[0, part]).sub_(lowest).clamp_(min=0)
            held += torch.bincount(number, None if counts is None else counts[0, part], bins)
        edges = (torch.arange(lowest, highest + 2, dtype=torch.int32) << DROPPED_BITS).view(torch.float32).double()
        centres = (edges[:-1] + edges[1:]) / 2
        sums = torch.stack([held, held * centres, held * centres.square()])
        beyond = nn.functional.pad(sums.flip(1).cumsum(1).flip(1), (0, 1))
        return cls(largest, lowest, beyond, qmax, *_midpoints(tuple(qmax.flatten().tolist())))

    def errors(self, scale: Tensor) -> Tensor:
        squares, products = self._sums(scale)
        return self.beyond[2, 0] - scale * (2 * products - scale * squares)

    def least_squares(self, scale: Tensor) -> Tensor:
        squares, products = self._sums(scale)
        fitted: Tensor = torch.where(squares > 0, products / squares, scale)
        return fitted.float()

    def clipping_errors(self) -> Tensor:
        clip = SHARES * self.largest
        count, total, squares = self.beyond[:, self._first_bin(clip)]
        errors: Tensor = squares - clip * (2 * total - clip * count)
        return errors

    def _sums(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """``sum(q^2)`` and ``sum(w q)``, float64 ``[W, 1, K]``."""
        bins = self._first_bin(scale[self.width, 0] * self.middle)  # [M, K]
        counts, totals = self.beyond[0].take(bins), self.beyond[1].take(bins)
        squares = self.own @ counts.mul_(2 * self.middle)
        return squares.unsqueeze(1), (self.own @ totals).unsqueeze(1)

    def _first_bin(self, values: Tensor) -> Tensor:
        """Of those whose centres lie above."""
        centred: Tensor = (values.view(torch.int32) + (1 << DROPPED_BITS - 1)) >> DROPPED_BITS
        return centred.sub_(self.lowest).clamp_(0, self.beyond.shape[1] - 1).long()


@cache
def _midpoints(qmax: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """``width``, ``middle`` and ``own`` of the widths with these largest codes."""
    width = torch.arange(len(qmax)).repeat_interleave(torch.tensor(qmax))
    middle = torch.cat([torch.arange(most) + 0.5 for most in qmax]).unsqueeze(1)
    return width, middle, nn.functional.one_hot(width).T.double()


def _leading_bits(values: Tensor) -> Tensor:
    """Exponent and first bits of the mantissa of float32 values: integers in the order of their magnitudes."""
    bits: Tensor = (values.view(torch.int32) & MAGNITUDE) >> DROPPED_BITS
    return bits


def _search(rows: _Rows, points: int) -> Tensor:
    """Clipping point of least error of each width and row, ``[W, C]``; 0 where all weights are 0."""
    largest, qmax = rows.largest, rows.qmax
    full = torch.where(largest > 0, largest, torch.ones_like(largest)) / qmax
    bound = rows.errors(full * ROUGH).amin(2, keepdim=True)
    excluded = (rows.clipping_errors() < bound).sum(2).clamp(max=len(SHARES) - 1)
    lowest = full * SHARES[excluded].unsqueeze(2)
    highest = full * torch.where(
        qmax > 1, qmax / (qmax - 0.5), 1.0
    )  # the last at which the largest weight has code qmax
    spacing = (lowest / highest).log() / (points - 1)
    scale = highest * (spacing * torch.arange(points)).exp()
    error = rows.errors(scale)
    for _ in range(2):
        scale, error = _best(scale, error, 3)
        spacing = spacing / 4
        neighbours = scale.unsqueeze(3) * (spacing.unsqueeze(3) * torch.tensor([-2, -1, 1, 2])).exp()
        scale, error = _with(rows, scale, error, neighbours.flatten(2))
    scale, error = _best(scale, error, 3)
    edge = highest * torch.tensor([1 - EDGE, 1 + EDGE])
    scale, error = _with(rows, scale, error, rows.least_squares(torch.cat([scale, edge], 2)))
    return torch.where(largest > 0, _best(scale, error, 1)[0] * qmax, largest).squeeze(2)


def _best(scale: Tensor, error: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = error.topk(count, 2, largest=False).indices
    return scale.gather(2, order), error.gather(2, order)


def _with(rows: _Rows, scale: Tensor, error: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([scale, more], 2), torch.cat([error, rows.errors(more)], 2)
