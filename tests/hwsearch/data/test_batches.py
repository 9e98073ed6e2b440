import numpy as np
import pytest
import torch

from hwsearch.data import Batches, Preprocess

IMAGES = np.arange(10 * 2 * 2, dtype=np.uint8).reshape(10, 2, 2, 1)
LABELS = np.arange(10) % 3


def test_batches_cover_the_images_in_order_each_time():
    preprocess = Preprocess((1, 2, 2), divisor=2.0)
    batches = Batches(IMAGES, LABELS, preprocess, batch_size=4)
    for _ in range(2):
        inputs, labels = zip(*batches, strict=True)
        assert len(batches) == 3 and [len(x) for x in inputs] == [4, 4, 2]
        assert torch.equal(torch.cat(inputs), preprocess(IMAGES))
        assert torch.cat(labels).dtype == torch.int64
        assert torch.cat(labels).tolist() == LABELS.tolist()


def test_length_is_exact_where_the_batch_size_divides_the_images():
    batches = Batches(IMAGES, LABELS, Preprocess((1, 2, 2)), batch_size=5)
    assert len(batches) == 2 == len(list(batches))


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError) as error:
        Batches(IMAGES, LABELS, Preprocess((1, 2, 2)), batch_size=0)
    assert str(error.value) == "data.batch_size=0 must be at least 1."


def test_every_image_needs_a_label():
    with pytest.raises(ValueError) as error:
        Batches(IMAGES, LABELS[:9], Preprocess((1, 2, 2)), batch_size=5)
    assert str(error.value) == "Batches got 10 images but 9 labels."
