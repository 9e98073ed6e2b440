"""The fastest variant is found within its time; ties go to the first."""

from time import monotonic, sleep

import numpy as np
import pytest

from cost_models.tvm import driver
from cost_models.tvm.measure import Procedure, Subject
from cost_models.tvm.runner import LocalRunner
from cost_models.tvm.search import fastest

QUICK = Procedure(rounds=2, samples=3, sample_s=1e-4)


@pytest.fixture
def variant(dot):
    """A variant's knobs are its number of outputs: more of them take longer."""
    runner = LocalRunner.host()

    def subject(outputs: int) -> Subject:
        executable = driver.compile(driver.rotating(dot(outputs, 256), ()), runner.target.attributes)
        arrays = np.ones(256, np.uint8), np.ones((outputs, 256), np.int8), np.zeros(outputs, np.int32)
        return Subject(runner.load(executable), arrays, ())

    return subject


def test_the_fastest_variant_is_found(variant) -> None:
    found = fastest([512, 8, 64, 128, 256], variant, LocalRunner.host(), 60.0, procedure=QUICK)
    assert (found.knobs, found.tried) == (8, 5)
    assert found.latency_s > 0


def test_among_equals_the_first_wins(variant) -> None:
    order = [(512, "slow"), (8, "first"), (9, "second"), (10, "third")]
    found = fastest(order, lambda knobs: variant(knobs[0]), LocalRunner.host(), 60.0, procedure=QUICK, tie=3.0)
    assert found.knobs == (8, "first")


def test_the_budget_ends_compilation_but_one_is_always_tried(variant) -> None:
    def slow(outputs: int) -> Subject:
        sleep(0.2)
        return variant(outputs)

    start = monotonic()
    found = fastest(list(range(8, 1008)), slow, LocalRunner.host(), 0.1, procedure=QUICK)
    assert (found.knobs, found.tried) == (8, 1)
    assert monotonic() - start < 30


def test_a_search_needs_candidates(variant) -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        fastest([], variant, LocalRunner.host(), 1.0)
