"""Counting of correct predictions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsearch.evaluate import Accuracy, accuracy


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40), st.integers(1, 9))
def test_correct_predictions_are_counted_over_batches_of_any_size(pairs, batch_size):
    predicted, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    logits = torch.nn.functional.one_hot(predicted, 5).float()
    batches = list(zip(logits.split(batch_size), labels.split(batch_size), strict=True))
    expected = sum(guess == label for guess, label in pairs)
    for description in (None, "judging"):
        assert accuracy(identity, batches, description) == Accuracy(expected, len(pairs))


def test_top1_is_in_percent():
    assert Accuracy(3, 8).top1 == 37.5
    assert Accuracy(0, 8).top1 == 0
    assert Accuracy(8, 8).top1 == 100


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 5), torch.zeros(0))]])
def test_no_images_are_refused(batches):
    with pytest.raises(ValueError) as error:
        accuracy(identity, batches)
    assert str(error.value) == "There are no labelled images to judge the network on."
