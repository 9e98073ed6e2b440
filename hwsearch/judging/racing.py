"""What a candidate's measures on all images may be, from those that it was judged on.

Candidates are compared on the same images, so that what counts is where they differ: an image that is hard for one is
hard for most. To judge on growing subsets and to drop what is clearly inferior is racing: Maron and Moore 1993,
"Hoeffding Races", NIPS 6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
"""A measure of each image, ``[n]``, from 0 up: 1 if it is classified correctly, else 0; a divergence."""


PREDICTORS = 32
"""Most networks that a candidate is predicted from."""

RIDGE = 30.0
"""Of that regression: so many images on which a network differs are as good as none."""


@dataclass(frozen=True)
class Estimate:
    """The mean of a measure over all images.

    Attributes:
        mean: Most likely value.
        centre: Middle of the interval that it lies in.
        deviation: Standard deviation around it.
    """

    mean: float
    centre: float
    deviation: float

    def at_most(self, deviations: float) -> float:
        """It is hardly more than so many standard deviations above the centre; at least the mean."""
        return max(self.mean, self.centre + deviations * self.deviation)

    def at_least(self, deviations: float) -> float:
        """The same from below."""
        return min(self.mean, self.centre - deviations * self.deviation)


def estimate(values: Values, references: Values) -> Estimate:
    """Estimate a candidate's mean from the first images and from networks that were judged on all.

    The networks predict the candidate image by image: the most similar one, corrected by a ridge regression on how the
    others differ from it, fitted on the first images. What the candidate gains on the prediction is known on these
    and estimated for all. The interval is "Wald+2" for paired proportions, with the correction for a finite population,
    since no image is drawn twice: it adds two pairs, of which half a one differs in either direction, by 1. Other
    measures take the largest value of the two for 1.

    Args:
        values: Of the candidate, on the first n of N images, ``[n]``.
        references: Of networks judged on all images, ``[K, N]``, ``K >= 1``.

    Reference: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24, as in users.stat.ufl.edu/~aa/cda/R/matched/R2_matched; the regression estimator of
    Cochran 1977, "Sampling Techniques", chapter 7.
    """
    n, total = len(values), references.shape[1]
    squares = np.square(values - references[:, :n]).sum(axis=1)
    nearest, *others = np.argsort(squares, kind="stable")[:PREDICTORS]
    largest = float(max(values.max(), references[nearest, :n].max()))
    predicted, freedom = _regression(values, references[nearest], references[others], RIDGE * largest**2)
    differences = values - predicted[:n]
    known, gained = float(predicted.mean()), float(differences.sum())
    squared = float(np.square(differences).sum()) * n / (n - freedom)
    variance = (squared + largest**2 - gained**2 / (n + 2)) / (n + 2) ** 2
    return Estimate(known + gained / n, known + gained / (n + 2), (variance * (total - n) / (total - 1)) ** 0.5)


def _regression(values: Values, nearest: Values, others: Values, ridge: float) -> tuple[NDArray[np.float64], float]:
    """Prediction of all images, ``[N]``, from ``[N]`` and ``[K, N]``, and the degrees of freedom it took."""
    n = len(values)
    directions = (others - nearest).astype(np.float64)
    centred = directions[:, :n] - directions[:, :n].mean(axis=1, keepdims=True)
    products = centred @ centred.T
    # no inverse where all values are 0 and so is the penalty
    inverse = np.linalg.pinv(products + ridge * np.eye(len(others)), hermitian=True)
    weights = inverse @ (centred @ (values - nearest[:n]))
    return nearest + weights @ directions, float(np.trace(inverse @ products))
