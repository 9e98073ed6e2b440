"""Timing kernels: the rules by which rounds are accepted, and the real thing."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from cost_models.tvm import driver
from cost_models.tvm.energy import Rapl
from cost_models.tvm.measure import Procedure, Sampler, Subject, measure, time_until_calm
from cost_models.tvm.runner import LocalRunner

QUICK = Procedure(rounds=3, samples=3, sample_s=2e-4, cold_bytes=1 << 22)


@pytest.fixture
def dot_subject(dot):
    runner = LocalRunner.host()

    def subject(outputs: int, inputs: int, **options: bool) -> Subject:
        executable = driver.compile(driver.rotating(dot(outputs, inputs), {1}), runner.target.attributes)
        arrays = np.ones(inputs, np.uint8), np.ones((outputs, inputs), np.int8), np.zeros(outputs, np.int32)
        return Subject(runner.load(executable), arrays, {1}, **options)

    return subject


def accepted(kernel_times: list[float], reference_times: list[float]) -> tuple[float, float]:
    kernel, reference = iter(kernel_times), iter(reference_times)
    procedure = Procedure(max_drift=0.05, max_repetitions=2)
    return time_until_calm(lambda: next(kernel), lambda: next(reference), lambda time_s: abs(time_s - 1), procedure)


def test_a_calm_machine_is_timed_once() -> None:
    assert accepted([7.0], [1.0, 1.04]) == (7.0, 1.04)


@pytest.mark.parametrize("drifted", [1.2, 0.8])
def test_drift_on_either_side_of_the_kernel_repeats_it(drifted: float) -> None:
    assert accepted([9.0, 7.0], [drifted, 1.0, 1.0]) == (7.0, 1.0)
    assert accepted([9.0, 8.0, 7.0], [1.0, drifted, 1.0, 1.0]) == (7.0, 1.0)


def test_after_the_last_repetition_the_least_drift_counts() -> None:
    assert accepted([9.0, 7.0, 8.0], [1.0, 1.5, 1.1, 1.2]) == (8.0, 1.2)


def test_copies_are_touched_in_turn() -> None:
    arrays = np.zeros(100, np.uint8), np.zeros(300, np.int8), np.zeros(100, np.uint8)
    assert [Subject(None, arrays, {1}).copies(touched) for touched in (1, 500, 501, 5000)] == [1, 1, 2, 10]
    assert Subject(None, arrays, ()).copies(5000) == 1


def test_a_networks_other_layers_are_read_between_two_uses() -> None:
    runner, procedure = LocalRunner.host(), Procedure(rotated_bytes=2000, least_copies=8, cold_bytes=100_000)
    sizes = [100, 500, 20_000, 200_000]
    subjects = [Subject(None, (np.zeros(size, np.uint8),), {0}) for size in sizes]
    assert [s.copies(procedure.warm_bytes(s, runner)) for s in subjects] == [20, 8, 5, 1]


def test_kernels_are_timed(dot_subject) -> None:
    subjects = [dot_subject(8, 64), dot_subject(64, 4096, memory_bound=True)]
    small, large = measure(subjects, LocalRunner.host(), QUICK)
    assert 0 < 10 * small.latency_s < large.latency_s  # 512 times the work
    assert small.cold_latency_s is None
    assert large.cold_latency_s > 0
    assert (large.rounds, large.threads) == (3, 1)
    assert large.reference_s > 0
    assert large.spread >= 0


def test_energy_is_counted_over_many_calls(dot_subject, tmp_path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("1000000000")
    (zone / "energy_uj").write_text("0")
    sampler = Sampler.of(dot_subject(8, 64), 1, LocalRunner.host(), QUICK)
    started = []

    def run(number: int, repeat: int) -> list[float]:
        started.append(1 + number * repeat)
        (zone / "energy_uj").write_text(str(3 * sum(started)))  # 3 uJ per call
        return sampler.run(number, repeat)

    assert replace(sampler, run=run).energy_j(Rapl((zone,))) == pytest.approx(3e-6, rel=1e-9)
    assert started[-1] > 1000  # 0.2 s of a kernel of less than a microsecond


def test_without_a_counter_energy_is_unknown(dot_subject) -> None:
    runner = LocalRunner.host()
    (measurement,) = measure([dot_subject(8, 64)], runner, QUICK)
    assert (measurement.energy_j is None) == (runner.rapl is None)


def test_the_arrays_of_the_caller_are_not_written(dot_subject) -> None:
    subject = dot_subject(8, 64)
    out = np.zeros(8, np.int32)
    measure([Subject(subject.module, (*subject.arrays[:2], out), {1})], LocalRunner.host(), QUICK)
    assert np.array_equal(out, np.zeros(8))


def test_a_wrong_procedure_is_refused() -> None:
    with pytest.raises(ValidationError, match="rounds"):
        Procedure(rounds=0)
