"""When a candidate may be dropped before it is judged on every image."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from hwsearch.pareto import DIRECTIONS
from hwsearch.search.objectives import Constraint


def losses(measures: Mapping[str, float], objectives: Sequence[str]) -> list[float]:
    """Value of each objective, less is better; a sign is exact, so ties stay ties."""
    return [measures[name] if DIRECTIONS[name] == "minimize" else -measures[name] for name in objectives]


def hopelessness(
    costs: Mapping[str, float],
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
    rivals: Sequence[Sequence[float]],
) -> Callable[[float], bool]:
    """Decide whether a candidate with these costs could be on the front, from a bound on its top1.

    Args:
        costs: What is known of the candidate before it is judged; it does not fit the device if a cost is infinite.
        objectives: The search's objectives. Where one is neither top1 nor a known cost, there is always hope.
        constraints: The user's bounds.
        rivals: :func:`losses` of the feasible candidates that were judged on every image, ``[N, K]``.

    Returns:
        Whether a candidate of at most this top1, in percent, is infeasible or dominated.
    """
    bounded = [constraint for constraint in constraints if constraint.measure in ("top1", *costs)]
    known: NDArray[np.float64] = np.reshape(np.asarray(rivals, dtype=float), (-1, len(objectives)))

    def hopeless(top1: float) -> bool:
        best = {"top1": top1, **costs}
        if inf in costs.values() or any(bound.violation(best[bound.measure]) > 0 for bound in bounded):
            return True
        if not set(objectives) <= set(best):
            return False
        own = np.array(losses(best, objectives))
        return bool(((known <= own).all(axis=1) & (known < own).any(axis=1)).any())

    return hopeless


def never(top1: float) -> bool:
    """For candidates that every table shows: they are judged on every image."""
    return False
