"""Which images are used for what: search, test, calibration."""

import numpy as np
from numpy.typing import NDArray


def stratified_halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split labelled images into two halves with the same share of every class.

    Args:
        labels: Class of each image, ``[N]``.
        seed: Shuffles the images within each class.

    Returns:
        Two sorted, disjoint index arrays, ``[ceil(N / 2)]`` and ``[floor(N / 2)]``, that cover ``range(N)``. Counts
        of one class differ by at most 1.

    Raises:
        ValueError: If there are fewer than two labels, or they are not one-dimensional.
    """
    if labels.ndim != 1 or len(labels) < 2:
        raise ValueError(f"Labels of shape {labels.shape} cannot be split; expected [N] with N >= 2.")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(by_class[0::2]), np.sort(by_class[1::2])


def evenly_spaced(count: int, at_most: int | None) -> NDArray[np.int64]:
    """Choose up to ``at_most`` of ``count`` samples at even distances, so that files sorted by class give all classes.

    Args:
        count: Samples that are there.
        at_most: Samples wanted; None means all.

    Returns:
        Sorted indices, ``[min(count, at_most)]``.

    Raises:
        ValueError: If ``at_most`` is not positive.
    """
    if at_most is not None and at_most < 1:
        raise ValueError(f"data.calibration_images={at_most} must be at least 1.")
    chosen = count if at_most is None else min(count, at_most)
    return np.arange(chosen, dtype=np.int64) * count // max(chosen, 1)
