"""Weight ranges of least squared error, against brute force.

Golden section finds a local minimum. Where the error has one minimum only (large tensors, 2 to 4 bits) that is the global
one; at 6 to 8 bits and for short rows it is known not to be.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import minmax, mse_grid, quantize_weight, requant, weight_mse, weight_qmax

BITS = st.integers(2, 8)
ROWS = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=st.floats(-10, 10, width=32))


def squared_error(row: np.ndarray, clip: float, bits: int) -> float:
    """Mean squared error of the narrow grid, from its definition."""
    scale = clip / (2 ** (bits - 1) - 1)
    levels = scale * np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))
    return float(np.mean(np.abs(row[:, None] - levels).min(1) ** 2))  # the nearest level also saturates


def least_error(row: np.ndarray, bits: int, points: int = 1000) -> float:
    return min(squared_error(row, np.abs(row).max() * k / points, bits) for k in range(1, points + 1))


def samples(name: str) -> np.ndarray:
    generator = np.random.default_rng(0)
    draw = {
        "normal": generator.standard_normal,
        "laplace": generator.laplace,
        "heavy tails": lambda size: generator.standard_t(3, size),
        "uniform": lambda size: generator.uniform(-1, 1, size),
    }[name]
    return np.asarray(draw(size=2304))


@given(ROWS, BITS, st.floats(0.01, 1))
def test_weight_mse_is_the_distance_to_the_nearest_level(rows, bits, share):
    clip = np.maximum(np.abs(rows).max(1), 1e-3) * share
    errors = weight_mse(torch.from_numpy(rows), torch.from_numpy(clip), bits)
    expected = [squared_error(row, c, bits) for row, c in zip(rows, clip, strict=True)]
    np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-9, atol=1e-12)  # float64 both


def test_weight_mse_is_the_error_of_the_stored_weights():
    weight = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    for bits in range(2, 9):
        clip = requant(weight, bits).clip
        stored = quantize_weight(weight, clip, bits).dequantize()
        # float32 products and sums of 100 squares
        torch.testing.assert_close(
            weight_mse(weight, clip, bits), (stored - weight).square().mean(1), rtol=1e-4, atol=0
        )


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("name", ["normal", "laplace", "heavy tails", "uniform"])
def test_golden_section_comes_within_one_percent_of_brute_force_at_few_bits(name, bits):
    row = samples(name)
    clip = float(requant(torch.from_numpy(row)[None], bits).clip)
    assert squared_error(row, clip, bits) <= 1.01 * least_error(row, bits, points=500)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_golden_section_comes_within_one_percent_of_brute_force_on_trained_weights(bits):
    module = load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors")
    for layer in (module.block1.conv2, module.block2.conv1, module.block3.conv2):
        row = layer.weight.detach().double().flatten()
        error = squared_error(row.numpy(), float(requant(row[None], bits).clip), bits)
        assert error <= 1.01 * least_error(row.numpy(), bits, points=200)


@given(ROWS, BITS)
def test_golden_section_is_never_worse_than_minmax(rows, bits):
    x = torch.from_numpy(rows)
    x[:, 0] += 1e-3  # no row of zeros alone
    bounds = requant(x, bits)
    assert (weight_mse(x, bounds.clip, bits) <= weight_mse(x, minmax(x, bits).clip, bits)).all()
    assert torch.equal(bounds.lo, -bounds.hi)
    assert ((bounds.hi > 0) & (bounds.hi <= x.abs().amax(1))).all()


def test_golden_section_is_known_to_miss_the_global_minimum_of_some_short_channels():
    rows = np.random.default_rng(1).standard_normal((24, 36))  # 3x3 convolutions of 4 input channels
    clips = requant(torch.from_numpy(rows), 4).clip.tolist()
    excess = [squared_error(r, c, 4) / least_error(r, 4, points=400) - 1 for r, c in zip(rows, clips, strict=True)]
    # A regression test: our own run gave 6 % in one channel and 0.25 % on average.
    assert 0.01 < max(excess) < 0.1
    assert np.mean(excess) < 0.005


@given(ROWS, BITS, st.integers(1, 30))
def test_mse_grid_is_the_best_of_its_points(rows, bits, points):
    x = torch.from_numpy(rows)
    x[:, 0] += 1e-3
    found = weight_mse(x, mse_grid(x, bits, points=points).clip, bits)
    best = [min(squared_error(r, np.abs(r).max() * k / points, bits) for k in range(1, points + 1)) for r in x.numpy()]
    np.testing.assert_allclose(found.numpy(), best, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [requant, mse_grid])
def test_rows_are_estimated_alone(estimator):
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 5).view(5, 1)
    together = estimator(x, 3)
    for row, clip in zip(x, together.clip, strict=True):
        assert estimator(row[None], 3).clip == clip


@pytest.mark.parametrize("estimator", [requant, mse_grid])
def test_scaling_the_weights_by_a_power_of_two_scales_the_range(estimator):
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(estimator(8 * x, 4).clip, 8 * estimator(x, 4).clip)


@pytest.mark.parametrize("estimator", [requant, mse_grid])
def test_rows_of_zeros_have_an_empty_range(estimator):
    bounds = estimator(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 4)
    assert (float(bounds.lo[0]), float(bounds.hi[0])) == (0.0, 0.0)
    assert bounds.hi[1] > 0


@pytest.mark.parametrize("estimator", [requant, mse_grid])
def test_weight_estimators_refuse_histograms_and_say_what_to_use(estimator):
    with pytest.raises(ValueError) as error:
        estimator(torch.ones(1, 4), 4, torch.ones(1, 4))
    assert str(error.value) == (
        "requant and mse_grid estimate weight ranges; use minmax, percentile or mse for activations."
    )


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_that_weights_have_not_are_refused(bits):
    assert weight_qmax(2) == 1
    with pytest.raises(ValueError, match=f"Weights quantize to 2 to 8 bits, not {bits}"):
        requant(torch.ones(1, 4), bits)
