"""The fastest of a kernel's variants, found by timing within bounded time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

import numpy as np

from cost_models.tvm.measure import Procedure, Sampler, Subject
from cost_models.tvm.runner import Runner

Knobs = TypeVar("Knobs")

QUICK = Procedure(rounds=3, samples=3, sample_s=1e-3)
"""Enough to tell variants apart: ``rounds`` is the number of times that the slower half is dropped."""

PASSES = 2
"""Between two drops every variant left is timed this often, in turn, so that a slow spell meets all."""


@dataclass(frozen=True)
class Found(Generic[Knobs]):
    """Outcome of a search.

    Attributes:
        knobs: The fastest variant's.
        latency_s: Its time, roughly; ``measure`` gives the one to report.
        tried: Variants timed before the time was up.
    """

    knobs: Knobs
    latency_s: float
    tried: int


@dataclass
class _Entry(Generic[Knobs]):
    knobs: Knobs
    sampler: Sampler
    times: list[float]

    @property
    def latency_s(self) -> float:
        return float(np.median(self.times))


def fastest(
    candidates: Sequence[Knobs],
    subject: Callable[[Knobs], Subject],
    runner: Runner,
    budget_s: float,
    *,
    tie: float = 0.02,
    procedure: Procedure = QUICK,
) -> Found[Knobs]:
    """Time variants of a kernel: all of them shortly, the faster half again, and so on.

    Args:
        candidates: Knobs, the most promising first.
        subject: Compiles and loads the variant with given knobs.
        runner: The machine.
        budget_s: Seconds after which no further variant is compiled; the first always is.
        tie: Times within this share of the best are equal, and the first of the candidates wins.
        procedure: Duration of samples, and how often the slower half is dropped.

    Raises:
        ValueError: If there is no candidate.

    Reference: successive halving, Jamieson and Talwalkar 2016, arXiv:1502.07943.
    """
    if not candidates:
        raise ValueError("A search over knobs needs at least one candidate.")
    start = monotonic()
    entries: list[_Entry[Knobs]] = []
    for knobs in candidates:
        if entries and monotonic() - start > budget_s:
            break
        compiled = subject(knobs)
        sampler = Sampler.of(compiled, procedure.warm_bytes(compiled, runner), runner, procedure)
        entries.append(_Entry(knobs, sampler, [sampler.time()]))
    finalists = entries
    for _ in range(procedure.rounds):
        for entry in PASSES * list(finalists):
            entry.times.append(entry.sampler.time())
        finalists = _faster_half(finalists, tie)
    best = _ties(finalists, tie)[0]
    return Found(best.knobs, best.latency_s, len(entries))


def _ties(entries: Sequence[_Entry[Knobs]], tie: float) -> list[_Entry[Knobs]]:
    """Those as fast as the best, in their order."""
    limit_s = (1 + tie) * min(entry.latency_s for entry in entries)
    return [entry for entry in entries if entry.latency_s <= limit_s]


def _faster_half(entries: Sequence[_Entry[Knobs]], tie: float) -> list[_Entry[Knobs]]:
    """The faster half in its order, or more where these tie."""
    limit_s = float(np.median([entry.latency_s for entry in entries]))
    tied = _ties(entries, tie)
    return [entry for entry in entries if entry.latency_s <= limit_s or entry in tied]
