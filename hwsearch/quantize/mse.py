"""Activation ranges of least squared error on the affine grid."""

import torch
from torch import Tensor

from hwsearch.quantize.range import Range, minmax


def affine_mse(x: Tensor, counts: Tensor, lo: Tensor, hi: Tensor, bits: int) -> Tensor:
    """Mean squared error of the affine grid for many candidate ranges of one tensor.

    Args:
        x: Values ``[N]``.
        counts: Their weights ``[N]``.
        lo: Lower bounds ``[K]``, at most 0.
        hi: Upper bounds ``[K]``, at least 0.
        bits: Width of the grid.

    Returns:
        ``[K]``.
    """
    qmax = 2**bits - 1
    scale = ((hi - lo) / qmax).clamp(min=torch.finfo(x.dtype).tiny).unsqueeze(1)
    zero_point = torch.round(-lo.unsqueeze(1) / scale).clamp(0, qmax)
    codes = torch.round(x / scale).add_(zero_point).clamp_(0, qmax)  # [K, N]
    return codes.sub_(zero_point).mul_(scale).sub_(x).square_() @ counts / counts.sum()


def mse(x: Tensor, bits: int, counts: Tensor | None = None, *, points: int = 24, zooms: int = 3) -> Range:
    """Search both bounds for the least squared error of the affine grid, on a grid that zooms in on its best point.

    Args:
        x: Samples ``[C, N]``, or bin centres.
        bits: Width of the grid.
        counts: Values per bin, ``[C, N]``; all 1 if None.
        points: Candidates per bound and zoom; a bound at 0 stays there.
        zooms: Times that the grid is refined.
    """
    counts = torch.ones_like(x) if counts is None else counts.to(x.dtype)
    whole = minmax(x, bits, counts)
    rows = [_search_row(*row, bits, points, zooms) for row in zip(x, counts, whole.lo, whole.hi, strict=True)]
    return Range(torch.stack([lo for lo, _ in rows]), torch.stack([hi for _, hi in rows]))


def _search_row(
    x: Tensor, counts: Tensor, lo: Tensor, hi: Tensor, bits: int, points: int, zooms: int
) -> tuple[Tensor, Tensor]:
    kept = counts > 0
    x, counts = x[kept], counts[kept]
    windows = [(0.0, 1.0), (0.0, 1.0)]  # of the share of each bound that is kept
    best, least = torch.ones(2, dtype=x.dtype, device=x.device), float("inf")
    for _ in range(zooms):
        axes = [
            torch.linspace(*window, points + 1, dtype=x.dtype, device=x.device)[1:] if bound != 0 else best[:1] * 0 + 1
            for window, bound in zip(windows, (lo, hi), strict=True)
        ]
        shares = torch.cartesian_prod(*axes)  # [K, 2]
        error = affine_mse(x, counts, shares[:, 0] * lo, shares[:, 1] * hi, bits)
        if float(error.min()) < least:
            best, least = shares[error.argmin()], float(error.min())
        windows = [
            (max(float(share) - (b - a) / points, 0.0), min(float(share) + (b - a) / points, 1.0))
            for share, (a, b) in zip(best, windows, strict=True)
        ]
    return best[0] * lo, best[1] * hi
