"""Every decision of a space as arrays: what each choice is predicted to lose, and what it adds to each cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models import BitConfig, Precision
from hwsearch.search.judgement import Key
from hwsearch.search.space import SearchSpace
from hwsearch.sensitivity_table import losses

Array = NDArray[np.float64]
Choices = NDArray[np.int64]
"""Candidates: the number of each group's choice, ``[N, groups]``."""


@dataclass(frozen=True)
class Menu:
    """Choices per group.

    Attributes:
        space: Whose groups they are.
        choices: Precisions per group, without those that do not fit the device even beside the narrowest others.
        losses: Predicted loss by weights and by activations, ``[choices, 2]`` per group.
        costs: By measure, what each choice costs more than the narrowest one, ``[choices]`` per group. Exact where
            costs add up; elsewhere each decision's effect beside the narrowest others.
        base: By measure, the cost of the narrowest configuration.
    """

    space: SearchSpace
    choices: tuple[tuple[Precision, ...], ...]
    losses: tuple[Array, ...]
    costs: Mapping[str, tuple[Array, ...]]
    base: Mapping[str, float]

    def total(self, measure: str, chosen: Choices) -> Array:
        """Cost of each candidate, ``[N]``."""
        added = [group[column] for group, column in zip(self.costs[measure], chosen.T, strict=True)]
        total: Array = self.base[measure] + np.sum(added, axis=0)
        return total

    def config(self, chosen: Iterable[int]) -> dict[str, Precision]:
        """Configuration that a candidate stands for."""
        picked = zip(self.space.groups, self.choices, chosen, strict=True)
        return self.space.config({group.name: choices[number] for group, choices, number in picked})

    def number(self, key: Key) -> tuple[int, ...] | None:
        """The candidate that a configuration is, if its choices are on the menu."""
        config = dict(key)
        numbers = [
            known.get(config[group.layers[0]]) for group, known in zip(self.space.groups, self._numbers, strict=True)
        ]
        found = tuple(number for number in numbers if number is not None)
        return found if len(found) == len(numbers) else None

    @cached_property
    def _numbers(self) -> list[dict[Precision, int]]:
        return [{precision: number for number, precision in enumerate(choices)} for choices in self.choices]

    @cached_property
    def steps(self) -> list[list[Choices]]:
        """For every choice of every group those whose widths are the same or the next ones."""
        return [[_near(choices, choice) for choice in choices] for choices in self.choices]

    def neighbours(self, chosen: Choices) -> Choices:
        """Every candidate that is one step in one decision away from one of these, ``[M, groups]``."""
        found = [chosen[:0]]
        for group, steps in enumerate(self.steps):
            counts = [len(steps[number]) for number in chosen[:, group]]
            found.append(np.repeat(chosen, counts, axis=0))
            if len(found[-1]):
                found[-1][:, group] = np.concatenate([steps[number] for number in chosen[:, group]])
        return np.concatenate(found)

    def stepped(self, chosen: Choices, rng: np.random.Generator) -> Choices:
        """Each candidate after one random step in one random decision."""
        found = chosen.copy()
        open_groups = [group for group, choices in enumerate(self.choices) if len(choices) > 1]
        if not open_groups:
            return found
        drawn = rng.choice(open_groups, size=len(chosen))
        for row, (group, fraction) in enumerate(zip(drawn, rng.random(len(chosen)), strict=True)):
            steps = self.steps[group][chosen[row, group]]
            found[row, group] = steps[int(fraction * len(steps))]
        return found


def build_menu(
    space: SearchSpace,
    price: Callable[[BitConfig], Mapping[str, float]],
    sensitivities: pd.DataFrame,
    measures: Sequence[str],
) -> Menu:
    """Price and look up every choice once.

    Args:
        space: Decisions and choices.
        price: Costs of a configuration.
        sensitivities: As :mod:`hwsearch.sensitivity_table` describes them.
        measures: The costs that matter.

    Raises:
        ValueError: If a choice has no sensitivity.
    """
    narrowest = {group.name: group.precisions[0] for group in space.groups}
    base = price(space.config(narrowest))

    choices, predicted, costs = [], [], []
    for group in space.groups:
        priced = [price(space.config({**narrowest, group.name: precision})) for precision in group.precisions]
        found = np.array([[own[measure] - base[measure] for measure in measures] for own in priced])
        fits = np.array([inf not in own.values() for own in priced])
        choices.append(tuple(p for p, fit in zip(group.precisions, fits, strict=True) if fit))
        predicted.append(losses(sensitivities, group.layers, choices[-1]))
        costs.append(found[fits])
    by_measure = {measure: tuple(group[:, column] for group in costs) for column, measure in enumerate(measures)}
    return Menu(space, tuple(choices), tuple(predicted), by_measure, {name: base[name] for name in measures})


def _near(choices: Sequence[Precision], choice: Precision) -> Choices:
    widths = [sorted({getattr(p, name) for p in choices}) for name in ("weight_bits", "activation_bits")]

    def place(precision: Precision) -> tuple[int, int]:
        return widths[0].index(precision.weight_bits), widths[1].index(precision.activation_bits)

    own = place(choice)
    near = [max(abs(a - b) for a, b in zip(place(p), own, strict=True)) <= 1 and p != choice for p in choices]
    return np.flatnonzero(near)
