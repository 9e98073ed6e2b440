"""Data-free rounding that keeps the sum of every kernel and channel."""

import torch
from torch import Tensor

from hwsearch.quantize.grid import nearest_level
from hwsearch.quantize.moments import Moments


def squant(values: Tensor, levels: Tensor, moments: Moments) -> Tensor:
    """Round to nearest, then move weights to their other neighbour where that cancels summed errors.

    First within each kernel (the weights of one output and one input channel), then, with at most one weight of each
    kernel, within each output channel. Weights whose rounding error is largest move first, each by one level; none
    moves that would leave the grid, and none whose own error has the other sign. What is left of a sum is at most half
    a step, unless saturation or a lack of such weights forbids it.

    Args:
        values: Weights in steps, ``[O, I, kh, kw]`` or ``[O, I]``.
        levels: Increasing, ``[L]``.
        moments: Not used.

    Reference: Guo et al. 2022, "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation",
    arXiv:2202.07471: its diagonal, kernel-wise and channel-wise terms.
    """
    kernels = values.reshape(len(values), values.shape[1], -1)  # [O, I, k]
    levels = levels.float()
    codes = _cancel(nearest_level(kernels, levels), kernels, levels)
    errors = codes - kernels
    sign = errors.sum((1, 2)).sign().view(-1, 1, 1)
    moved = _neighbour(codes, levels, -sign)
    gain = torch.where((moved != codes) & (errors * sign > 0), errors * sign, -torch.inf)
    candidate = gain.argmax(2, keepdim=True)  # one weight of each kernel
    order = torch.where(gain.gather(2, candidate) > 0, errors.sum(2, keepdim=True) * sign, -torch.inf)
    gap = (moved - codes).gather(2, candidate)
    total = errors.sum((1, 2)).abs()
    flips = _worthwhile(order.squeeze(2), gap.squeeze(2).abs(), total)  # [O, I]
    codes = codes.scatter_add(2, candidate, gap * flips.unsqueeze(2))
    return codes.view(values.shape)


def _cancel(codes: Tensor, values: Tensor, levels: Tensor) -> Tensor:
    """Move codes to their neighbours so that errors cancel along the last dimension."""
    errors = codes - values
    total = errors.sum(-1, keepdim=True)
    moved = _neighbour(codes, levels, -total.sign())
    order = torch.where((moved != codes) & (errors * total > 0), errors * total.sign(), -torch.inf)
    flips = _worthwhile(order, (moved - codes).abs(), total.squeeze(-1).abs())
    return torch.where(flips, moved, codes)


def _worthwhile(order: Tensor, gap: Tensor, total: Tensor) -> Tensor:
    """Which moves of ``gap`` ``[..., n]``, taken in decreasing ``order``, each bring a sum of ``total`` nearer to 0."""
    ranking = order.sort(stable=True, dim=-1, descending=True).indices
    allowed = order.gather(-1, ranking) > -torch.inf
    gaps = gap.gather(-1, ranking) * allowed
    before = total.unsqueeze(-1) - (gaps.cumsum(-1) - gaps)
    return torch.zeros_like(allowed).scatter(-1, ranking, allowed & (before > gaps / 2))


def _neighbour(codes: Tensor, levels: Tensor, direction: Tensor) -> Tensor:
    """The next level in a direction (-1, 0 or 1), or the level itself at the end of the grid."""
    index = torch.searchsorted(levels, codes.contiguous()) + direction.long()
    return levels[index.clamp(0, len(levels) - 1)]
