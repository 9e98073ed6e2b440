"""The handwritten digits that scikit-learn carries: a complete search without any download."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsearch.data.dataset import Dataset
from hwsearch.data.preprocess import Preprocess
from hwsearch.data.split import evenly_spaced

TRAINING_IMAGES = 797
SPLIT_SEED = 0
"""Fixed with the trained checkpoint: other values would score images that it was trained on."""


def load_digits(*, preprocess: Preprocess, name: str = "digits", max_calibration: int | None = None) -> Dataset:
    """Load 1,000 labelled 8x8 digits; calibration images are among the 797 that the checkpoint was trained on.

    Args:
        preprocess: Input that the images must fit; values are 0..16.
        name: Name of the data set.
        max_calibration: Calibration images to keep, evenly spaced; None keeps all 797.

    Raises:
        ValueError: If the network's input is not 1x8x8.
    """
    images, labels, training = _digits()
    calibration, calibration_labels = images[training], labels[training]
    chosen = evenly_spaced(len(calibration), max_calibration)
    dataset = Dataset(name, images[~training], labels[~training], calibration[chosen], calibration_labels[chosen])
    dataset.check_fits(preprocess)
    return dataset


def digits_training_set() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images, uint8 ``[797, 8, 8, 1]``, and labels, int64 ``[797]``, that a checkpoint may be trained on."""
    images, labels, training = _digits()
    return images[training], labels[training]


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """All images, their labels, and which of them are for training."""
    from sklearn import datasets  # here, since it takes a second to import

    digits: Any = datasets.load_digits()
    training = np.zeros(len(digits.target), dtype=bool)
    training[np.random.default_rng(SPLIT_SEED).permutation(len(training))[:TRAINING_IMAGES]] = True
    return digits.images.astype(np.uint8)[..., np.newaxis], digits.target.astype(np.int64), training
