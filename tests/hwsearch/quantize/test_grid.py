"""Integer grids: which codes and values they hold, and how values are rounded to them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsearch.quantize import (
    QuantizedWeight,
    Range,
    activation_grid,
    minmax,
    nearest_level,
    quantize_bias,
    quantize_weight,
    uniform_levels,
    weight_qmax,
)

WEIGHT_BITS = st.integers(2, 8)
ACTIVATION_BITS = st.integers(1, 8)
# Normal float32 numbers whose quotients by 127 are normal, too.
VALUES = st.floats(-1e6, 1e6, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)
ROWS = st.integers(1, 12).flatmap(lambda n: st.lists(st.lists(VALUES, min_size=n, max_size=n), min_size=1, max_size=4))


@pytest.mark.parametrize(("bits", "qmax"), [(2, 1), (3, 3), (4, 7), (5, 15), (6, 31), (7, 63), (8, 127)])
def test_weight_codes_are_symmetric_and_narrow_so_that_two_bits_are_ternary(bits, qmax):
    assert weight_qmax(bits) == qmax
    weight = torch.linspace(-1, 1, 2 * qmax + 1).view(1, -1)
    codes = quantize_weight(weight, torch.ones(1), bits).codes
    assert codes.dtype == torch.int8
    assert torch.equal(codes[0], torch.arange(-qmax, qmax + 1, dtype=torch.int8))


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 32])
def test_other_weight_widths_are_refused(bits):
    with pytest.raises(ValueError) as error:
        quantize_weight(torch.ones(1, 1), torch.ones(1), bits)
    assert str(error.value) == f"Weights quantize to 2 to 8 bits, not {bits}."


@given(ROWS, WEIGHT_BITS, st.floats(0.01, 1), st.booleans())
def test_weights_inside_the_clip_move_by_half_a_step_at_most_and_others_to_the_edge(rows, bits, share, per_tensor):
    weight = torch.tensor(rows)
    clip = minmax(weight.view(1, -1) if per_tensor else weight, bits).clip * share
    quantized = quantize_weight(weight, clip, bits)
    qmax = weight_qmax(bits)
    codes, scale = quantized.codes.double(), quantized.scale.double().view(-1, 1)
    assert codes.abs().max() <= qmax
    assert torch.equal(quantized.dequantize(), (codes * scale).float())  # the product of int8 and float32 is exact
    clipped = weight.double().clamp(-qmax * scale, qmax * scale)
    # The quotient w / scale is rounded to float32, which is off by at most 2^-24 of a code of up to 127.
    assert ((codes * scale - clipped).abs() <= scale * (0.5 + 127 * 2**-24)).all()


def test_ties_are_rounded_to_even():
    weight = torch.tensor([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 7.0]])
    assert quantize_weight(weight, torch.tensor([7.0]), 4).codes.tolist() == [[-2, -2, 0, 0, 2, 2, 7]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_channel_of_zeros_stays_zero(bits):
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    quantized = quantize_weight(weight, minmax(weight, bits).clip, bits)
    assert not quantized.codes[0].any()
    assert quantized.scale.isfinite().all() and (quantized.scale > 0).all()


def test_scales_apply_along_the_first_dimension_of_any_weight():
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    per_channel = quantize_weight(weight, weight.abs().amax((1, 2, 3)), 5)
    for channel in range(4):
        alone = quantize_weight(weight[channel : channel + 1], weight[channel].abs().amax().view(1), 5)
        assert torch.equal(per_channel.codes[channel], alone.codes[0])
        assert torch.equal(per_channel.dequantize()[channel], alone.dequantize()[0])


@given(st.floats(-1e6, 0), st.floats(0, 1e6), ACTIVATION_BITS)
def test_activation_grids_hold_zero_and_reach_both_bounds_to_half_a_step(lo, hi, bits):
    if 0 < hi - lo < 1e-30:
        return
    grid = activation_grid(Range(torch.tensor([lo]), torch.tensor([hi])), bits)
    lo, hi = float(np.float32(lo)), float(np.float32(hi))  # as torch holds them
    assert grid.qmax == 2**bits - 1
    assert 0 <= grid.zero_point <= grid.qmax  # so zero is the value of a code
    assert grid.scale > 0
    if hi > lo:
        assert grid.scale == (hi - lo) / grid.qmax
        values = grid.scale * (np.array([0, grid.qmax]) - grid.zero_point)
        assert np.abs(values - [lo, hi]).max() <= grid.scale * (0.5 + 1e-9)


def test_non_negative_activations_need_no_zero_point():
    grid = activation_grid(Range(torch.tensor([0.0]), torch.tensor([6.0])), 4)
    assert (grid.scale, grid.zero_point, grid.qmax) == (6 / 15, 0, 15)


def test_one_bit_activations_are_zero_and_one():
    grid = activation_grid(Range(torch.tensor([0.0]), torch.tensor([0.7])), 1)
    assert (grid.zero_point, grid.qmax) == (0, 1)
    assert grid.scale == pytest.approx(0.7)


def test_a_tensor_of_zeros_has_a_grid():
    grid = activation_grid(Range(torch.zeros(1), torch.zeros(1)), 8)
    assert (grid.scale, grid.zero_point) == (1.0, 0)


def test_biases_are_whole_steps_of_the_accumulator_ties_to_even():
    codes = torch.tensor([[1, 0], [-1, 2], [3, 1]], dtype=torch.int8)
    weight = QuantizedWeight(codes, torch.tensor([0.5, 0.25, 2.0]))
    bias = torch.tensor([0.25 + 1.1, 5 * 0.0625, -7.0])
    # steps of 0.25 * (0.5, 0.25, 2): 10.8, 5 and -14 of them
    assert torch.equal(quantize_bias(bias, weight, 0.25), torch.tensor([11 * 0.125, 0.3125, -7.0]))
    assert torch.equal(quantize_bias(torch.tensor([1.5 * 0.125, 0, 0]), weight, 0.25)[:1], torch.tensor([0.25]))


def test_a_channel_without_weights_keeps_its_bias():
    weight = QuantizedWeight(torch.tensor([[0, 0], [0, 1]], dtype=torch.int8), torch.tensor([1.0]))
    assert torch.equal(quantize_bias(torch.tensor([0.3, 0.3]), weight, 1.0), torch.tensor([0.3, 0.0]))


def test_scales_per_group_apply_to_the_weights_of_each_group():
    weight = torch.tensor([[1.0, 2.0, 3.0, -8.0], [0.5, 0.5, 0.0, 0.0]])
    quantized = quantize_weight(weight, weight.reshape(2, 2, 2).abs().amax(2), 3)
    assert quantized.scale.shape == (2, 2)
    assert quantized.codes.tolist() == [[2, 3, 1, -3], [3, 3, 0, 0]]
    expected = torch.tensor([[4 / 3, 2.0, 8 / 3, -8.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(quantized.dequantize(), expected)


def test_nearest_levels_of_a_codebook_are_the_nearest():
    levels = torch.tensor([-9, -4, 0, 1, 30], dtype=torch.int8)
    values = torch.linspace(-20, 40, 241)
    expected = levels.float()[(values.unsqueeze(1) - levels).abs().argmin(1)]
    assert torch.equal(nearest_level(values, levels), expected)


def test_nearest_levels_of_a_uniform_grid_take_ties_to_even():
    values = torch.tensor([-9.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 9.0])
    assert nearest_level(values, uniform_levels(3)).tolist() == [-3.0, -2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 3.0]


def test_biases_of_layers_scaled_per_group_are_not_rounded():
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    quantized = quantize_weight(weight, weight.reshape(2, 2, 2).abs().amax(2), 3)
    bias = torch.tensor([0.123, -4.56])
    assert torch.equal(quantize_bias(bias, quantized, 0.37), bias)
