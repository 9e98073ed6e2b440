"""Activation ranges of least squared error, against brute force over both bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwsearch.quantize import affine_mse, minmax, mse

SAMPLES = arrays(np.float64, st.integers(1, 30), elements=st.floats(-10, 10, width=32))


def squared_error(x: np.ndarray, counts: np.ndarray, lo: float, hi: float, bits: int) -> float:
    """Mean squared error of the affine grid, from its definition: the nearest of all its values."""
    qmax = 2**bits - 1
    scale = (hi - lo) / qmax
    values = scale * (np.arange(qmax + 1) - min(max(round(-lo / scale), 0), qmax))
    return float(np.average(np.abs(x[:, None] - values).min(1) ** 2, weights=counts))


@given(SAMPLES, st.integers(1, 8), st.floats(-10, 0), st.floats(0.001, 10), st.integers(0, 2**32 - 1))
def test_affine_mse_is_the_distance_to_the_nearest_value(x, bits, lo, hi, seed):
    counts = np.random.default_rng(seed).integers(1, 9, len(x)).astype(np.float64)
    bounds = (torch.tensor([bound, bound / 2], dtype=torch.float64) for bound in (lo, hi))
    errors = affine_mse(torch.from_numpy(x), torch.from_numpy(counts), *bounds, bits)
    expected = [squared_error(x, counts, lo / k, hi / k, bits) for k in (1, 2)]
    np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-9, atol=1e-12)  # float64 both


def activations(name: str) -> np.ndarray:
    normal = np.random.default_rng(0).standard_normal(1000)
    return {
        "after ReLU": np.maximum(normal, 0),
        "sum": normal,
        "skewed": np.exp(normal) - 0.5,
        "negative": -np.abs(normal),
        "outlier": np.append(normal, 30.0),
    }[name]


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("name", ["after ReLU", "sum", "skewed", "negative", "outlier"])
def test_the_error_is_within_one_percent_of_brute_force_over_both_bounds(name, bits):
    x = activations(name)
    ones, shares = np.ones_like(x), np.arange(1, 41) / 40
    lows, highs = shares * min(x.min(), 0), shares * max(x.max(), 0)
    grid = [(lo, hi) for lo in np.unique(lows) for hi in np.unique(highs)]
    best = min(squared_error(x, ones, lo, hi, bits) for lo, hi in grid)
    found = mse(torch.from_numpy(x)[None], bits)
    assert squared_error(x, ones, float(found.lo), float(found.hi), bits) <= 1.01 * best


@given(SAMPLES, st.integers(1, 8))
def test_the_error_is_never_above_that_of_minmax(values, bits):
    x = torch.from_numpy(values)
    x[0] += 1e-3
    ones = torch.ones_like(x)
    found, whole = mse(x[None], bits), minmax(x[None], bits)
    assert affine_mse(x, ones, found.lo, found.hi, bits) <= affine_mse(x, ones, whole.lo, whole.hi, bits)
    assert whole.lo <= found.lo <= 0 <= found.hi <= whole.hi


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_at_zero_stays_there(sign):
    x = sign * torch.from_numpy(activations("after ReLU"))[None]
    found = mse(x, 4)
    zero, other = (found.lo, found.hi) if sign > 0 else (found.hi, found.lo)
    assert float(zero) == 0
    assert 0 < sign * float(other) < float(x.abs().max())


def test_counts_stand_for_repeated_values():
    values, counts = torch.tensor([[-1.0, 0.0, 0.5, 4.0]]), torch.tensor([[50, 200, 90, 1]])
    expanded = values.repeat_interleave(counts[0], dim=1)
    binned, whole = mse(values.double(), 3, counts), mse(expanded.double(), 3)
    torch.testing.assert_close(binned.lo, whole.lo)
    torch.testing.assert_close(binned.hi, whole.hi)
    assert binned.hi < 4  # the one outlier isn't worth the resolution


def test_bins_without_values_change_nothing():
    values, counts = torch.tensor([[-9.0, -1.0, 0.5, 9.0]]).double(), torch.tensor([[0, 3, 5, 0]])
    assert mse(values, 4, counts) == mse(values[:, 1:3], 4, counts[:, 1:3])


def test_rows_are_estimated_alone():
    x = torch.from_numpy(np.stack([activations("sum"), activations("skewed")]))
    together = mse(x, 4)
    alone = [mse(row[None], 4) for row in x]
    assert [(float(r.lo), float(r.hi)) for r in alone] == list(
        zip(together.lo.tolist(), together.hi.tolist(), strict=True)
    )


def test_a_tensor_of_zeros_has_an_empty_range():
    found = mse(torch.zeros(1, 5), 8)
    assert (float(found.lo), float(found.hi)) == (0.0, 0.0)
