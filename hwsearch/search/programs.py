"""Integer programs over a space: the least predicted loss within budgets, and a whole predicted front of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import inf

import numpy as np

from cost_models import BitConfig, Precision
from hwsearch.search.integer_program import Budget, least_loss
from hwsearch.search.menu import Array, Choices, Menu
from hwsearch.search.objectives import Constraint

DIRECTIONS = 4
"""Several costs are traded off in so many steps from one to the next."""

NARROWER = 0.9
"""Share of the room above the least cost that is left where a solution does not fit the device."""


def predicted_front(menu: Menu, costs: Sequence[str], constraints: Sequence[Constraint], budgets: int) -> Choices:
    """Least predicted losses over a sweep of budgets.

    Args:
        menu: Choices with their losses and costs.
        costs: The costs that are traded off for loss; of several, weighted sums have the budget.
        constraints: Bounds on these and other costs of the menu.
        budgets: How many, between the narrowest and the widest configuration, for each weighting.

    Returns:
        Distinct candidates, ``[N, groups]``, the one of least loss first; none if no candidate keeps the constraints.
    """
    limits = _limits(menu, constraints)
    losses = [group.sum(axis=1) for group in menu.losses]
    sweeps: list[list[Budget]] = [[]]
    for weights in _weightings(len(costs)):
        share = [
            np.sum([weight * _share(menu, cost, group) for weight, cost in zip(weights, costs, strict=True)], axis=0)
            for group in range(len(menu.choices))
        ]
        bounds = np.linspace(sum(map(np.min, share)), sum(map(np.max, share)), budgets + 2)[1:-1]
        sweeps += [[Budget(share, float(bound))] for bound in bounds]
    found = [least_loss(losses, [*limits, *sweep]) for sweep in sweeps]
    distinct = list(dict.fromkeys(tuple(chosen) for chosen in found if chosen is not None))
    return np.array(distinct, dtype=np.int64).reshape(-1, len(menu.choices))


def least_predicted_loss(
    menu: Menu,
    price: Callable[[BitConfig], Mapping[str, float]],
    constraints: Sequence[Constraint],
    *,
    corrections: int = 32,
) -> dict[str, Precision] | None:
    """The configuration of least predicted loss within bounds.

    Where costs do not add up, a solution whose price exceeds a bound is solved again, with the bound reduced by what
    the sum had missed. One that does not fit the device, where a cost is infinite, is solved again for less of each.

    Args:
        menu: Choices with their losses and costs.
        price: Costs of a configuration.
        constraints: Bounds on costs of the menu.
        corrections: Most times to solve.

    Returns:
        None if none was found that fits and keeps the bounds.
    """
    losses = [group.sum(axis=1) for group in menu.losses]
    limits = list(constraints)
    for _ in range(corrections):
        chosen = least_loss(losses, _limits(menu, limits))
        if chosen is None:
            return None
        config = menu.config(chosen)
        exact = price(config)
        if inf not in exact.values() and all(bound.violation(exact[bound.measure]) <= 0 for bound in constraints):
            return config
        limits = [
            replace(limit, bound=min(limit.bound, _next_bound(menu, target, chosen, exact)))
            for limit, target in zip(limits, constraints, strict=True)
        ]
    return None


def _next_bound(menu: Menu, target: Constraint, chosen: Sequence[int], exact: Mapping[str, float]) -> float:
    """What the sum may be after a solution whose price was not as wanted."""
    measure = target.measure
    summed = float(menu.total(measure, np.array([chosen]))[0])
    if inf in exact.values():
        least = menu.base[measure] + sum(float(group.min()) for group in menu.costs[measure])
        return least + NARROWER * (summed - least)
    return target.bound - (exact[measure] - summed)


def _limits(menu: Menu, constraints: Sequence[Constraint]) -> list[Budget]:
    return [
        Budget(menu.costs[bound.measure], bound.bound - menu.base[bound.measure])
        for bound in constraints
        if bound.measure in menu.costs
    ]


def _share(menu: Menu, cost: str, group: int) -> Array:
    """Of the widest configuration's excess over the narrowest."""
    span = sum(float(np.ptp(choices)) for choices in menu.costs[cost])
    return menu.costs[cost][group] / (span or 1.0)


def _weightings(count: int) -> list[tuple[float, ...]]:
    """Evenly spread weights that add up to 1."""
    steps = 1 if count == 1 else DIRECTIONS
    return [
        tuple(part / steps for part in parts)
        for parts in product(range(steps + 1), repeat=count)
        if sum(parts) == steps
    ]
