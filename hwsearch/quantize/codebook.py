"""Levels that are not evenly spaced: at most ``2**bits`` int8 values per layer, times the scales of its channels."""

from typing import Protocol

import torch
from torch import Tensor

from hwsearch.quantize.grid import in_steps, nearest_level

INT8_MAX = 127

BINS = 2**12
"""Of the histogram from which levels are chosen; at 4 bits, a hundred or more lie between two levels."""

TINY = 2.0**-64
"""Scale of rows of zeros: their codes are not 0 where no level is."""

STARTS = (0.7, 0.85, 1.0, 1.2, 1.4)
"""Shares of a row's first scale from which a better one is sought."""


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
    values, counts = _histogram(rows.abs(), clip)
    half = 2 ** (bits - 1)
    steps = torch.arange(half, dtype=torch.float64)
    grids = [steps / (half - 1), (steps + 0.5) / (half - 0.5)]
    magnitudes = [_int8(grid ** (1 / power)) for power in powers for grid in grids]
    shares = torch.linspace(0.4, 1.6, 49, dtype=torch.float64)  # of the clipping point on the uniform grid
    errors = torch.stack([_errors(values, counts, shares, chosen) for chosen in magnitudes])
    choice, share = divmod(int(errors.argmin()), len(shares))
    chosen = magnitudes[choice]
    levels = torch.unique(torch.cat([-chosen, chosen]))
    return levels, _fitted(rows, levels, shares[share] * clip)


def lloyd_max(rows: Tensor, clip: Tensor, bits: int, *, iterations: int = 100) -> tuple[Tensor, Tensor]:
    """Levels of least squared error wherever they lie, by Lloyd's algorithm from the power codebook's.

    Only the rounding to int8 and one table for all rows keep it from the bound.

    Reference: Lloyd 1982, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (2).
    """
    values, counts = _histogram(rows, clip)
    start, scale = power_codebook(rows, clip, bits)
    levels = start.double() * float((scale / clip)[clip > 0].mean().nan_to_num(1))
    for _ in range(iterations):
        nearest = torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
        mass = torch.zeros_like(levels).index_add_(0, nearest, counts)
        total = torch.zeros_like(levels).index_add_(0, nearest, counts * values)
        levels = torch.where(mass > 0, total / mass.clamp(min=torch.finfo(mass.dtype).tiny), levels)
    largest = float(levels.abs().max())
    rounded = torch.unique(_int8(levels / largest))
    return rounded, _fitted(rows, rounded, largest * clip)


def _histogram(rows: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Values relative to their row's range, and the squared range by which their errors count, by bins."""
    used = clip.double().clamp(min=torch.finfo(clip.dtype).tiny).unsqueeze(1)
    share = (rows / used).flatten()
    square = used.square().expand_as(rows).flatten()
    width = float(share.max() - share.min()) / BINS or 1.0
    index = ((share - share.min()) / width).long().clamp_(max=BINS - 1)
    counts = torch.bincount(index, square, BINS)
    total = torch.bincount(index, square * share, BINS)
    kept = counts > 0
    return total[kept] / counts[kept], counts[kept]


def _errors(values: Tensor, counts: Tensor, shares: Tensor, magnitudes: Tensor) -> Tensor:
    """Squared errors of one symmetric table at several clipping points, ``[len(shares)]``."""
    errors = []
    for share in shares:
        levels = share * magnitudes.double() / INT8_MAX
        quantized = levels[torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)]
        errors.append(((quantized - values).square() * counts).sum())
    return torch.stack(errors)


def _fitted(rows: Tensor, levels: Tensor, clip: Tensor) -> Tensor:
    """Scales of least squared error for given levels, float32 ``[C]``: the best of several descents."""
    first = torch.where(clip > 0, clip / INT8_MAX, TINY).float()
    best, least = first, torch.full_like(first, torch.inf)
    for start in STARTS:
        scale = start * first
        for _ in range(3):
            codes = nearest_level(in_steps(rows, scale), levels)
            squares = codes.square().sum(1)
            fitted = (codes * rows).sum(1) / squares.clamp(min=1)
            scale = torch.where((squares > 0) & (fitted > 0), fitted, scale)
        error = (nearest_level(in_steps(rows, scale), levels).mul_(scale.unsqueeze(1)) - rows).square().sum(1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def _int8(shares: Tensor) -> Tensor:
    return (shares * INT8_MAX).round().to(torch.int8)
