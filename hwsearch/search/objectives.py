"""Objectives, and bounds on any measure as constraints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from cost_models import BitConfig
from hwsearch.pareto import COSTS, DIRECTIONS
from hwsearch.search.space import SearchSpace

JUDGED = ("top1", "kl", "agreement")
"""Measures that are known only once a candidate has been judged."""

MEASURES = (*JUDGED, *COSTS)


@dataclass(frozen=True)
class Constraint:
    """A bound on one measure: percentages from below, the others from above."""

    measure: str
    bound: float

    @property
    def name(self) -> str:
        """E.g. ``size_bytes <= 100000``."""
        sign = ">=" if DIRECTIONS[self.measure] == "maximize" else "<="
        return f"{self.measure} {sign} {self.bound:g}"

    def violation(self, value: float) -> float:
        """Excess over the bound; zero or less is feasible. A percentage's is relative to 100."""
        if DIRECTIONS[self.measure] == "maximize":
            return (self.bound - value) / 100
        return value / self.bound - 1


def check_objectives(objectives: Sequence[str]) -> None:
    """Require known objectives, at least one, none twice.

    Raises:
        ValueError: Names the objective and the choices.
    """
    if not objectives:
        raise ValueError(f"objective.objectives is empty; choose from {list(MEASURES)}.")
    for objective in objectives:
        if objective not in MEASURES:
            raise ValueError(f"'{objective}' is no objective; choose from {list(MEASURES)}.")
    if len(set(objectives)) < len(objectives):
        raise ValueError(f"objective.objectives {list(objectives)} names one objective twice.")


def parse_constraints(bounds: Mapping[str, float | None]) -> tuple[Constraint, ...]:
    """Constraints from bounds by measure; None is no bound.

    Raises:
        ValueError: If a measure is unknown or the bound of a cost is not positive.
    """
    constraints = []
    for measure, bound in bounds.items():
        if measure not in MEASURES:
            raise ValueError(f"constraints.{measure} is unknown; constraints bound {list(MEASURES)}.")
        if bound is None:
            continue
        if DIRECTIONS[measure] == "minimize" and not bound > 0:
            raise ValueError(f"constraints.{measure}={bound:g} must be positive.")
        constraints.append(Constraint(measure, float(bound)))
    return tuple(constraints)


def check_known(
    objectives: Sequence[str], constraints: Sequence[Constraint], costs: Mapping[str, float], device: str
) -> None:
    """Refuse to optimize or bound a cost that the device does not know.

    Args:
        objectives: Chosen objectives.
        constraints: Chosen constraints.
        costs: Costs of any configuration; NaN where unknown.
        device: Its name, for the message.

    Raises:
        ValueError: Names the cost and those that are known.
    """
    known = [name for name, value in costs.items() if not isnan(value)]
    for measure in [*objectives, *(constraint.measure for constraint in constraints)]:
        if measure not in (*JUDGED, *known):
            raise ValueError(f"Hardware '{device}' does not know {measure}; it knows {known}.")


def check_reachable(
    space: SearchSpace, price: Callable[[BitConfig], Mapping[str, float]], constraints: Sequence[Constraint]
) -> None:
    """Refuse a bound on a cost that even the cheapest configuration exceeds.

    Each group's cheapest choice is found apart from the others, which is exact for additive costs.

    Raises:
        ValueError: Names the bound, the least that can be had and the configuration that has it.
    """
    for constraint in constraints:
        if constraint.measure in JUDGED:
            continue
        choices = {group.name: group.precisions[0] for group in space.groups}
        for group in space.groups:
            choices[group.name] = min(
                group.precisions,
                key=lambda p, name=group.name: price(space.config({**choices, name: p}))[constraint.measure],  # type: ignore[misc]
            )
        config = space.config(choices)
        least = price(config)[constraint.measure]
        if constraint.violation(least) > 0:
            kinds = sorted({str(precision) for precision in config.values()})
            layers = "every layer" if len(kinds) == 1 else "layers"
            raise ValueError(
                f"No candidate meets constraints.{constraint.measure}={constraint.bound:g}: the nearest has "
                f"{constraint.measure}={least:g}, with {layers} at {', '.join(kinds)}."
            )
