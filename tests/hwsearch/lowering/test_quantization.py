"""Integer weights and biases, and formats."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_models import Precision
from hwsearch.lowering.quantization import Format, Quantization, integer_parameters
from hwsearch.quantize import QuantizedWeight

FORMAT = Format(0.5, 3, 0, 255)


def parameters(codes, scale, bias, fmt=FORMAT, weight_bits=8, weight_format="uniform"):
    codes, scale, bias = np.array(codes, np.int8), np.array(scale, float), np.array(bias, float)
    return integer_parameters("conv", codes, scale, bias, fmt, weight_bits, weight_format)


def test_biases_count_steps_of_the_accumulator_and_take_the_zero_point_in():
    found = parameters([[1, -2], [5, 7]], [0.25, 2.0], [1.3, -4.0])
    assert found.scale.tolist() == [0.125, 1.0]
    assert found.bias.tolist() == [10 - 3 * (1 - 2), -4 - 3 * (5 + 7)]  # 1.3 / 0.125 = 10.4
    assert found.limit.tolist() == [13 + 255 * 3, 40 + 255 * 12]


def test_a_layer_may_have_no_bias():
    found = integer_parameters("conv", np.array([[4]], np.int8), np.array([1.0]), None, FORMAT)
    assert found.bias.tolist() == [-12]


def test_a_channel_without_weights_has_the_finest_step_that_holds_its_bias():
    found = parameters([[0, 0], [0, 0], [1, 1]], [1.0, 1.0, 1.0], [0.3, 0.0, 0.0])
    assert found.bias[0] * found.scale[0] == pytest.approx(0.3, rel=1e-9)
    assert found.bias.tolist()[1:] == [0, -6]
    assert found.scale[1] == 0


@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_a_huge_bias_makes_its_channel_coarser(weight_bits):
    found = parameters([[1, -1], [1, 1]], [1e-12, 1.0], [7.0, 7.0], weight_bits=weight_bits)
    assert found.weight.tolist() == [[0, 0], [1, 1]]
    assert found.bias[0] * found.scale[0] == pytest.approx(7.0, rel=1e-6)
    assert found.limit.max() * 2 ** (8 - weight_bits) < 2**31


def test_overflowing_layers_are_refused():
    with pytest.raises(ValueError) as error:
        parameters(np.full((1, 70_000), 127), [1.0], [0.0])
    assert str(error.value) == (
        "Accumulators of layer 'conv' could reach 2293620000, over int32's 2147483647: it adds up 70000 products with "
        "integers up to 255. Choose fewer activation_bits for it."
    )


@given(
    st.floats(1e-3, 10),
    st.integers(0, 255),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9),
)
def test_clamping_integers_is_quantizing_clamped_values(scale, zero_point, a, b, values):
    lo, hi = np.float32(min(a, b)), np.float32(max(a, b))
    fmt = Format(scale, zero_point, 0, 255)
    real = np.array(values, np.float32)
    expected = fmt.quantize(np.clip(real, lo, hi))
    np.testing.assert_array_equal(fmt.clamped(float(lo), float(hi)).quantize(real), expected)


def test_a_relu_leaves_no_integer_below_the_zero_point():
    fmt = Format(0.1, 100, 0, 255).clamped(0.0, np.inf)
    assert (fmt.qmin, fmt.qmax) == (100, 255)
    assert Format(0.1, 100, 0, 255).clamped(-np.inf, 6.0).qmax == 160


def test_levels_of_a_codebook_are_stored_as_indices():
    codes, levels = torch.tensor([[-127], [42]], dtype=torch.int8), torch.tensor([-127, -42, 42, 127], dtype=torch.int8)
    database = {
        ("plain", 2, "uniform"): QuantizedWeight(codes.sign(), torch.ones(2)),
        ("coded", 2, "uniform"): QuantizedWeight(codes, torch.ones(2), levels),
    }
    quantization = Quantization(dict.fromkeys(("plain", "coded"), Precision(2, 8)), database, {}, True)
    assert [quantization.storage(layer) for layer in ("plain", "coded")] == [(2, "uniform"), (2, "codebook")]
    assert quantization.weight("coded")[0].tolist() == [[-127], [42]]


def test_a_codebook_that_a_huge_bias_splits_is_stored_in_bytes():
    levels = [[-127, -42], [42, 127]]
    usual = parameters(levels, [1.0, 1.0], [0.0, 0.0], weight_bits=2, weight_format="codebook")
    assert (usual.weight_bits, usual.weight_format) == (2, "codebook")
    coarser = parameters(levels, [1.0, 1.0], [2.0**31, 0.0], weight_bits=2, weight_format="codebook")
    assert coarser.weight.tolist() == [[-32, -10], [42, 127]]  # the bias takes steps of 2, the accumulator's are 1/2
    assert (coarser.weight_bits, coarser.weight_format) == (2, "codebook")
    split = parameters([[-127, -42, 42, 127]] * 2, [1.0, 1.0], [2.0**31, 0.0], weight_bits=2, weight_format="codebook")
    assert (split.weight_bits, split.weight_format) == (8, "uniform")
