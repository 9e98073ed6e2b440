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
    """Estimate a candidate's mean from the first images and the most similar network that was judged on all.

    Differences to that network are known on the first images and estimated for all. The interval is "Wald+2" for paired
    proportions, with the correction for a finite population, since no image is drawn twice: it adds two pairs, of which
    half a one differs in either direction, by 1. Other measures take the largest value of the two networks for 1.

    Args:
        values: Of the candidate, on the first n of N images, ``[n]``.
        references: Of networks judged on all images, ``[K, N]``, ``K >= 1``.

    Reference: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24, as in users.stat.ufl.edu/~aa/cda/R/matched/R2_matched.
    """
    n, total = len(values), references.shape[1]
    squares = np.square(values - references[:, :n]).sum(axis=1)
    nearest = int(squares.argmin())
    differences = values - references[nearest, :n]
    known, gained = float(references[nearest].mean(dtype=np.float64)), float(differences.sum(dtype=np.float64))
    largest = float(max(values.max(), references[nearest, :n].max()))
    variance = (float(squares[nearest]) + largest**2 - gained**2 / (n + 2)) / (n + 2) ** 2
    return Estimate(known + gained / n, known + gained / (n + 2), (variance * (total - n) / (total - 1)) ** 0.5)
