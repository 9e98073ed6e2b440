"""The global optimum of the weight range, against every assignment of weights to levels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import global_ranges, mse_grid, requant, requant_global, weight_qmax

Floats = NDArray[np.float64]
BITS = range(2, 9)


def squared_error(row: Floats, weights: Floats, clip: float, bits: int) -> float:
    """Sum of squared errors on the narrow grid, from its definition."""
    qmax = weight_qmax(bits)
    levels = clip / qmax * np.arange(-qmax, qmax + 1)
    return float(np.sum(weights * np.abs(row[:, None] - levels).min(1) ** 2))


def least_error(row: Floats, weights: Floats, bits: int) -> float:
    """Least error over the scale: a parabola for each assignment, which changes where a weight meets a midpoint.

    The largest scale is the last at which the largest weight does not fall below the highest level.
    """
    qmax, a = weight_qmax(bits), np.abs(row)
    midpoints = np.arange(1, qmax + 1) - 0.5
    highest = a.max() / (qmax - 0.5) if qmax > 1 else a.max()
    scales = np.unique(np.append((a[:, None] / midpoints).ravel(), highest))
    scales = scales[(scales > 0) & (scales <= highest)]
    best = np.inf
    for low, high in zip(np.append(0, scales[:-1]), scales, strict=True):
        codes = np.minimum(np.rint(a / ((low + high) / 2)), qmax)
        bottom = np.sum(weights * a * codes) / max(np.sum(weights * codes**2), 1e-300)
        best = min(best, np.sum(weights * (a - np.clip(bottom, low, high) * codes) ** 2))
    return float(best)


def samples(name: str, shape: tuple[int, ...], seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    draw = {
        "normal": generator.standard_normal,
        "laplace": lambda size: generator.laplace(size=size),
        "heavy tails": lambda size: generator.standard_t(3, size),
        "uniform": lambda size: generator.uniform(-1, 1, size),
    }[name]
    return np.asarray(draw(shape)).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("count", [1, 4, 9, 27, 64])
@pytest.mark.parametrize("name", ["normal", "laplace", "heavy tails", "uniform"])
def test_channels_come_within_a_thousandth_of_the_optimum(name, count):
    rows = samples(name, (3, count))
    ones = np.ones(count)
    for bits, found in zip(BITS, global_ranges(torch.from_numpy(rows), BITS), strict=True):
        for row, clip in zip(rows, found.clip.tolist(), strict=True):
            # float32 arithmetic adds errors of rounding, which matter where the optimum is an exact fit
            floor = 1e-12 * float(np.sum(row**2))
            assert squared_error(row, ones, clip, bits) <= 1.001 * least_error(row, ones, bits) + floor


@pytest.mark.parametrize("name", ["normal", "laplace", "heavy tails", "uniform"])
def test_importances_weigh_the_errors(name):
    rows = samples(name, (4, 30))
    weights = np.random.default_rng(1).exponential(size=rows.shape)
    found = global_ranges(torch.from_numpy(rows), BITS, torch.from_numpy(weights))
    for bits, ranges in zip(BITS, found, strict=True):
        for row, importance, clip in zip(rows, weights, ranges.clip.tolist(), strict=True):
            assert squared_error(row, importance, clip, bits) <= 1.001 * least_error(row, importance, bits) + 1e-12


@pytest.mark.parametrize("name", ["normal", "laplace", "heavy tails", "uniform"])
def test_long_rows_come_within_a_thousandth_of_a_fine_grid(name):
    row = samples(name, (100_000,))
    found = global_ranges(torch.from_numpy(row)[None], BITS)
    for bits, ranges in zip(BITS, found, strict=True):
        clip, qmax = float(ranges.clip), weight_qmax(bits)

        def error(scale: float, qmax: int = qmax) -> float:
            return float(np.sum((np.clip(np.rint(row / scale), -qmax, qmax) * scale - row) ** 2))

        shares = np.concatenate([np.linspace(0.01, 1, 200), clip / np.abs(row).max() * np.linspace(0.97, 1.03, 61)])
        fine = min(error(np.abs(row).max() * share / qmax) for share in shares)
        assert error(clip / qmax) <= 1.001 * fine


def test_trained_channels_come_within_a_thousandth_of_the_optimum_where_golden_section_does_not():
    module = load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors")
    worst = 1.0
    for layer in (module.block1.conv2, module.block2.conv1):
        weight = layer.weight.detach().flatten(1)[:6]
        for bits in (4, 8):
            clips = zip(
                weight.double().numpy(), requant_global(weight, bits).clip, requant(weight, bits).clip, strict=True
            )
            for row, found, golden in clips:
                least = least_error(row, np.ones_like(row), bits)
                assert squared_error(row, np.ones_like(row), float(found), bits) <= 1.001 * least
                worst = max(worst, squared_error(row, np.ones_like(row), float(golden), bits) / least)
    assert worst > 1.01


ROWS = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=st.floats(-8, 8, width=16))


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(2, 8))
def test_no_grid_of_clipping_points_is_better(rows, bits):
    x = torch.from_numpy(rows)
    found, grid = requant_global(x, bits).clip.tolist(), mse_grid(x, bits).clip.tolist()
    for row, clip, other in zip(rows.astype(np.float64), found, grid, strict=True):
        if np.abs(row).max() == 0:
            assert clip == 0
            continue
        floor = 1e-10 * float(np.sum(row**2))
        ones = np.ones(len(row))
        assert squared_error(row, ones, clip, bits) <= 1.001 * squared_error(row, ones, other, bits) + floor


def test_rows_do_not_influence_each_other():
    x = torch.from_numpy(samples("normal", (40, 700))) * torch.logspace(-3, 3, 40).view(-1, 1)
    together = requant_global(x, 4).clip
    for i in (0, 17, 39):
        assert requant_global(x[i : i + 1], 4).clip == together[i]


def test_all_widths_at_once_are_the_widths_one_by_one():
    x = torch.from_numpy(samples("laplace", (3, 100)))
    for bits, found in zip(BITS, global_ranges(x, BITS), strict=True):
        assert torch.equal(found.clip, requant_global(x, bits).clip)


def test_zeros_and_constants_have_defined_ranges():
    found = requant_global(torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [0.0, -3.0, 0.0]]), 4)
    assert found.clip[0] == 0
    for row, clip in ((np.full(3, 2.0), found.clip[1]), (np.array([0.0, -3.0, 0.0]), found.clip[2])):
        assert squared_error(row, np.ones(3), float(clip), 4) < 1e-12
    assert torch.equal(found.lo, -found.hi)


def test_a_long_row_of_zeros_has_an_empty_range():
    assert requant_global(torch.zeros(1, 70_000), 4).clip.tolist() == [0.0]


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_that_weights_have_not_are_refused(bits):
    with pytest.raises(ValueError, match=f"Weights quantize to 2 to 8 bits, not {bits}"):
        requant_global(torch.ones(1, 4), bits)
