"""How well modelled latencies agree with measured ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def agreement(modelled: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    """Metrics of a model's error.

    Args:
        modelled: Positive numbers, in the unit of ``measured``.
        measured: Positive numbers.

    Returns:
        ``n``; ``mape``, the mean of ``|modelled / measured - 1|``; ``max_error``, its maximum; ``bias``, the mean with
        its sign; ``within_5_percent`` and ``within_10_percent``, shares; ``spearman`` and ``kendall`` (tau-b), NaN
        where all values of a side are equal.
    """
    model, truth = np.asarray(modelled, dtype=float), np.asarray(measured, dtype=float)
    error = model / truth - 1
    return {
        "n": len(error),
        "mape": float(np.abs(error).mean()),
        "max_error": float(np.abs(error).max()),
        "bias": float(error.mean()),
        "within_5_percent": float((np.abs(error) <= 0.05).mean()),
        "within_10_percent": float((np.abs(error) <= 0.10).mean()),
        "spearman": _correlation(_ranks(model), _ranks(truth)),
        "kendall": _correlation(_signs(model), _signs(truth)),
    }


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = np.asarray(pd.Series(values).rank(), dtype=np.float64)
    return ranks - np.mean(ranks)


def _signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The order of every pair, ``[n * n]``: correlating these gives tau-b."""
    signs: NDArray[np.float64] = np.sign(values[:, None] - values).ravel()
    return signs


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")
