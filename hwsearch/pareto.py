"""Which configurations are worth keeping, and how good a whole front is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log1p
from statistics import NormalDist
from typing import Any

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

ACCURACIES = ("top1", "search_top1", "test_top1", "agreement", "search_agreement")
COSTS = ("latency_s", "energy_j", "size_bytes", "bops")
DIVERGENCES = ("kl", "search_kl")
DIRECTIONS: Mapping[str, str] = {
    **dict.fromkeys(ACCURACIES, "maximize"),
    **dict.fromkeys((*COSTS, *DIVERGENCES), "minimize"),
}


def check_objectives(table: pd.DataFrame, objectives: Sequence[str]) -> None:
    """Check that every objective has a direction and a finite value in every row.

    Raises:
        ValueError: For no objective, an unknown or repeated one, a missing column or an unknown value.
    """
    if not objectives or len(set(objectives)) < len(objectives):
        raise ValueError(f"Objectives {list(objectives)} must be one or more distinct names out of {list(DIRECTIONS)}.")
    for name in objectives:
        if name not in DIRECTIONS:
            raise ValueError(f"Objective '{name}' has no direction; choose from {list(DIRECTIONS)}.")
        if name not in table.columns:
            raise ValueError(f"Objective '{name}' is not a column of the table; its columns are {list(table.columns)}.")
        unknown = int((~np.isfinite(table[name].to_numpy(dtype=float))).sum())
        if unknown:
            raise ValueError(f"Objective '{name}' is unknown in {unknown} of {len(table)} rows; drop them first.")


def non_dominated(table: pd.DataFrame, objectives: Sequence[str]) -> pd.Series[bool]:
    """Mark the rows that no other row dominates.

    A row dominates another if it is nowhere worse and somewhere better, so rows with identical objective values do
    not dominate each other: all of them are kept.

    Args:
        table: One row per configuration, any index.
        objectives: Columns of the table, each a key of ``DIRECTIONS``.

    Returns:
        A mask with the index of the table.

    Raises:
        ValueError: If an objective is unknown, or its value is in any row.
    """
    check_objectives(table, objectives)
    if table.empty:  # moocore wants at least one point
        return pd.Series([], index=table.index, dtype=bool)
    return pd.Series(moocore.is_nondominated(_minimized(table, objectives), keep_weakly=True), index=table.index)


def dominated_by(table: pd.DataFrame, others: pd.DataFrame, objectives: Sequence[str]) -> pd.Series[bool]:
    """Mark the rows of ``table`` that at least one row of ``others`` dominates.

    Args:
        table: ``N`` configurations, any index.
        others: ``M`` configurations.
        objectives: Columns of both tables, each a key of ``DIRECTIONS``.

    Returns:
        A mask ``[N]`` with the index of ``table``.

    Raises:
        ValueError: As for ``non_dominated``.
    """
    check_objectives(table, objectives)
    check_objectives(others, objectives)
    ours = _minimized(table, objectives)[:, np.newaxis, :]  # [N, 1, K]
    theirs = _minimized(others, objectives)[np.newaxis, :, :]  # [1, M, K]
    dominates = np.logical_and((theirs <= ours).all(axis=2), (theirs < ours).any(axis=2))  # [N, M]
    return pd.Series([bool(row.any()) for row in dominates], index=table.index, dtype=bool)


def test_objectives(objectives: Sequence[str]) -> list[str]:
    """What rows of ``pareto.csv`` are compared by: ``test_top1`` for what was judged on the search split, and costs."""
    return list(dict.fromkeys(name if name in COSTS else "test_top1" for name in objectives))


def mark_dominated_by_uniform(table: pd.DataFrame, objectives: Sequence[str]) -> pd.Series[bool]:
    """Mark the mixed-precision rows that some feasible uniform row dominates on the test split.

    Args:
        table: Rows of ``pareto.csv`` with ``kind``, ``feasible`` and the objectives' columns.
        objectives: The search's objectives.

    Returns:
        A mask with the index of the table; float and uniform rows are never marked.

    Raises:
        ValueError: As for ``non_dominated``, for feasible uniform and mixed rows.
    """
    judged = test_objectives(objectives)
    mixed, uniform = (table[table["kind"] == kind] for kind in ("mixed", "uniform"))
    return dominated_by(mixed, uniform[uniform["feasible"].eq(True)], judged).reindex(table.index, fill_value=False)


def reference_point(
    float_top1: float, uniform8_costs: Mapping[str, float], *, accuracy: str = "top1", margin: float = 10.0
) -> dict[str, float]:
    """The worst corner that still counts: float top-1 minus a margin, and the cost of uniform 8-bit.

    Args:
        float_top1: Top-1 of the float network in percent.
        uniform8_costs: Cost column -> cost of the configuration with 8 bits in every layer.
        accuracy: The accuracy column that the point is for.
        margin: Points of top-1 below float.
    """
    return {accuracy: float_top1 - margin, **uniform8_costs}


def reference_likeness(margin: float = 10.0) -> dict[str, float]:
    """The farthest from float that still counts, by measures that need no labels.

    Args:
        margin: Percent of probability that what float is certain of may lose, and of images that may
            change their class.

    Returns:
        ``kl`` in nats and ``agreement`` in percent.
    """
    return {"kl": -log1p(-margin / 100), "agreement": 100 - margin}


def hypervolume(table: pd.DataFrame, objectives: Sequence[str], reference_point: Mapping[str, float]) -> float:
    """Share of the box between the reference point and the ideal that the rows dominate.

    The ideal is a top-1 of 100 percent at no cost. The plain hypervolume would be in mixed units (percent times
    seconds); divided by the volume of that box it has none, and lies in 0..1. Rows beyond the reference point in any
    objective add nothing. Values are comparable only between equal reference points.

    Args:
        table: One row per configuration; dominated rows change nothing.
        objectives: Columns of the table, each a key of ``DIRECTIONS``.
        reference_point: Objective -> value, in the unit of its column.

    Raises:
        ValueError: If an objective's value is unknown, or the reference point lacks it or is no worse than the ideal.
    """
    return _dominated_share(_shares(table, objectives, reference_point))


def hypervolume_history(
    table: pd.DataFrame, objectives: Sequence[str], reference_point: Mapping[str, float]
) -> pd.Series[float]:
    """Hypervolume of the first rows, up to each row.

    Args:
        table: One row per configuration, in the order in which they were judged.
        objectives: As for ``hypervolume``.
        reference_point: As for ``hypervolume``.

    Returns:
        A share for each row, with the index of the table.

    Raises:
        ValueError: As for ``hypervolume``.
    """
    shares = _shares(table, objectives, reference_point)
    front, value, history = shares[:0], 0.0, []
    for row in shares:
        if (row < 1).all() and not (front <= row).all(axis=1).any():  # else it adds nothing
            front = np.concatenate([front[~(row <= front).all(axis=1)], row[np.newaxis]])
            value = _dominated_share(front)
        history.append(value)
    return pd.Series(history, index=table.index, dtype=float)


def progress_table(
    trials: pd.DataFrame, objectives: Sequence[str], reference_point: Mapping[str, float]
) -> pd.DataFrame:
    """Hypervolume of the front after each judged candidate.

    Args:
        trials: From :func:`hwsearch.search.trials_table`.
        objectives: The search's objectives.
        reference_point: Of the hypervolume.

    Returns:
        ``progress.csv`` as ``runs/README.md`` describes it.
    """
    judged = trials[trials["state"].isin(["complete", "dropped", "does_not_fit"])]
    candidates = judged[(judged["state"] == "complete") & judged["feasible"].eq(True)]
    history = hypervolume_history(candidates, objectives, reference_point).reindex(judged.index).ffill().fillna(0.0)
    return pd.DataFrame({"trial": judged["trial"], "judged": range(1, len(judged) + 1), "hypervolume": history})


def _shares(
    table: pd.DataFrame, objectives: Sequence[str], reference_point: Mapping[str, float]
) -> NDArray[np.float64]:
    """[N, K]: each loss as a share of the reference point's."""
    check_objectives(table, objectives)
    for name in objectives:
        if name not in reference_point:
            raise ValueError(f"The reference point has no '{name}'; it has {list(reference_point)}.")
        if not _loss(name, reference_point[name]) > 0:
            rule = "below 100" if name in ACCURACIES else "above 0"
            raise ValueError(f"The reference point's {name} must be {rule}, not {reference_point[name]}.")
    losses = [
        _loss(name, table[name].to_numpy(dtype=float)) / _loss(name, reference_point[name]) for name in objectives
    ]
    return np.stack(losses, axis=1)


def _dominated_share(shares: NDArray[np.float64]) -> float:
    return float(moocore.hypervolume(shares, ref=np.ones(shares.shape[1]))) if len(shares) else 0.0


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy.

    Args:
        correct: Number of correct predictions, ``0 <= correct <= n``.
        n: Number of predictions, at least 1.
        confidence: Coverage, ``0 < confidence < 1``.

    Returns:
        Lower and upper bound in percent.

    Raises:
        ValueError: If an argument is outside its interval.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"A Wilson interval needs 0 <= correct <= n and n >= 1, not correct={correct}, n={n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}.")
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    # Rounding may leave the bounds a hair outside 0..1 where p is 0 or 1.
    return 100 * max(centre - half, 0.0), 100 * min(centre + half, 1.0)


def _loss(name: str, values: Any) -> Any:
    """Distance to the ideal, to be minimized: missing percent of top-1, or the cost itself."""
    return 100 - values if name in ACCURACIES else values


def _minimized(table: pd.DataFrame, objectives: Sequence[str]) -> NDArray[np.float64]:
    """[N, K], less is better; a sign is exact, so ties stay ties."""
    minimize = [DIRECTIONS[name] == "minimize" for name in objectives]
    points: NDArray[np.float64] = table[list(objectives)].to_numpy(dtype=float)
    return np.where(minimize, points, -points)
