"""Latency of compiled kernels, on a machine that is not always equally fast.

Rounds go over all kernels, so that a slow spell meets each of them. Within a round a kernel's time is a low percentile
of its samples, since disturbances only ever add time; over rounds it is the median. Beside each kernel the reference
kernel is timed: while that is not as fast as usual, the machine is busy elsewhere or its clock has changed, and the
kernel is timed again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import tvm
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from cost_models.fields import DEVICE_FILE, Count, NonNegative, Positive
from cost_models.tvm import driver
from cost_models.tvm.energy import Rapl
from cost_models.tvm.reference import reference_kernel, seeds
from cost_models.tvm.runner import Runner

THREADS = 1
"""Kernels are serial code."""

REFERENCE_SAMPLES = 5
WARM_UPS = 3
UNCOUNTED_CALLS = 1
"""TVM's evaluator calls the function once more than it was told to, before it times anything."""


@checked_dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Procedure:
    """How often and how long kernels are timed."""

    rounds: Count = 7
    """Passes over all kernels."""
    samples: Count = 10
    """Timed samples of a kernel per round."""
    sample_s: Positive = 2e-3
    """Least duration of a sample; shorter kernels run several times in it."""
    percentile: Annotated[float, Field(ge=0, le=100)] = 20
    """Of a round's samples: the kernel's time in that round."""
    max_drift: Positive = 0.05
    """A kernel is timed again if the reference kernel beside it differs from its median by this share."""
    max_repetitions: Annotated[int, Field(ge=0)] = 3
    """How often a kernel is timed again within a round, before the least drift is accepted."""
    rotated_bytes: Count | None = None
    """Memory touched before a copy of the weights is used again; None: twice the L2 cache."""
    least_copies: Count = 8
    """Copies of the weights at least, up to ``cold_bytes``: between two uses of a layer's weights a network reads those
    of its other layers, many of them as large."""
    cold_bytes: Count = 64 << 20
    """The same for the cold latency: more than the last-level cache."""
    energy_s: Positive = 0.2
    """How long a kernel runs while its energy is counted: many of a counter's updates, one per millisecond."""

    def touched_bytes(self, runner: Runner) -> int:
        """``rotated_bytes``, or what the machine's L2 cache asks for."""
        return self.rotated_bytes or 2 * runner.l2_bytes

    def warm_bytes(self, subject: "Subject", runner: Runner) -> int:
        """Memory touched before a copy of a kernel's weights is used again."""
        return max(self.touched_bytes(runner), min(self.least_copies * subject.size_bytes, self.cold_bytes))


@dataclass(frozen=True)
class Subject:
    """A kernel to be timed.

    Attributes:
        module: ``driver.rotating(kernel, rotated)``, compiled and loaded by the runner.
        arrays: One array per parameter of the kernel, in a single copy.
        rotated: Positions of the weights among ``arrays``.
        memory_bound: Whether to time it with weights from memory as well.
    """

    module: Any
    arrays: Sequence[NDArray[Any]]
    rotated: Collection[int]
    memory_bound: bool = False

    @property
    def size_bytes(self) -> int:
        """Of what one call touches."""
        return sum(array.nbytes for array in self.arrays)

    def copies(self, touched_bytes: int) -> int:
        """Copies of the weights, so that calls touch ``touched_bytes`` before they use the same copy again."""
        return -(-touched_bytes // self.size_bytes) if self.rotated else 1


@checked_dataclass(frozen=True)
class Measurement:
    """What timing a kernel gave.

    Attributes:
        latency_s: Median over rounds, with more than the L2 cache touched between two uses of the same weights.
        spread: Interquartile range over rounds, as a share of the median.
        cold_latency_s: The same with weights from memory, where asked for.
        energy_j: Joules per call, those of the whole machine; None where nothing counts them.
        reference_s: Median time of the reference kernel beside this one.
        drifted_rounds: Rounds in which the reference kernel's drift was not accepted, but not overcome either.
        rounds: Rounds.
        threads: Threads that the kernel used.
        date: When, in UTC.
    """

    latency_s: Positive
    spread: NonNegative
    cold_latency_s: Positive | None
    energy_j: NonNegative | None
    reference_s: Positive
    drifted_rounds: Annotated[int, Field(ge=0)]
    rounds: Count
    threads: Count
    date: datetime


def measure(subjects: Sequence[Subject], runner: Runner, procedure: Procedure) -> list[Measurement]:
    """Time kernels beside each other and beside the reference kernel.

    Args:
        subjects: Kernels, loaded by ``runner``.
        runner: The machine.
        procedure: How often and how long.
    """
    reference = _Reference(runner)

    def time(samplers: Sequence[Sampler]) -> list[_Rounds]:
        rounds: list[_Rounds] = [[] for _ in samplers]
        for _ in range(procedure.rounds):
            for sampler, of_one in zip(samplers, rounds, strict=True):
                of_one.append(time_until_calm(sampler.time, reference.time, reference.drift, procedure))
        return rounds

    samplers = [Sampler.of(s, procedure.warm_bytes(s, runner), runner, procedure) for s in subjects]
    rounds = time(samplers)
    rapl = runner.rapl
    energies = [sampler.energy_j(rapl) if rapl else None for sampler in samplers]
    # One after another, since all these copies together could exceed the memory.
    colds = [
        _median_s(*time([Sampler.of(s, procedure.cold_bytes, runner, procedure)])) if s.memory_bound else None
        for s in subjects
    ]
    return [
        _measurement(of_one, cold_s, energy_j, reference, procedure)
        for of_one, cold_s, energy_j in zip(rounds, colds, energies, strict=True)
    ]


def time_until_calm(
    kernel: Callable[[], float],
    reference: Callable[[], float],
    drift: Callable[[float], float],
    procedure: Procedure,
) -> tuple[float, float]:
    """Time a kernel between two timings of the reference, again while one of these has drifted.

    Args:
        kernel: Times the kernel.
        reference: Times the reference kernel.
        drift: How far a time of the reference is from the usual one, as a share.
        procedure: What drift is accepted, and how many repetitions.

    Returns:
        The kernel's time in the attempt of least drift, and the time of the reference beside it that drifted more.
    """
    attempts = []
    before = reference()
    for _ in range(1 + procedure.max_repetitions):
        kernel_s, after = kernel(), reference()
        drifted = max(before, after, key=drift)
        attempts.append((drift(drifted), kernel_s, drifted))
        if drift(drifted) <= procedure.max_drift:
            break
        before = after
    _, kernel_s, reference_s = min(attempts)
    return kernel_s, reference_s


@dataclass(frozen=True)
class Sampler:
    """A kernel with its arguments on the machine, warmed up.

    Attributes:
        run: Takes the calls of ``main`` per sample and the samples, and returns their times in seconds.
        copies: Kernels that a call of ``main`` runs.
        number: Calls of ``main`` per sample.
        procedure: Samples, and the percentile of them that counts.
    """

    run: Callable[[int, int], Sequence[float]]
    copies: int
    number: int
    procedure: Procedure

    @classmethod
    def of(cls, subject: Subject, touched_bytes: int, runner: Runner, procedure: Procedure) -> "Sampler":
        """Copy the arguments of a kernel.

        Args:
            subject: The kernel, loaded by ``runner``.
            touched_bytes: Memory touched before a copy of the weights is used again.
            runner: The machine.
            procedure: Samples and their duration.
        """
        copies, device = subject.copies(touched_bytes), runner.device
        arguments = [
            tvm.runtime.tensor(driver.repeat(a, copies) if i in subject.rotated else a.reshape(-1), device=device)
            for i, a in enumerate(subject.arrays)
        ]

        def run(number: int, repeat: int) -> Sequence[float]:
            evaluator = subject.module.time_evaluator("main", device, number=number, repeat=repeat)
            results: Sequence[float] = evaluator(*arguments).results
            return results

        number = max(1, round(procedure.sample_s / min(run(1, WARM_UPS))))
        return cls(run, copies, number, procedure)

    def time(self) -> float:
        """Seconds of one kernel."""
        times = self.run(self.number, self.procedure.samples)
        return float(np.percentile(times, self.procedure.percentile)) / self.copies

    def energy_j(self, rapl: Rapl) -> float:
        """Joules of one kernel."""
        calls = max(1, round(self.procedure.energy_s / (self.time() * self.copies)))
        joules = rapl.energy_j(lambda: self.run(calls, 1))
        return joules / ((calls + UNCOUNTED_CALLS) * self.copies)


_Rounds = list[tuple[float, float]]
"""Per round a kernel's time and the reference kernel's, in seconds."""


class _Reference:
    """The reference kernel on a machine, and all its times."""

    def __init__(self, runner: Runner) -> None:
        module = runner.load(driver.compile(driver.standalone(reference_kernel()), runner.target.attributes))
        self._evaluator = module.time_evaluator("main", runner.device, number=1, repeat=REFERENCE_SAMPLES)
        self._state = tvm.runtime.tensor(seeds(), device=runner.device)
        self._times: list[float] = []

    def time(self) -> float:
        self._times.append(float(np.median(self._evaluator(self._state).results)))
        return self._times[-1]

    def drift(self, time_s: float) -> float:
        return float(abs(time_s / np.median(self._times) - 1))


def _median_s(rounds: _Rounds) -> float:
    return float(np.median([time_s for time_s, _ in rounds]))


def _measurement(
    rounds: _Rounds,
    cold_latency_s: float | None,
    energy_j: float | None,
    reference: _Reference,
    procedure: Procedure,
) -> Measurement:
    times, references = zip(*rounds, strict=True)
    low, median, high = np.percentile(times, [25, 50, 75])
    return Measurement(
        latency_s=float(median),
        spread=float((high - low) / median),
        cold_latency_s=cold_latency_s,
        energy_j=energy_j,
        reference_s=float(np.median(references)),
        drifted_rounds=sum(reference.drift(time_s) > procedure.max_drift for time_s in references),
        rounds=len(rounds),
        threads=THREADS,
        date=datetime.now(UTC),
    )
