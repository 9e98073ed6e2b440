"""When a candidate may be dropped before it is judged on every image."""

from collections.abc import Mapping, Sequence
from math import inf

import pandas as pd

from hwsearch.pareto import hypervolume
from hwsearch.search.judgement import Hopeless
from hwsearch.search.objectives import Constraint


def hopelessness(
    costs: Mapping[str, float],
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
    rivals: Sequence[Mapping[str, float]],
    reference_point: Mapping[str, float],
    least_gain: float = 0.0,
) -> Hopeless:
    """Decide from bounds on what judging measures whether a candidate with these costs is worth to be judged further.

    Args:
        costs: What is known of the candidate before it is judged; it does not fit the device if a cost is infinite.
        objectives: The search's objectives.
        constraints: The user's bounds.
        rivals: Measures of the feasible candidates that were judged on every image.
        reference_point: Of the hypervolume. Where it lacks an objective, there is hope within the constraints.
        least_gain: Share of the rivals' hypervolume that the candidate must be able to add.

    Returns:
        Whether a candidate whose measures are at best these is infeasible, or adds no more than that share.
    """
    known = pd.DataFrame(rivals, columns=list(objectives), dtype=float)
    volume = hypervolume(known, objectives, reference_point) if set(objectives) <= set(reference_point) else None

    def hopeless(best: Mapping[str, float]) -> bool:
        measures = {**best, **costs}
        if inf in costs.values() or any(bound.violation(measures[bound.measure]) > 0 for bound in constraints):
            return True
        if volume is None:
            return False
        known.loc[len(rivals)] = [measures[name] for name in objectives]
        return hypervolume(known, objectives, reference_point) - volume <= least_gain * volume

    return hopeless
