"""Domination, hypervolume and intervals against definitions, closed forms and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hwsearch.pareto import (
    DIRECTIONS,
    dominated_by,
    hypervolume,
    hypervolume_history,
    mark_dominated_by_uniform,
    non_dominated,
    progress_table,
    reference_likeness,
    reference_point,
    wilson_interval,
)

OBJECTIVES = ["top1", "latency_s", "bops"]


def frame(rows: list[tuple[float, ...]], columns: list[str] = OBJECTIVES) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns[: len(rows[0])] if rows else columns, dtype=float)


def dominates(one: pd.Series, other: pd.Series) -> bool:
    """By definition: nowhere worse, somewhere better."""
    sign = {name: 1 if direction == "minimize" else -1 for name, direction in DIRECTIONS.items()}
    pairs = [(sign[name] * one[name], sign[name] * other[name]) for name in one.index]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


# Few distinct values, so that ties and equal rows are common.
points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(points)
def test_non_dominated_is_what_the_definition_says(rows):
    table = frame(rows)
    expected = [not any(dominates(other, row) for _, other in table.iterrows()) for _, row in table.iterrows()]
    assert non_dominated(table, OBJECTIVES).tolist() == expected


@given(points, points)
def test_dominated_by_is_what_the_definition_says(rows, others):
    table, other = frame(rows), frame(others)
    expected = [any(dominates(o, row) for _, o in other.iterrows()) for _, row in table.iterrows()]
    assert dominated_by(table, other, OBJECTIVES).tolist() == expected


def test_identical_rows_are_all_kept_and_the_index_survives():
    table = frame([(90, 1.0), (90, 1.0), (80, 2.0)]).set_index(pd.Index([7, 3, 5]))
    assert non_dominated(table, OBJECTIVES[:2]).to_dict() == {7: True, 3: True, 5: False}


def test_differences_in_the_last_bit_count():
    table = frame([(90.0, 1.0), (math.nextafter(90.0, 100), 1.0)])
    assert non_dominated(table, OBJECTIVES[:2]).tolist() == [False, True]


def test_an_empty_table_has_an_empty_front_without_volume():
    table = frame([])
    assert non_dominated(table, OBJECTIVES).empty
    assert hypervolume(table, ["top1", "bops"], {"top1": 80, "bops": 1}) == 0.0


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["top1", "energy_j"], r"Objective 'energy_j' is unknown in 1 of 2 rows; drop them first\."),
        (["top1", "latency_s"], r"Objective 'latency_s' is not a column of the table; its columns are \['top1', 'ene"),
        (["top1", "speed"], r"Objective 'speed' has no direction; choose from \['top1', 'search_top1', 'test_top1', "),
        ([], r"Objectives \[\] must be one or more distinct names"),
        (["top1", "top1"], r"Objectives \['top1', 'top1'\] must be one or more distinct names"),
    ],
)
def test_unusable_objectives_are_named(objectives, message):
    table = pd.DataFrame({"top1": [90.0, 80.0], "energy_j": [1.0, np.nan]})
    with pytest.raises(ValueError, match=message):
        non_dominated(table, objectives)


def test_hypervolume_of_two_steps_is_the_sum_of_their_rectangles():
    # Box: 20 points of top-1 (80..100) by 10 s. 90 % at 4 s covers 10 x 6; 95 % at 8 s adds 5 x 2: 70 of 200.
    table = frame([(90, 4.0), (95, 8.0)])
    assert hypervolume(table, ["top1", "latency_s"], {"top1": 80.0, "latency_s": 10.0}) == pytest.approx(70 / 200)


def test_hypervolume_ignores_dominated_rows_and_rows_beyond_the_reference_point():
    reference = {"top1": 80.0, "latency_s": 10.0}
    table = frame([(90, 4.0), (95, 8.0), (85, 5.0), (70, 1.0), (99, 11.0)])
    assert hypervolume(table, ["top1", "latency_s"], reference) == pytest.approx(70 / 200)


def test_hypervolume_of_one_point_is_a_product_in_three_dimensions():
    reference = {"top1": 80.0, "latency_s": 10.0, "bops": 1e12, "energy_j": 1.0}
    table = frame([(95, 5.0, 9e11)])
    assert hypervolume(table, OBJECTIVES, reference) == pytest.approx(0.75 * 0.5 * 0.1)


def test_hypervolume_of_the_ideal_is_one_and_of_the_reference_point_zero():
    reference = {"top1": 80.0, "latency_s": 10.0}
    assert hypervolume(frame([(100, 0.0)]), ["top1", "latency_s"], reference) == 1.0
    assert hypervolume(frame([(80, 10.0)]), ["top1", "latency_s"], reference) == 0.0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"top1": 80.0}, r"The reference point has no 'latency_s'; it has \['top1'\]\."),
        ({"top1": 80.0, "latency_s": 0.0}, r"The reference point's latency_s must be above 0, not 0\.0\."),
        ({"top1": 100.0, "latency_s": 1.0}, r"The reference point's top1 must be below 100, not 100\.0\."),
        ({"top1": 80.0, "latency_s": math.nan}, r"The reference point's latency_s must be above 0, not nan\."),
    ],
)
def test_unusable_reference_points_are_refused(reference, message):
    with pytest.raises(ValueError, match=message):
        hypervolume(frame([(90, 4.0)]), ["top1", "latency_s"], reference)


@given(st.lists(st.tuples(st.integers(78, 100), st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_the_history_is_the_hypervolume_of_every_beginning(rows):
    table, reference = frame(rows), {"top1": 80.0, "latency_s": 10.0, "bops": 10.0}
    expected = [hypervolume(table[: n + 1], OBJECTIVES, reference) for n in range(len(rows))]
    assert hypervolume_history(table, OBJECTIVES, reference).tolist() == pytest.approx(expected, abs=1e-12)


def test_progress_counts_what_was_judged_and_only_feasible_complete_trials_add_to_it():
    trials = frame([(90, 4.0), (95, 8.0), (95, 8.0), (99, 1.0), (math.nan, math.nan), (99, 1.0)])
    trials["trial"] = range(6)
    trials["state"] = ["dropped", "complete", "complete", "complete", "duplicate", "complete"]
    trials["feasible"] = [False, True, True, False, False, True]
    progress = progress_table(trials, ["top1", "latency_s"], {"top1": 80.0, "latency_s": 10.0})
    assert progress["trial"].tolist() == [0, 1, 2, 3, 5]
    assert progress["judged"].tolist() == [1, 2, 3, 4, 5]
    assert progress["hypervolume"].tolist() == pytest.approx(
        [0, 15 / 20 * 0.2, 15 / 20 * 0.2, 15 / 20 * 0.2, 19 / 20 * 0.9]
    )


def test_reference_point_is_ten_points_below_float_at_the_cost_of_uniform_8_bit():
    assert reference_point(91.5, {"latency_s": 0.02}) == {"top1": 81.5, "latency_s": 0.02}


def test_a_network_is_like_float_up_to_a_tenth_of_its_certainty_and_of_its_answers():
    # A network that gives float's certain answers a probability of 0.9: 1 ln(1 / 0.9).
    assert reference_likeness() == {"kl": pytest.approx(math.log(1 / 0.9)), "agreement": 90.0}


def test_only_mixed_rows_are_marked_as_dominated_by_feasible_uniform_ones_on_the_test_split():
    table = pd.DataFrame(
        {
            "kind": ["float", "uniform", "uniform", "uniform", "mixed", "mixed", "mixed"],
            "feasible": [False, True, True, False, True, True, True],  # else the fourth would dominate all
            "search_top1": [92.0, 90.0, 80.0, 99.0, 91.0, 70.0, 90.0],
            "test_top1": [92.0, 90.0, 80.0, 99.0, 89.0, 91.0, 90.0],
            "latency_s": [np.nan, 1.0, 1.5, 0.1, 1.0, 0.5, 1.0],
        },
        index=[6, 5, 4, 3, 2, 1, 0],
    )
    expected = {6: False, 5: False, 4: False, 3: False, 2: True, 1: False, 0: False}
    assert mark_dominated_by_uniform(table, ["top1", "latency_s"]).to_dict() == expected
    assert mark_dominated_by_uniform(table, ["test_top1", "latency_s"]).to_dict() == expected


@given(st.integers(1, 50_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_interval_agrees_with_scipy(counts, confidence):
    expected = binomtest(*counts).proportion_ci(confidence, method="wilson")
    # scipy computes the same formula in another order.
    assert wilson_interval(*counts, confidence) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2), r"A Wilson interval needs 0 <= correct <= n and n >= 1, not correct=3, n=2\."),
        ((0, 0), r"not correct=0, n=0\."),
        ((1, 2, 1.0), r"confidence must lie between 0 and 1, not 1\.0\."),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments)
