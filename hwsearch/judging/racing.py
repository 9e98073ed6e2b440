"""What a candidate's accuracy on all images may be, from those that it was judged on.

Candidates are compared on the same images, so that what counts is where they differ: an image that is hard for one is
hard for most. To judge on growing subsets and to drop what is clearly inferior is racing: Maron and Moore 1993,
"Hoeffding Races", NIPS 6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Correct = NDArray[np.bool_]
"""Whether each image is classified correctly, ``[n]``."""


@dataclass(frozen=True)
class Estimate:
    """Top1 on all images, in percent.

    Attributes:
        top1: Most likely value.
        upper: It is hardly larger than this.
    """

    top1: float
    upper: float


def estimate(correct: Correct, references: NDArray[np.bool_], z: float) -> Estimate:
    """Estimate a candidate's top1 from the first images and the most similar network that was judged on all.

    The difference to that network is known on the first images and estimated for all. Its upper bound is the interval
    "Wald+2" for paired proportions, with the correction for a finite population, since no image is drawn twice.

    Args:
        correct: Of the candidate, on the first n of N images, ``[n]``.
        references: Of networks judged on all images, ``[K, N]``, ``K >= 1``.
        z: Standard deviations between estimate and bound.

    Reference: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24, as in users.stat.ufl.edu/~aa/cda/R/matched/R2_matched.
    """
    n, total = len(correct), references.shape[1]
    differs = references[:, :n] != correct
    nearest = int(differs.sum(1).argmin())
    reference, discordant = references[nearest], int(differs[nearest].sum())
    gained = int(correct.sum()) - int(reference[:n].sum())
    share = gained / n
    centre = gained / (n + 2)
    deviation = np.sqrt((discordant + 1 - gained**2 / (n + 2)) / (n + 2) ** 2 * (total - n) / (total - 1))
    known = float(reference.mean())
    top1, upper = (100 * float(np.clip(known + value, 0, 1)) for value in (share, centre + z * deviation))
    return Estimate(top1, max(top1, upper))
