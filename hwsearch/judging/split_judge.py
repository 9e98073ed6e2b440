"""Judges candidates on the images of the search split."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cost_models import BitConfig
from hwsearch.data import Batch, stratified_halves
from hwsearch.evaluate import Engine
from hwsearch.judging.racing import estimate
from hwsearch.search import Judgement

PARTS = 5
"""A race is judged after 1/16, 1/8, 1/4, 1/2 and all of the images."""

FEWEST_IMAGES = 50
"""In the first part of a race; fewer tell candidates apart too seldom."""


def growing_parts(labels: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Split images so that each part is as large as all before it, and each has the same share of every class.

    Args:
        labels: Class of each image, ``[N]``.
        seed: Shuffles the images within each class.

    Returns:
        Disjoint index arrays that cover ``range(N)``; one if there are few images.
    """
    rest = np.arange(len(labels))
    parts: list[NDArray[np.int64]] = []
    while len(parts) < PARTS - 1 and len(rest) // 2 >= FEWEST_IMAGES:
        first, second = stratified_halves(labels[rest], seed)
        parts.append(rest[second])
        rest = rest[first]
    return [rest, *reversed(parts)]


class SplitJudge:
    """Measures top1, and how far the logits are from the float network's, which needs no labels.

    The measures are ``top1`` in percent, ``kl``: the mean divergence, in nats, of the softmaxed logits from the float
    network's, and ``agreement``: percent of images that both classify alike. A candidate that is dropped has estimates.

    Args:
        engine: Runs candidates.
        float_network: Logits of the float network.
        parts: Batches of each part of the images, as :func:`growing_parts` gives them: the race is judged after each.
        z: Standard deviations by which a candidate must be worse than the front to be dropped. Few are enough: what is
            nearly as good as the front would hardly have added to it (``benchmarks/judging.py``).
    """

    def __init__(
        self,
        engine: Engine,
        float_network: Callable[[Tensor], Tensor],
        parts: Sequence[Sequence[Batch]],
        *,
        z: float = 1.0,
    ) -> None:
        self._engine = engine
        self._parts = parts
        self._z = z
        batches = list(chain(*parts))
        self._expected = {batch: float_network(batch.inputs).double().cpu() for batch in batches}
        self._labels = np.concatenate([batch.labels for batch in batches])
        classes = np.concatenate([self._expected[batch].argmax(1).numpy() for batch in batches])
        self._judged = [classes == self._labels]

    @property
    def float_correct(self) -> int:
        """Images that the float network classifies correctly."""
        return int(self._judged[0].sum())

    @property
    def n(self) -> int:
        """Images."""
        return len(self._labels)

    def __call__(self, config: BitConfig, hopeless: Callable[[float], bool]) -> Judgement:
        """Judge a configuration on more and more images while there is hope."""
        self._engine.configure(config)
        classes: list[NDArray[np.int64]] = []
        divergence = agreed = 0.0
        for part in self._parts:
            for batch in part:
                logits, expected = self._engine.logits(batch).double().cpu(), self._expected[batch]
                divergence += float(_kl(expected, logits))
                predicted = logits.argmax(1)
                agreed += int((predicted == expected.argmax(1)).sum())
                classes.append(predicted.numpy())
            predicted_classes = np.concatenate(classes)
            n = len(predicted_classes)
            correct = predicted_classes == self._labels[:n]
            found = estimate(correct, np.stack(self._judged), self._z)
            if n < self.n and hopeless(found.upper):
                break
        else:
            self._judged.append(correct)
        top1 = 100 * float(correct.mean()) if n == self.n else found.top1
        return Judgement({"top1": top1, "kl": divergence / n, "agreement": 100 * agreed / n}, n, dropped=n < self.n)


def _kl(expected: Tensor, logits: Tensor) -> Tensor:
    """Sum over images of the divergence of softmaxed logits ``[N, classes]`` from the expected ones."""
    target = torch.log_softmax(expected, 1)
    return torch.nn.functional.kl_div(torch.log_softmax(logits, 1), target, reduction="sum", log_target=True)
