"""Learning rates and augmentation."""

import pytest
import torch

from hwsearch.train import Recipe, crop_and_flip

PAPER = {
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "decay": 0.2,
    "decay_at": [0.3, 0.6, 0.8],
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "crop_padding": 4,
    "flip": True,
}


def test_the_learning_rate_falls_to_a_fifth_at_epochs_60_120_and_160():
    recipe = Recipe(**PAPER)
    rates = [recipe.lr_at(epoch) for epoch in range(200)]
    assert rates[59] == 0.1 and rates[60] == pytest.approx(0.02)
    assert rates[119] == rates[60] and rates[120] == pytest.approx(0.004)
    assert rates[159] == rates[120] and rates[160] == rates[199] == pytest.approx(0.0008)


def test_a_shorter_training_has_the_same_shape():
    recipe = Recipe(**PAPER | {"epochs": 10})
    assert [recipe.lr_at(epoch) for epoch in (2, 3, 6, 8)] == pytest.approx([0.1, 0.02, 0.004, 0.0008])


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("lr", 0.0), ("decay", 2.0), ("decay_at", [1.0]), ("momentum", 1.0)]
)
def test_a_number_outside_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^Training with {name}="):
        Recipe(**PAPER | {name: value})


def test_crops_are_shifted_images_with_zeros_around_them():
    images = torch.arange(1, 1 + 64 * 5 * 6 * 2, dtype=torch.int32).view(64, 5, 6, 2)
    padded = torch.zeros(64, 9, 10, 2, dtype=torch.int32)
    padded[:, 2:7, 2:8] = images
    found = crop_and_flip(images, torch.Generator().manual_seed(0), 2, flip=False)
    shifts = set()
    for image, whole in zip(found, padded, strict=True):
        at = [(y, x) for y in range(5) for x in range(5) if torch.equal(whole[y : y + 5, x : x + 6], image)]
        assert len(at) == 1
        shifts.update(at)
    assert len(shifts) > 15  # of 25


def test_flips_mirror_about_half_of_the_images():
    images = torch.arange(200 * 3 * 4, dtype=torch.uint8).view(200, 3, 4, 1)
    found = crop_and_flip(images, torch.Generator().manual_seed(0), 0, flip=True)
    mirrored = [torch.equal(a.flip(1), b) for a, b in zip(images, found, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(images, found, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 70 < sum(mirrored) < 130


def test_without_padding_and_flips_images_stay():
    images = torch.rand(3, 4, 5, 1)
    assert torch.equal(crop_and_flip(images, torch.Generator().manual_seed(0), 0, flip=False), images)
