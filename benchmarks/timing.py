"""Engines timed beside each other, in rounds over all of them, so that a slow spell of the machine meets each.

Disturbances only ever add time: within a round an engine's time is a low percentile of its samples. Ratios are formed
within a round; what is reported is their median, and their range over the rounds.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Engine = Callable[[], object]
"""Computes the same thing at every call."""

Rounds = NDArray[np.float64]
"""Seconds, or a ratio, in each round."""


@dataclass(frozen=True)
class Procedure:
    """How often and how long engines are timed.

    Attributes:
        rounds: Passes over all engines.
        samples: Timed samples of an engine per round.
        sample_s: Least duration of a sample; shorter calls are repeated in it.
        percentile: Of a round's samples.
    """

    rounds: int = 7
    samples: int = 5
    sample_s: float = 2e-3
    percentile: float = 20


QUICK = Procedure(rounds=3, samples=3)


def time_together(engines: Mapping[str, Engine], procedure: Procedure) -> dict[str, Rounds]:
    """Seconds per call of each engine in each round."""
    calls = {}
    for name, engine in engines.items():
        engine()  # first calls allocate
        calls[name] = max(1, round(procedure.sample_s / _seconds(engine, 1)))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(procedure.rounds):
        for name, engine in engines.items():
            samples = [_seconds(engine, calls[name]) for _ in range(procedure.samples)]
            times[name].append(float(np.percentile(samples, procedure.percentile)))
    return {name: np.array(seconds) for name, seconds in times.items()}


def _seconds(engine: Engine, calls: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, calls):
        engine()
    return (time.perf_counter() - start) / calls


def geomean(ratios: Iterable[Rounds]) -> Rounds:
    """Geometric mean over ratios, round by round."""
    mean: Rounds = np.exp(np.mean([np.log(ratio) for ratio in ratios], axis=0))
    return mean


def with_range(ratio: Rounds, unit: str = "") -> str:
    """Median over rounds and the range, as text."""
    return f"{np.median(ratio):.4g}{unit} ({ratio.min():.4g} to {ratio.max():.4g})"
