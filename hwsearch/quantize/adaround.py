"""Rounding learned by gradient descent on the error of a layer's outputs."""

from math import cos, pi

import torch
from torch import Tensor

from hwsearch.quantize.moments import Moments

STRETCH = (-0.1, 1.1)
"""Bounds of the stretched sigmoid before it is clipped to [0, 1], eq. (23) of the paper."""


def adaround(
    values: Tensor,
    levels: Tensor,
    moments: Moments,
    *,
    steps: int = 500,
    lr: float = 0.05,
    weight: float = 0.3,
    damping: float = 0.001,
) -> Tensor:
    """Learn between which of its two neighbouring levels each weight goes.

    The error of the outputs is a quadratic form of the weights' errors, so it is computed exactly from the moments of
    the inputs, and no image is looked at again. In the last four fifths of the steps a penalty whose exponent falls
    from 20 to 2 pushes each choice to an end.

    Args:
        values: Weights in steps, ``[O, ...]``.
        levels: Increasing, ``[L]``.
        moments: Of the layer's inputs.
        steps: Of Adam.
        lr: Of Adam.
        weight: Of the penalty, relative to the error of a mean gap between levels in an input of mean variance.
        damping: Share of the mean diagonal that is added to the covariance.

    Reference: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv:2004.10568.
    """
    covariance = moments().damped(damping)
    rows = values.reshape(len(covariance), -1, covariance.shape[1])  # [G, R, n]
    low, high = neighbours(rows, levels)
    logits = soft_logits((rows - low) / (high - low)).requires_grad_()
    scale = covariance.diagonal(dim1=1, dim2=2).mean() * (high - low).square().mean()
    optimizer = torch.optim.Adam([logits], lr)
    for step in range(steps):
        share = soft_share(logits)
        error = low + (high - low) * share - rows
        loss = (torch.bmm(error, covariance) * error).sum() / scale
        progress = step / steps
        if progress > 0.2:
            loss = loss + weight * undecided(share, progress)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return torch.where(logits.detach() > 0, high, low).view(values.shape)


def neighbours(values: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The levels below and above each value; the two outermost ones beyond the grid."""
    grid = levels.to(values.device, torch.float32)
    above = torch.searchsorted(grid, values.contiguous()).clamp(1, len(grid) - 1)
    return grid[above - 1], grid[above]


def soft_share(logits: Tensor) -> Tensor:
    """How far between its two levels each weight is, in [0, 1]."""
    low, high = STRETCH
    return (logits.sigmoid() * (high - low) + low).clamp(0, 1)


def soft_logits(share: Tensor) -> Tensor:
    """Logits of a share; beyond the grid, of the nearer end."""
    low, high = STRETCH
    return ((share.clamp(0, 1) - low) / (high - low)).logit()


def undecided(share: Tensor, progress: float) -> Tensor:
    """Penalty of shares between 0 and 1, summed; its exponent falls from 20 to 2 along a cosine."""
    exponent = 2 + 9 * (1 + cos(pi * (progress - 0.2) / 0.8))
    return (1 - (2 * share - 1).abs().pow(exponent)).sum()
