"""Stored tensors of a small network, by hand."""

import pytest

from cost_models import INPUT, LayerSpec, NetworkSpec, OperatorSpec, Precision
from cost_models.tensors import converted_values, counts, peak_bytes, read_widths

# (input) -> a -> b -> sum of a and b -> c
A = LayerSpec("a", "conv2d", 3, 8, in_size=(4, 4), out_size=(4, 4))
B = LayerSpec("b", "conv2d", 8, 8, in_size=(4, 4), out_size=(4, 4))
C = LayerSpec("c", "linear", 128, 10)
SUM = OperatorSpec("sum", "add", 8, (4, 4), (4, 4), (128, 128))
NETWORK = NetworkSpec((A, B, C), (SUM,), {"a": (INPUT,), "b": ("a",), "sum": ("b", "a"), "c": ("sum",)})


def config(a: int, b: int, c: int) -> dict[str, Precision]:
    return {"a": Precision(8, a), "b": Precision(8, b), "c": Precision(8, c)}


def test_tensors_have_the_widths_that_they_are_read_at() -> None:
    widths = read_widths(NETWORK, config(6, 4, 2), operator_bits=8)
    assert widths == {INPUT: {6}, "a": {4, 8}, "b": {8}, "sum": {2}, "c": {8}}
    assert counts(NETWORK) == {INPUT: 48, "a": 128, "b": 128, "sum": 128, "c": 10}


@pytest.mark.parametrize(("widths", "values"), [((8, 8, 8), 0), ((8, 4, 8), 128), ((2, 2, 2), 128)])
def test_only_tensors_read_at_two_widths_are_converted(widths, values) -> None:
    assert converted_values(NETWORK, config(*widths), operator_bits=8) == values


@pytest.mark.parametrize(
    ("widths", "peak"),
    [
        ((8, 8, 8), 3 * 128),  # the sum, its operands and its result
        ((8, 4, 4), 2.5 * 128),  # its result has 4 bits; a's result keeps 8 for the sum
        ((32, 8, 2), 4 * 48 + 128),  # a, with its input at 32 bits; no more than the sum's 2.25 * 128 without it
    ],
)
def test_the_most_that_lives_at_once(widths, peak) -> None:
    assert peak_bytes(NETWORK, config(*widths), operator_bits=8) == peak


def test_a_network_without_layers_stores_nothing() -> None:
    assert peak_bytes(NetworkSpec((), (), {}), {}, operator_bits=8) == 0
