"""Judges candidates on the images of the search split."""

from collections.abc import Callable, Sequence
from itertools import chain
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cost_models import BitConfig
from hwsearch.data import Batch, stratified_halves
from hwsearch.evaluate import Engine
from hwsearch.judging.racing import Estimate, Values, estimate
from hwsearch.pareto import DIRECTIONS
from hwsearch.search import Hopeless, Judgement

PARTS = 5
"""A race is judged after 1/16, 1/8, 1/4, 1/2 and all of the images."""

FEWEST_IMAGES = 50
"""In the first part of a race; fewer tell candidates apart too seldom."""

UNITS = {"top1": 100, "kl": 1, "agreement": 100}
"""Of each measure, in which the mean over images is told."""
BOUNDS = {"top1": 1.0, "kl": inf, "agreement": 1.0}
"""What the mean can't exceed."""


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
        deviations: A candidate is hopeless if it would be with every measure better by so many standard deviations than
            it is estimated.
    """

    def __init__(
        self,
        engine: Engine,
        float_network: Callable[[Tensor], Tensor],
        parts: Sequence[Sequence[Batch]],
        *,
        deviations: float = 2.0,
    ) -> None:
        self._engine = engine
        self._parts = parts
        self._deviations = deviations
        batches = list(chain(*parts))
        self._expected = {batch: float_network(batch.inputs).double().cpu() for batch in batches}
        per_batch = [_measured(self._expected[batch], self._expected[batch], batch.labels) for batch in batches]
        self._judged = {name: np.concatenate([of[name] for of in per_batch])[np.newaxis] for name in UNITS}  # [1, N]

    @property
    def float_correct(self) -> int:
        """Images that the float network classifies correctly."""
        return int(self._judged["top1"][0].sum())

    @property
    def n(self) -> int:
        """Images."""
        return len(self._judged["top1"][0])

    def __call__(self, config: BitConfig, hopeless: Hopeless) -> Judgement:
        """Judge a configuration on more and more images while there is hope."""
        self._engine.configure(config)
        values = {name: np.empty(0, np.float32) for name in UNITS}
        for part in self._parts:
            for batch in part:
                found = _measured(self._expected[batch], self._engine.logits(batch).double().cpu(), batch.labels)
                values = {name: np.concatenate([before, found[name]]) for name, before in values.items()}
            n = len(values["top1"])
            if n < self.n:
                estimates = {name: estimate(values[name], self._judged[name]) for name in UNITS}
                if hopeless({name: UNITS[name] * self._best(name, found) for name, found in estimates.items()}):
                    return Judgement({name: UNITS[name] * estimates[name].mean for name in UNITS}, n, dropped=True)
        self._judged = {name: np.concatenate([self._judged[name], values[name][np.newaxis]]) for name in UNITS}
        return Judgement({name: UNITS[name] * float(values[name].mean(dtype=np.float64)) for name in UNITS}, self.n)

    def _best(self, measure: str, found: Estimate) -> float:
        """The best that the measure's mean may be on all images."""
        bound = found.at_most if DIRECTIONS[measure] == "maximize" else found.at_least
        return min(max(bound(self._deviations), 0.0), BOUNDS[measure])


def _measured(expected: Tensor, logits: Tensor, labels: NDArray[np.int64]) -> dict[str, Values]:
    """Measures of each image, ``[N]``, from logits ``[N, classes]`` of the float network and of a candidate."""
    classes = logits.argmax(1)
    target, found = torch.log_softmax(expected, 1), torch.log_softmax(logits, 1)
    divergence = torch.nn.functional.kl_div(found, target, reduction="none", log_target=True).sum(1)
    measured = {
        "top1": classes == torch.from_numpy(labels),
        "kl": divergence,
        "agreement": classes == expected.argmax(1),
    }
    return {name: values.float().numpy() for name, values in measured.items()}
