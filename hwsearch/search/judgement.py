"""What the search asks of those who judge candidates and of those who propose them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from cost_models import BitConfig, Precision

Key: TypeAlias = tuple[tuple[str, Precision], ...]
"""A configuration as :func:`hwsearch.search.canonical` gives it."""


@dataclass(frozen=True)
class Judgement:
    """What judging a candidate found.

    Attributes:
        measures: ``top1`` in percent, and what else is an objective: ``kl`` in nats, ``agreement`` in percent.
        n: Images that it was judged on.
        dropped: Whether judging ended early because the candidate was hopeless.
    """

    measures: Mapping[str, float]
    n: int
    dropped: bool = False


Hopeless: TypeAlias = Callable[[Mapping[str, float]], bool]
"""Whether a candidate whose measures are at best these need not be judged further."""


def never(best: Mapping[str, float]) -> bool:
    """For candidates that are judged on every image, whatever is known of them."""
    return False


class Judge(Protocol):
    """Measures a candidate on the search split."""

    def __call__(self, config: BitConfig, hopeless: Hopeless) -> Judgement:
        """Judge a configuration.

        Args:
            config: Precision of every layer.
            hopeless: Whether judging may end before all images, given the best that its measures may still be.
        """


class Proposer(Protocol):
    """Chooses candidates before the sampler does; depends on nothing but what was judged, so that searches resume."""

    def propose(self, judged: Mapping[Key, Mapping[str, float]], pending: Collection[Key]) -> BitConfig | None:
        """The next candidate, or None to leave the choice to the sampler.

        Args:
            judged: Measures of every judged configuration.
            pending: Configurations that other workers are judging.
        """
