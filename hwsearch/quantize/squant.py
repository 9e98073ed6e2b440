"""Data-free rounding that keeps the sum of every kernel and channel."""

from math import ceil

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
    codes = nearest_level(kernels, levels)
    _cancel(codes.view(-1, codes.shape[2]), kernels.reshape(-1, codes.shape[2]), levels)
    errors = codes - kernels
    total = errors.sum((1, 2))
    sign = total.sign().unsqueeze(1)
    gain, weight = _gains(errors, codes, sign.unsqueeze(2), levels).max(2)  # one weight of each kernel, [O, I]
    along = torch.where(gain > 0, errors.sum(2) * sign, -torch.inf)
    most = ceil(float(total.abs().max() / levels.diff().min()))  # moves that a sum can need
    order, kernel = along.topk(min(most, along.shape[1]), 1)
    codes, index = codes.flatten(1), kernel * kernels.shape[2] + weight.gather(1, kernel)
    chosen = codes.gather(1, index)
    gap = _neighbour(chosen, levels, -sign) - chosen
    flips = _worthwhile(torch.where(order > -torch.inf, gap.abs(), 0.0), total.abs())
    return codes.scatter_add_(1, index, gap * flips).view(values.shape)


def _cancel(codes: Tensor, values: Tensor, levels: Tensor) -> None:
    """Move codes ``[K, k]`` to their neighbours, one of each kernel at a time, while its sum comes nearer to 0."""
    smallest = float(levels.diff().min())
    total = (codes - values).sum(1)
    kernels = (total.abs() > smallest / 2).nonzero().squeeze(1)
    while len(kernels):
        errors, sign = codes[kernels] - values[kernels], total[kernels].sign()
        gain, weight = _gains(errors, codes[kernels], sign.unsqueeze(1), levels).max(1)
        before = codes[kernels, weight]
        gap = _neighbour(before, levels, -sign) - before
        useful = (gain > 0) & (total[kernels].abs() > gap.abs() / 2)
        kernels, weight, gap = kernels[useful], weight[useful], gap[useful]
        codes[kernels, weight] += gap
        total[kernels] += gap
        kernels = kernels[total[kernels].abs() > smallest / 2]


def _gains(errors: Tensor, codes: Tensor, sign: Tensor, levels: Tensor) -> Tensor:
    """Errors of the sign of their sum where the code can move against it, else minus infinity."""
    end = torch.where(sign > 0, levels[0], levels[-1])
    along = errors * sign
    return torch.where((codes != end) & (along > 0), along, -torch.inf)


def _worthwhile(gaps: Tensor, total: Tensor) -> Tensor:
    """Which moves by ``gaps`` ``[O, T]``, taken in order, bring a sum of ``total`` nearer to 0; a gap of 0 is none."""
    before = total.unsqueeze(1) - (gaps.cumsum(1) - gaps)
    return (gaps > 0) & (before > gaps / 2)


def _neighbour(codes: Tensor, levels: Tensor, direction: Tensor) -> Tensor:
    """The next level in a direction (-1, 0 or 1), or the level itself at the end of the grid."""
    index = torch.searchsorted(levels, codes.contiguous()) + direction.long()
    return levels[index.clamp(0, len(levels) - 1)]
