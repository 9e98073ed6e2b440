"""Metrics of a model's error, against their definitions and scipy's."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cost_models.agreement import agreement


def test_errors_are_relative_to_what_was_measured() -> None:
    found = agreement([1.04, 0.9, 3.0, 4.0], [1.0, 1.0, 2.0, 4.0])
    assert found["n"] == 4
    assert found["mape"] == pytest.approx((0.04 + 0.1 + 0.5) / 4)
    assert found["bias"] == pytest.approx((0.04 - 0.1 + 0.5) / 4)
    assert found["max_error"] == pytest.approx(0.5)
    assert (found["within_5_percent"], found["within_10_percent"]) == (0.5, 0.75)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=30))
def test_rank_correlations_are_scipys(pairs) -> None:
    modelled, measured = np.array(pairs, dtype=float).T
    found = agreement(modelled, measured)
    if len(set(modelled)) == 1 or len(set(measured)) == 1:
        assert math.isnan(found["spearman"]) and math.isnan(found["kendall"])
    else:
        assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(modelled, measured).statistic, abs=1e-9)
        assert found["kendall"] == pytest.approx(scipy.stats.kendalltau(modelled, measured).statistic, abs=1e-9)
