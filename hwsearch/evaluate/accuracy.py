"""Accuracy of a network on labelled batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from hwsearch.progress import track


@dataclass(frozen=True)
class Accuracy:
    """How many of ``n`` labelled images are classified correctly."""

    correct: int
    n: int

    @property
    def top1(self) -> float:
        """Share in percent."""
        return 100 * self.correct / self.n


def accuracy(
    network: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], description: str | None = None
) -> Accuracy:
    """Count correct predictions.

    Args:
        network: Maps inputs ``[N, ...]`` to logits ``[N, classes]``.
        batches: Pairs of inputs and labels ``[N]``.
        description: Text of the progress bar; None for no bar.

    Raises:
        ValueError: If there are no images.
    """
    correct = n = 0
    for inputs, labels in track(batches, description) if description else batches:
        predicted = network(inputs).argmax(1).cpu()
        correct += int((predicted == labels.cpu()).sum())
        n += len(labels)
    if not n:
        raise ValueError("There are no labelled images to judge the network on.")
    return Accuracy(correct, n)
