import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsearch.data import evenly_spaced, stratified_halves

LABELS = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(lambda labels: np.array(labels, dtype=np.int64))
SEEDS = st.integers(0, 2**32 - 1)


@given(LABELS, SEEDS)
def test_halves_are_sorted_disjoint_and_cover_all_images(labels, seed):
    first, second = stratified_halves(labels, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert np.all(np.diff(first) > 0) and np.all(np.diff(second) > 0)


@given(LABELS, SEEDS)
def test_halves_differ_by_at_most_one_image_in_all_and_per_class(labels, seed):
    first, second = stratified_halves(labels, seed)
    assert 0 <= len(first) - len(second) <= 1
    for label in np.unique(labels):
        assert abs(np.sum(labels[first] == label) - np.sum(labels[second] == label)) <= 1


@given(LABELS, SEEDS)
def test_halves_depend_on_labels_and_seed_alone(labels, seed):
    once, again = stratified_halves(labels, seed), stratified_halves(labels.copy(), seed)
    assert np.array_equal(once[0], again[0]) and np.array_equal(once[1], again[1])


def test_seeds_give_different_halves():
    labels = np.zeros(100, dtype=np.int64)
    assert not np.array_equal(stratified_halves(labels, 0)[0], stratified_halves(labels, 1)[0])


@pytest.mark.parametrize("labels", [np.zeros(1, dtype=np.int64), np.zeros((4, 1), dtype=np.int64)])
def test_labels_that_cannot_be_halved_are_refused(labels):
    with pytest.raises(ValueError) as error:
        stratified_halves(labels, 0)
    assert str(error.value) == f"Labels of shape {labels.shape} cannot be split; expected [N] with N >= 2."


@given(st.integers(0, 200), st.none() | st.integers(1, 300))
def test_evenly_spaced_samples_keep_equal_distances(count, at_most):
    chosen = evenly_spaced(count, at_most)
    assert len(chosen) == (count if at_most is None else min(count, at_most))
    if len(chosen):
        gaps = np.diff([*chosen, count])
        assert chosen[0] == 0 and gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_evenly_spaced_takes_at_least_one():
    with pytest.raises(ValueError) as error:
        evenly_spaced(10, 0)
    assert str(error.value) == "data.calibration_images=0 must be at least 1."
