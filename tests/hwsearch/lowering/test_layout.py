"""Layouts name the axes that values really lie along."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsearch.lowering.layout import Layout

SIZES = st.tuples(*[st.integers(1, 4)] * 3)


def as_torch_sees_it(layout):
    """Numbered values of one image ``[H, W, C]``, in the layout's dimensions."""
    image = np.arange(prod(layout.sizes)).reshape(layout.sizes)
    letters = "".join(layout.axes)
    left_out = [axis for axis in "HWC" if axis not in letters]
    assert layout.size("".join(left_out)) == 1
    ordered = image.transpose(["HWC".index(axis) for axis in [*letters, *left_out]])
    return ordered.reshape([layout.size(axes) for axes in layout.axes])


@given(SIZES, st.permutations("HWC"), st.integers(0, 2), st.data())
def test_reshaping_merges_and_moves_as_numpy_does(sizes, axes, merged, data):
    layout = Layout(tuple(axes), sizes)
    values = as_torch_sees_it(layout)
    shape = list(values.shape)
    for _ in range(merged):
        shape[:2] = [shape[0] * shape[1]]
    for _ in range(data.draw(st.integers(0, 2))):
        shape.insert(data.draw(st.integers(0, len(shape))), 1)
    found = layout.reshaped(shape)
    assert found is not None
    np.testing.assert_array_equal(as_torch_sees_it(found), values.reshape(shape))


@given(SIZES, st.permutations("HWC"), st.permutations([1, 2, 3]))
def test_permuting_moves_as_numpy_does(sizes, axes, order):
    layout = Layout(tuple(axes), sizes)
    found = layout.permuted([0, *order])
    assert found is not None
    expected = as_torch_sees_it(layout).transpose([dimension - 1 for dimension in order])
    np.testing.assert_array_equal(as_torch_sees_it(found), expected)


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (10, 18), (5, 6, 6)])
def test_splitting_a_dimension_is_no_layout(shape):
    assert Layout(("C", "H", "W"), (5, 6, 6)).reshaped(shape) is None


def test_moving_the_batch_is_no_layout():
    assert Layout(("C", "H", "W"), (5, 7, 6)).permuted([1, 0, 2, 3]) is None


def test_layouts_match_where_dimensions_of_size_one_are_all_that_differs():
    image = Layout(("C", "H", "W"), (4, 4, 8))
    assert image.matches(Layout(("C", "H", "W"), (1, 1, 8)))
    assert Layout(("CHW",), (1, 1, 8)).matches(Layout(("C",), (1, 1, 8)))
    assert not image.matches(Layout(("C", "W", "H"), (4, 4, 8)))
    assert not image.matches(Layout(("CHW",), (4, 4, 8)))
