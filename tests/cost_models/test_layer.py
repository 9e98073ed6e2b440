"""Layer shapes and precisions: counts by brute force, and the shorthand."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import FLOAT, LayerSpec, Precision, bops, size_bytes

SMALL = st.integers(1, 4)
PAIR = st.tuples(SMALL, SMALL)


@st.composite
def convolutions(draw: st.DrawFn) -> LayerSpec:
    groups = draw(st.integers(1, 3))
    return LayerSpec(
        "conv",
        "conv2d",
        in_channels=groups * draw(SMALL),
        out_channels=groups * draw(SMALL),
        kernel=draw(PAIR),
        groups=groups,
        in_size=draw(PAIR),
        out_size=draw(PAIR),
        bias=draw(st.booleans()),
    )


PRECISIONS = st.builds(Precision, st.integers(1, 8), st.integers(1, 8)) | st.just(FLOAT)


@given(convolutions())
def test_counts_are_those_of_the_arrays(layer):
    weight = np.empty((layer.out_channels, layer.in_channels // layer.groups, *layer.kernel))
    assert layer.weight_count == weight.size
    assert layer.in_count == np.empty((layer.in_channels, *layer.in_size)).size
    assert layer.out_count == np.empty((layer.out_channels, *layer.out_size)).size


@given(convolutions())
def test_macs_count_every_product_of_a_weight_and_an_input(layer):
    per_group = layer.out_channels // layer.groups
    products = 0
    for out in range(layer.out_channels):
        for channel in range(layer.in_channels):
            same_group = out // per_group == channel // (layer.in_channels // layer.groups)
            products += same_group * layer.kernel[0] * layer.kernel[1] * layer.out_size[0] * layer.out_size[1]
    assert layer.macs == products


def test_a_linear_layer_counts_its_positions():
    layer = LayerSpec("fc", "linear", 10, 20, in_size=(7, 1), out_size=(7, 1))
    assert (layer.weight_count, layer.macs, layer.in_count, layer.out_count) == (200, 1400, 70, 140)
    assert LayerSpec("fc", "linear", 10, 20).macs == 200


@pytest.mark.parametrize(
    ("channels", "groups", "depthwise"), [((8, 8), 8, True), ((8, 16), 8, True), ((8, 8), 4, False), ((1, 8), 1, False)]
)
def test_depthwise_means_one_input_channel_per_group(channels, groups, depthwise):
    assert LayerSpec("conv", "conv2d", *channels, (3, 3), groups=groups).depthwise == depthwise


@given(convolutions(), PRECISIONS)
def test_bops_are_macs_times_both_widths(layer, precision):
    assert bops(layer, precision) == layer.macs * precision.weight_bits * precision.activation_bits


@given(convolutions(), PRECISIONS)
def test_sizes_are_those_of_packed_bits_biases_and_scales(layer, precision):
    bits = np.zeros(layer.weight_count * precision.weight_bits, dtype=np.uint8)
    biases = 4 * layer.out_channels * layer.bias  # int32 or float32
    scales = 0 if precision == FLOAT else 4 * layer.out_channels  # float32
    assert size_bytes(layer, precision) == np.packbits(bits).nbytes + biases + scales


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["uniform", "codebook"]))
def test_the_shorthand_is_read_as_it_is_written(weight_bits, activation_bits, weight_format):
    precision = Precision(weight_bits, activation_bits, weight_format)
    assert Precision.parse(str(precision)) == precision
    assert Precision.parse(f" {str(precision).lower()}\n") == precision


def test_the_shorthand_names_codebooks_only():
    assert [str(Precision(4, 8)), str(Precision(4, 8, "codebook"))] == ["W4A8", "W4A8 codebook"]


@pytest.mark.parametrize(
    "text", ["", "4", "W4", "A8", "W4A", "W-4A8", "W4A8x", "W4 A8", "A8W4", "W4.5A8", "W4A8 uniform"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError) as error:
        Precision.parse(text)
    assert str(error.value) == f"'{text}' is not a precision; write weight and activation bits as in W4A8."


def test_precisions_sort_by_weights_then_activations():
    shuffled = [Precision(8, 4), FLOAT, Precision(4, 8), Precision(2, 8), Precision(4, 2)]
    assert [str(precision) for precision in sorted(shuffled)] == ["W2A8", "W4A2", "W4A8", "W8A4", "W32A32"]


def test_the_format_tells_precisions_apart():
    assert Precision(4, 8) == Precision(4, 8, "uniform") != Precision(4, 8, "codebook")


def test_layers_and_precisions_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        FLOAT.weight_bits = 8  # type: ignore[misc]
