from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn import datasets

from hwsearch.data import Batches, Preprocess, digits_training_set, load_digits
from hwsearch.networks import DigitsResNet, train_digits

PREPROCESS = Preprocess((1, 8, 8), divisor=16.0)
CHECKPOINT = Path(train_digits.__file__).parent / "digits.safetensors"


def test_labelled_and_training_images_are_all_digits_once():
    data = load_digits(preprocess=PREPROCESS)
    images, labels = digits_training_set()
    assert data.inputs.shape == (1000, 8, 8, 1) and data.inputs.dtype == np.uint8 and data.inputs.max() == 16
    assert data.labels.shape == (1000,) and labels.shape == (797,)
    assert np.array_equal(data.calibration, images)

    def rows(images, labels):
        return sorted((*image.ravel().tolist(), label) for image, label in zip(images, labels.tolist(), strict=True))

    digits = datasets.load_digits()
    everything = rows(np.concatenate([data.inputs, images]), np.concatenate([data.labels, labels]))
    assert everything == rows(digits.images.astype(np.uint8), digits.target)


def test_max_calibration_keeps_evenly_spaced_images():
    data = load_digits(preprocess=PREPROCESS, max_calibration=100)
    assert np.array_equal(data.calibration, digits_training_set()[0][np.arange(100) * 797 // 100])


def test_another_model_input_is_refused():
    with pytest.raises(ValueError) as error:
        load_digits(preprocess=Preprocess((3, 32, 32)))
    assert str(error.value) == (
        "Data 'digits' has images of 8x8x1 (H x W x C), but model input is 3x32x32 (C x H x W). Choose data and model "
        "that agree; model.input.resize=true resizes image files, not stored arrays."
    )


def test_shipped_checkpoint_classifies_99_percent_of_images_it_was_not_trained_on():
    model = DigitsResNet().eval()
    model.load_state_dict(load_file(CHECKPOINT))
    data = load_digits(preprocess=PREPROCESS)
    with torch.no_grad():
        batches = Batches(data.inputs, data.labels, PREPROCESS, batch_size=250)
        correct = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    assert correct >= 990


def test_training_twice_gives_equal_weights_and_leaves_the_global_generator_alone():
    images, labels = digits_training_set()
    state = torch.random.get_rng_state()
    runs = [train_digits.train(images, labels, seed, epochs=1).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["conv1.weight"], runs[2]["conv1.weight"])


def test_augmentation_without_amounts_keeps_images():
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    augmented = train_digits.augment(x, torch.Generator(), rotation_deg=0, shift_pixels=0, zoom=0)
    assert torch.allclose(augmented, x, atol=1e-5)  # float32 interpolation weights of 0 and 1 carry rounding


def test_augmentation_shifts_by_at_most_the_given_pixels():
    x = torch.zeros(200, 1, 8, 8)
    x[:, :, 4, 4] = 1.0
    augmented = train_digits.augment(x, torch.Generator().manual_seed(0), rotation_deg=0, shift_pixels=1, zoom=0)
    touched = (augmented > 1e-5).any(0)[0].nonzero()  # below: rounding, as above
    assert touched.min() == 3 and touched.max() == 5
