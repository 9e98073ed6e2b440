"""Weight ranges of least squared error on the symmetric narrow grid."""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from hwsearch.quantize.grid import weight_qmax
from hwsearch.quantize.range import Range

GOLDEN = (sqrt(5) - 1) / 2


def weight_mse(x: Tensor, clip: Tensor, bits: int) -> Tensor:
    """Mean squared error of the symmetric narrow grid over ``[-clip, clip]``.

    Args:
        x: Weights ``[C, N]``.
        clip: ``[C]``, positive.
        bits: 2 to 8.

    Returns:
        ``[C]``.
    """
    qmax = weight_qmax(bits)
    scale = (clip / qmax).unsqueeze(1)
    quantized = (x / scale).round_().clamp_(-qmax, qmax).mul_(scale)
    return quantized.sub_(x).square_().mean(1)


def requant(x: Tensor, bits: int, counts: Tensor | None = None, *, tolerance: float = 1e-3) -> Range:
    """Golden-section search for the range-scaling parameter ``alpha`` of least squared error.

    Stated in the paper: a symmetric uniform quantizer over a clipping interval, the squared error between a layer's
    weights and their quantized values as objective, local convexity, golden-section search over alpha in (0, 1]. Read
    into it here: ``clip = alpha max|w|``, the narrow grid, and keeping the best point seen, since the error has several
    minima for short rows and many bits.

    Args:
        x: Weights ``[C, N]``; ``C = 1`` for per-tensor ranges.
        bits: 2 to 8.
        counts: Not supported: weights are not binned.
        tolerance: Width of the final interval of alpha.

    Reference: Quantization Range Estimation for Convolutional Neural Networks, 2025, arXiv:2510.04044.
    """
    largest = _largest(x, counts)
    best = _golden_section(lambda alpha: weight_mse(x, alpha * largest, bits), len(x), tolerance, x)
    return _symmetric(best * largest, x)


def mse_grid(x: Tensor, bits: int, counts: Tensor | None = None, *, points: int = 100) -> Range:
    """Best of ``points`` equally spaced alphas in (0, 1] by squared error; arguments as for :func:`requant`."""
    largest = _largest(x, counts)
    best = torch.ones(len(x), dtype=x.dtype, device=x.device)
    least = weight_mse(x, largest, bits)
    for step in range(1, points):
        alpha = torch.full_like(best, step / points)
        error = weight_mse(x, alpha * largest, bits)
        best, least = torch.where(error < least, alpha, best), torch.minimum(error, least)
    return _symmetric(best * largest, x)


def _largest(x: Tensor, counts: Tensor | None) -> Tensor:
    """Largest magnitude of each row, 1 where a row is all zeros (any range is exact there)."""
    if counts is not None:
        raise ValueError("requant and mse_grid estimate weight ranges; use minmax, percentile or mse for activations.")
    largest = x.abs().amax(1)
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _symmetric(clip: Tensor, x: Tensor) -> Range:
    clip = torch.where(x.abs().amax(1) > 0, clip, torch.zeros_like(clip))
    return Range(-clip, clip)


def _golden_section(error: Callable[[Tensor], Tensor], rows: int, tolerance: float, like: Tensor) -> Tensor:
    """Alpha in (0, 1] of least error among the points that golden section visits, for all rows at once, ``[C]``."""
    low = torch.zeros(rows, dtype=like.dtype, device=like.device)
    high = torch.ones_like(low)
    left, right = high - GOLDEN, low + GOLDEN
    error_left, error_right = error(left), error(right)
    best, least = torch.ones_like(low), error(high)
    while True:
        for alpha, value in ((left, error_left), (right, error_right)):
            best, least = torch.where(value < least, alpha, best), torch.minimum(value, least)
        if float((high - low).max()) <= tolerance:
            return best
        shrink_right = error_left < error_right
        high, low = torch.where(shrink_right, right, high), torch.where(shrink_right, low, left)
        probe = torch.where(shrink_right, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = error(probe)
        left, right = torch.where(shrink_right, probe, right), torch.where(shrink_right, left, probe)
        error_left, error_right = (
            torch.where(shrink_right, value, error_right),
            torch.where(shrink_right, error_left, value),
        )
