"""Rounding that minimizes the error of a layer's outputs, one input at a time or by local search."""

import torch
from torch import Tensor

from hwsearch.quantize.grid import nearest_level
from hwsearch.quantize.moments import Moments
from hwsearch.quantize.rounding import Rounding


def gptq(values: Tensor, levels: Tensor, moments: Moments, *, damping: float = 0.001, act_order: bool = True) -> Tensor:
    """Round one input after the other and make up for each error with the inputs that are still to come.

    Convolutions are matrix products over patches, as in OBC; all outputs of a group share one Hessian, so its inverse's
    Cholesky factor serves them all. Errors are those left after a bias has taken back their mean.

    Args:
        values: Weights in steps, ``[O, ...]``.
        levels: Increasing, ``[L]``.
        moments: Of the layer's inputs.
        damping: Share of the mean diagonal that is added to the covariance.
        act_order: Whether to start with the inputs of largest variance where a layer has one group; the few inputs of a
            depthwise one are alike.

    Reference: Frantar et al. 2023, "GPTQ", arXiv:2210.17323, algorithm 1; Frantar and Alistarh 2022, "Optimal Brain
    Compression", arXiv:2208.11580.
    """
    covariance = moments().damped(damping)  # [G, n, n]
    rows = values.reshape(len(covariance), -1, covariance.shape[1])  # [G, O / G, n]
    order = torch.arange(covariance.shape[1]).expand(len(covariance), -1)
    if act_order and len(covariance) == 1:
        order = covariance.diagonal(dim1=1, dim2=2).sort(stable=True, dim=1, descending=True).indices
    return _restored(_compensated(_reordered(rows, order), _permuted(covariance, order), levels), order).view(
        values.shape
    )


def _compensated(rows: Tensor, covariance: Tensor, levels: Tensor) -> Tensor:
    """Codes of ``rows`` ``[G, R, n]``, from the first column to the last."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance.double()))
    factor = torch.linalg.cholesky(inverse, upper=True).float()  # [G, n, n]
    rows, codes = rows.clone(), torch.empty_like(rows)
    for i in range(rows.shape[2]):
        codes[:, :, i] = nearest_level(rows[:, :, i].contiguous(), levels)
        error = (rows[:, :, i] - codes[:, :, i]) / factor[:, i, i].unsqueeze(1)
        rows[:, :, i + 1 :] -= error.unsqueeze(2) * factor[:, i, i + 1 :].unsqueeze(1)
    return codes


def _reordered(rows: Tensor, order: Tensor) -> Tensor:
    return rows.gather(2, order.unsqueeze(1).expand_as(rows))


def _restored(rows: Tensor, order: Tensor) -> Tensor:
    return torch.empty_like(rows).scatter_(2, order.unsqueeze(1).expand_as(rows), rows)


def _permuted(covariance: Tensor, order: Tensor) -> Tensor:
    columns = covariance.gather(2, order.unsqueeze(1).expand_as(covariance))
    return columns.gather(1, order.unsqueeze(2).expand_as(covariance))


def coordinate_descent(
    values: Tensor,
    levels: Tensor,
    moments: Moments,
    *,
    start: Rounding = gptq,
    damping: float = 0.001,
    moves: int = 4,
) -> Tensor:
    """From another rounding on, move single weights by one level, always the best move of each output, while any helps.

    Args:
        values: Weights in steps, ``[O, ...]``.
        levels: Increasing, ``[L]``.
        moments: Of the layer's inputs.
        start: The other rounding.
        damping: Share of the mean diagonal that is added to the covariance.
        moves: At most this many per weight of an output.
    """
    covariance = moments().damped(damping)  # [G, n, n]
    groups, n = covariance.shape[:2]
    rows = values.reshape(groups, -1, n)
    first = start(values, levels, moments).reshape(rows.shape)
    grid = levels.float()
    index = torch.searchsorted(grid, first)
    slope = torch.bmm(first - rows, covariance)  # half the gradient, [G, R, n]
    curvature = covariance.diagonal(dim1=1, dim2=2).unsqueeze(1)
    up, down = _gaps(grid)
    for _ in range(moves * n):
        rise, fall = up[index], down[index]
        cost_up = rise * (2 * slope + rise * curvature)
        cost_down = fall * (fall * curvature - 2 * slope)
        change, best = torch.minimum(cost_up, cost_down).min(2, keepdim=True)  # [G, R, 1]
        useful = change < -1e-6 * curvature.mean()  # float32 noise would move weights to and fro
        if not useful.any():
            break
        upwards = cost_up.gather(2, best) <= cost_down.gather(2, best)
        step = torch.where(upwards, rise.gather(2, best), -fall.gather(2, best)) * useful
        index.scatter_add_(2, best, torch.where(upwards, 1, -1) * useful)
        slope += step * covariance.gather(1, best.expand(-1, -1, n))
    return grid[index].view(values.shape)


def _gaps(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each level to the next and to the previous one, infinite at the ends, ``[L]`` each."""
    gap, end = levels.diff(), levels.new_tensor([torch.inf])
    return torch.cat([gap, end]), torch.cat([end, gap])
