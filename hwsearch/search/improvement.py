"""How much a candidate may add to a front: one uncertain objective, beside costs that are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

CELLS = 400
"""Most cells; with several costs and a longer front, they are coarser than the front."""


FAR = 30.0
"""Standard deviations beyond which nothing happens; their square's exponential is still a float."""


@dataclass(frozen=True)
class Improvement:
    """Expected gain of hypervolume over a front.

    The box of costs is cut into cells, in each of which the best quality known at these costs or less is one number.
    What a candidate adds is its quality's expected excess over it, in the parts of cells that its costs reach.

    Attributes:
        lower: Costs at which cells begin, as shares of the reference point's, ``[cells, K]``.
        upper: Costs at which they end.
        level: The best known quality in each cell, ``[cells]``.
        best: The largest possible quality, e.g. 100 percent.
    """

    lower: Array
    upper: Array
    level: Array
    best: float

    def expected(self, mean: Array, deviation: Array, costs: Array) -> Array:
        """Expected gain of each candidate, ``[N]``.

        Args:
            mean: Predicted quality, ``[N]``; larger is better.
            deviation: Its standard deviation, ``[N]``.
            costs: Shares of the reference point's, ``[N, K]``.
        """
        reached = np.ones((len(mean), len(self.level)))
        for cost, lower, upper in zip(costs.T, self.lower.T, self.upper.T, strict=True):
            reached *= np.clip(upper - np.maximum(lower, cost[:, np.newaxis]), 0, None)
        levels, rows = np.unique(self.level, return_inverse=True)
        area = np.stack([reached[:, rows == row].sum(axis=1) for row in range(len(levels))], axis=1)
        above = _expected_excess(mean, deviation, levels) - _expected_excess(mean, deviation, np.array([self.best]))
        gain: Array = (area * above).sum(axis=1)
        return gain


def improvement(quality: Array, costs: Array, worst: float, best: float) -> Improvement:
    """Cut the box of costs along a front.

    Args:
        quality: Of feasible candidates, ``[N]``; larger is better.
        costs: Their costs as shares of the reference point's, ``[N, K]``.
        worst: The reference point's quality.
        best: The largest possible quality.
    """
    inside = (quality > worst) & (costs < 1).all(axis=1)
    quality, costs = quality[inside], costs[inside]
    edges = [_edges(column, CELLS ** (1 / costs.shape[1])) for column in costs.T]
    lower, upper = (_corners([edge[part] for edge in edges]) for part in (slice(None, -1), slice(1, None)))
    within = (costs <= lower[:, np.newaxis]).all(axis=2)  # [cells, N]
    level = np.where(within, quality, worst).max(axis=1, initial=worst)
    return Improvement(lower, upper, level, best)


def _corners(edges: Sequence[Array]) -> Array:
    """Every combination, ``[cells, K]``."""
    combinations = list(product(*edges))
    return np.array(combinations, dtype=float).reshape(len(combinations), len(edges))


def _edges(costs: Array, at_most: float) -> Array:
    """Where cells of one cost begin and end, between 0 and the reference point."""
    distinct = np.unique(costs)
    step = max(1, ceil(len(distinct) / at_most))
    return np.concatenate([[0.0], distinct[::step], [1.0]])


def _expected_excess(mean: Array, deviation: Array, levels: Sequence[float] | Array) -> Array:
    """Expectation of ``max(0, x - level)`` for normally distributed x, ``[N, levels]``."""
    margin = mean[:, np.newaxis] - levels
    spread = deviation[:, np.newaxis]
    z = np.clip(margin / spread, -FAR, FAR)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    excess: Array = margin * ndtr(z) + spread * density
    return excess
