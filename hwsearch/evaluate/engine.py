"""What judges candidates: a network that runs at any configuration."""

from typing import Protocol

from torch import Tensor

from cost_models import BitConfig
from hwsearch.data import Batch


class Engine(Protocol):
    """A network whose precisions can be set."""

    def configure(self, config: BitConfig) -> None:
        """Set every layer's precision.

        Raises:
            ValueError: If ``config`` names other layers than the network's, or a precision that the engine lacks.
        """

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of inputs ``[N, ...]``."""

    def logits(self, batch: Batch) -> Tensor:
        """The same of a batch, for which the engine remembers what other configurations may share."""
