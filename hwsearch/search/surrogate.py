"""What top1 a configuration will have, from predicted losses and from what was judged: a Gaussian process."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Array = NDArray[np.float64]

FLOOR = 1e-3
"""Share of the narrowest configuration's predicted loss below which losses count as equal."""
LENGTHS = (0.5, 1.0, 2.0)
"""Correlation lengths tried; no and the largest loss of a layer are 1 apart."""
LINEAR = (0.1, 1.0)
"""Variances tried of each layer's own correction, relative to that of the interactions."""
NOISE = (0.003, 0.03, 0.3)
"""Variances tried of what no neighbour tells, likewise."""
PRIOR = 10.0
"""Variance of the intercept and of the slope over the predicted loss: any value is as likely as another."""


@dataclass(frozen=True)
class Features:
    """Configurations as a surrogate sees them.

    Attributes:
        loss: Logarithm of the predicted loss, ``[N]``.
        position: Each decision's own loss, as the root of its share of the largest, 0 to 1, ``[N, D]``.
    """

    loss: Array
    position: Array


class Surrogate:
    """Gaussian-process regression over configurations.

    The covariance adds up what predicted losses leave open: a line over their logarithm (how losses turn into the
    measure), a correction linear in every decision (one layer's loss), and a correlation that decays with distance (how
    layers' losses interact). Relative sizes and the length are those of largest marginal likelihood.

    Reference: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", sections 2.7 and 5.4.1.

    Args:
        seen: Judged configurations, at least one.
        values: Their measure, ``[N]``.
    """

    def __init__(self, seen: Features, values: Array) -> None:
        self._seen = seen
        self._centre = float(values.mean())
        centred = values - self._centre
        distance, linear, line = _distance(seen, seen), seen.position @ seen.position.T, _line(seen, seen)
        best = -np.inf
        for length, slope, noise in product(LENGTHS, LINEAR, NOISE):
            covariance = np.exp(-distance / length) + slope * linear + line
            covariance[np.diag_indices_from(covariance)] += noise
            root = cholesky(covariance, lower=True, check_finite=False)
            white = solve_triangular(root, centred, lower=True, check_finite=False)
            scale = max(float(white @ white) / len(values), np.finfo(float).tiny)
            evidence = -len(values) / 2 * np.log(scale) - np.log(np.diag(root)).sum()
            if evidence > best:
                best = evidence
                self._length, self._slope, self._noise = length, slope, noise
                self._root, self._white, self._scale = root, white, scale

    def predict(self, features: Features) -> tuple[Array, Array]:
        """Mean and standard deviation of the measure, ``[N]`` each."""
        across = (
            np.exp(-_distance(self._seen, features) / self._length)
            + self._slope * (self._seen.position @ features.position.T)
            + _line(self._seen, features)
        )
        explained = solve_triangular(self._root, across, lower=True, check_finite=False)
        own = 1 + self._noise + self._slope * (features.position**2).sum(axis=1) + PRIOR * (1 + features.loss**2)
        variance = self._scale * np.maximum(own - (explained**2).sum(axis=0), self._noise)
        return self._centre + explained.T @ self._white, np.sqrt(variance)


def _distance(one: Features, other: Features) -> Array:
    """Euclidean distances, ``[N, M]``."""
    squares = [(features.position**2).sum(axis=1) for features in (one, other)]
    squared = squares[0][:, np.newaxis] + squares[1] - 2 * one.position @ other.position.T
    distance: Array = np.sqrt(np.maximum(squared, 0))
    return distance


def _line(one: Features, other: Features) -> Array:
    return PRIOR * (1 + np.outer(one.loss, other.loss))


def features(losses: Sequence[Array], chosen: NDArray[np.int64]) -> Features:
    """Features of configurations.

    Args:
        losses: Predicted losses of every choice of a group, by operand, ``[choices, operands]`` each.
        chosen: The number of each group's choice, ``[N, groups]``.
    """
    taken = np.stack(
        [group[column] for group, column in zip(losses, chosen.T, strict=True)], axis=1
    )  # [N, G, operands]
    largest = max(float(group.max()) for group in losses) or 1.0
    floor = FLOOR * (sum(float(group.sum(axis=1).max()) for group in losses) or 1.0)
    total = taken.sum(axis=(1, 2))
    return Features(np.log(total + floor), np.sqrt(taken / largest).reshape(len(chosen), -1))
