"""The exact integer program: one choice per group, least loss within bounds on additive costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

INFEASIBLE = 2
"""``status`` of scipy's result."""

PerChoice = Sequence[NDArray[np.float64]]
"""A number for every choice of every group: an array ``[choices]`` per group."""


@dataclass(frozen=True)
class Budget:
    """An upper bound on a cost that adds up over groups."""

    costs: PerChoice
    bound: float


def least_loss(losses: PerChoice, budgets: Sequence[Budget], time_limit_s: float = 60.0) -> list[int] | None:
    """Choose for every group so that the sum of losses is least and every budget is kept: a multiple-choice knapsack.

    Args:
        losses: Finite, of every choice.
        budgets: Any number of bounds.
        time_limit_s: After which the solver gives up.

    Returns:
        The number of the choice of each group; None if no combination keeps the budgets.

    Raises:
        RuntimeError: If the solver gives up.

    Reference: the formulation of HAWQ-V3, Yao et al. 2021, arXiv:2011.10680, section 3.4, for any number of choices.
    """
    ends = list(accumulate(map(len, losses), initial=0))
    # [groups, variables]: each group takes exactly one of its choices
    groups = np.repeat(np.arange(len(losses)), list(map(len, losses)))
    one_each = csr_array((np.ones(ends[-1]), (groups, np.arange(ends[-1]))))
    constraints = [LinearConstraint(one_each, 1, 1)]
    constraints += [_constraint(budget) for budget in budgets]
    objective = np.concatenate(losses)
    found = milp(
        objective / max(float(np.abs(objective).max()), np.finfo(float).tiny),
        integrality=np.ones(ends[-1], int),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0, "time_limit": time_limit_s},
    )
    if found.status == INFEASIBLE:
        return None
    if not found.success:
        raise RuntimeError(f"The integer program of {ends[-1]} variables was not solved: {found.message}")
    return [int(np.argmax(found.x[start:end])) for start, end in pairwise(ends)]


def _constraint(budget: Budget) -> LinearConstraint:
    """Spread over the cheapest and dearest choices, since solvers' tolerances are absolute."""
    costs = [choices - choices.min() for choices in budget.costs]
    room = budget.bound - sum(float(choices.min()) for choices in budget.costs)
    scale = max(float(choices.max()) for choices in costs) or 1.0
    return LinearConstraint(np.concatenate(costs)[np.newaxis] / scale, -np.inf, room / scale)
