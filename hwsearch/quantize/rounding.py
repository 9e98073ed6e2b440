"""How the codes of a layer are chosen once its grid is: the protocol, and rounding to nearest."""

from typing import Protocol

from torch import Tensor

from hwsearch.quantize.grid import nearest_level
from hwsearch.quantize.moments import Moments


class Rounding(Protocol):
    """How codes are chosen once the grid is."""

    def __call__(self, values: Tensor, levels: Tensor, moments: Moments) -> Tensor:
        """Choose a level for each weight.

        Args:
            values: Weights in steps, ``[O, ...]``.
            levels: int8 ``[L]``, increasing.
            moments: Of the layer's inputs; called only by methods that need calibration.

        Returns:
            Levels, float32, in the shape of ``values``.
        """
        ...


def nearest(values: Tensor, levels: Tensor, moments: Moments) -> Tensor:
    """Round each weight to the level next to it."""
    return nearest_level(values, levels)
