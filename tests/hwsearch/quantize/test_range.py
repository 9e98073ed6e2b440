"""Ranges without an error measure, against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsearch.quantize import Range, minmax, percentile

VALUES = st.lists(st.integers(-50, 50), min_size=1, max_size=60)
SHARES = st.floats(50, 100, exclude_min=True)


def test_the_clip_is_the_larger_bound():
    bounds = Range(torch.tensor([-3.0, -1.0, 0.0]), torch.tensor([2.0, 5.0, 0.0]))
    assert bounds.clip.tolist() == [3.0, 5.0, 0.0]


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_minmax_covers_every_value_and_zero(bits):
    bounds = minmax(torch.tensor([[-1.0, 4.0, 2.0], [1.0, 2.0, 3.0], [-3.0, -2.0, -5.0]]), bits)
    assert bounds.lo.tolist() == [-1.0, 0.0, -5.0]
    assert bounds.hi.tolist() == [4.0, 3.0, 0.0]


def test_minmax_ignores_empty_bins():
    centres = torch.tensor([[-9.0, -1.0, 0.0, 2.0, 8.0]])
    bounds = minmax(centres, 8, torch.tensor([[0.0, 3.0, 1.0, 2.0, 0.0]]))
    assert (float(bounds.lo), float(bounds.hi)) == (-1.0, 2.0)


@given(VALUES, SHARES)
def test_percentile_with_counts_equals_percentile_of_the_expanded_samples(values, q):
    samples = np.sort(np.array(values, dtype=np.float64))
    centres, counts = np.unique(samples, return_counts=True)
    # Empty bins between and around the others must change nothing.
    centres = np.concatenate([centres, centres + 0.5, [centres[0] - 1]])
    counts = np.concatenate([counts, np.zeros(len(counts) + 1, dtype=counts.dtype)])
    binned = percentile(torch.from_numpy(centres)[None], 8, torch.from_numpy(counts)[None], q=q)
    expanded = percentile(torch.from_numpy(samples)[None], 8, q=q)
    assert (float(binned.lo), float(binned.hi)) == (float(expanded.lo), float(expanded.hi))


@given(VALUES, SHARES)
def test_percentile_cuts_no_more_than_its_tails(values, q):
    x = np.array(values, dtype=np.float64)
    bounds = percentile(torch.from_numpy(x)[None], 8, q=q)
    tail = (1 - q / 100) / 2 + 1e-9
    assert bounds.lo <= 0 <= bounds.hi
    assert np.mean(x < float(bounds.lo)) <= tail
    assert np.mean(x > float(bounds.hi)) <= tail


@given(VALUES)
def test_percentile_of_everything_is_minmax(values):
    x = torch.tensor(values, dtype=torch.float64)[None]
    assert percentile(x, 8, q=100) == minmax(x, 8)


def test_percentile_cuts_outliers_of_each_row_alone():
    x = torch.cat([torch.arange(-500.0, 500), torch.tensor([1e6])])
    bounds = percentile(torch.stack([x, x / 10, x.abs()]), 8, q=98)
    # 1001 samples, 1 % at each end: the 11th from below and from above remain; magnitudes come in pairs.
    assert bounds.lo.tolist() == [-490.0, -49.0, 0.0]
    assert bounds.hi.tolist() == [490.0, 49.0, 495.0]


@pytest.mark.parametrize("q", [50, 0, -1, 100.1, float("nan")])
def test_shares_outside_their_interval_are_refused(q):
    with pytest.raises(ValueError) as error:
        percentile(torch.ones(1, 3), 8, q=q)
    assert str(error.value) == f"percentile keeps a share q in percent with 50 < q <= 100, not {q}."
