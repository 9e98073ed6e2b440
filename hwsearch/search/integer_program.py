"""The exact integer program: one choice per group, least loss within bounds on additive costs."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

INFEASIBLE = 2
"""``status`` of scipy's result."""

PerChoice = Sequence[NDArray[np.float64]]
"""A number for every choice of every group: an array ``[choices]`` per group."""


LEAST_PRICE = 1e-9
"""Of the budgets, relative to losses; the largest is its inverse."""
HALVINGS = 60
"""Of the interval of prices, on a logarithmic scale."""
ROUNDING = 1e-9
"""Relative; what sums of floats may be off."""
UNIT = 1e3
"""The loss of a known solution in the solver's units; it stops when 1e-6 of these are left to gain."""


@dataclass(frozen=True)
class Budget:
    """An upper bound on a cost that adds up over groups."""

    costs: PerChoice
    bound: float


@dataclass(frozen=True)
class _Program:
    """Choices of all groups in a row, less than nothing being the least of their group.

    Attributes:
        group: Of each choice, ``[M]``; ascending.
        number: Of the choice within its group, ``[M]``.
        loss: More than the least of the group, ``[M]``.
        costs: Likewise, of every budget, relative to its dearest choice, ``[budgets, M]``.
        room: For the sums of costs, ``[budgets]``.
    """

    group: NDArray[np.int64]
    number: NDArray[np.int64]
    loss: NDArray[np.float64]
    costs: NDArray[np.float64]
    room: NDArray[np.float64]

    def of(self, kept: NDArray[np.bool_]) -> "_Program":
        """Fewer choices."""
        return replace(
            self, group=self.group[kept], number=self.number[kept], loss=self.loss[kept], costs=self.costs[:, kept]
        )


def least_loss(losses: PerChoice, budgets: Sequence[Budget], time_limit_s: float = 60.0) -> list[int] | None:
    """Choose for every group so that the sum of losses is least and every budget is kept: a multiple-choice knapsack.

    Args:
        losses: Finite, of every choice.
        budgets: Any number of bounds.
        time_limit_s: After which the solver gives up.

    Returns:
        The number of the choice of each group; None if no combination keeps the budgets.

    Raises:
        ValueError: If the solver gives up; it says why.

    Reference: the formulation of HAWQ-V3, Yao et al. 2021, arXiv:2011.10680, for any number of choices.
    """
    program, unit = _without_hopeless(_without_dominated(_program(losses, budgets)))
    size = len(program.loss)
    # [groups, variables]: each group takes exactly one of its choices
    one_each = csr_array((np.ones(size), (program.group, np.arange(size))), shape=(len(losses), size))
    with _silent_library():
        found = milp(
            program.loss * (UNIT / unit),
            integrality=np.ones(size, int),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(program.costs, -np.inf, program.room)],
            options={"mip_rel_gap": 0, "time_limit": time_limit_s},
        )
    if found.status == INFEASIBLE:
        return None
    if not found.success:
        raise ValueError(
            f"The integer program over {len(losses)} decisions with {size} choices was not solved: {found.message} "
            "Let layers choose between fewer widths (space.weight_bits, space.activation_bits)."
        )
    taken = program.of(found.x > 0.5)
    return [int(number) for number in taken.number]


def _program(losses: PerChoice, budgets: Sequence[Budget]) -> _Program:
    sizes = [len(loss) for loss in losses]
    costs, room = [], []
    for budget in budgets:
        added = [cost - cost.min() for cost in budget.costs]
        dearest = max(float(cost.max()) for cost in added) or 1.0
        costs.append(np.concatenate(added) / dearest)
        room.append((budget.bound - sum(float(cost.min()) for cost in budget.costs)) / dearest)
    return _Program(
        np.repeat(np.arange(len(sizes)), sizes),
        np.concatenate([np.arange(size) for size in sizes]),
        np.concatenate([loss - loss.min() for loss in losses]),
        np.reshape(costs, (len(budgets), sum(sizes))),
        np.array(room),
    )


def _without_dominated(program: _Program) -> _Program:
    """Leave out choices that another of the group matches in loss and every cost, and all but the first of equals."""
    points = np.vstack([program.loss, program.costs]).T  # [M, 1 + budgets]
    kept = np.ones(len(points), bool)
    for group in range(program.group[-1] + 1):
        own = points[program.group == group]
        no_worse = (own <= own[:, np.newaxis]).all(axis=2)  # [choice, other]
        later = np.tri(len(own), k=-1, dtype=bool)
        kept[program.group == group] = ~(no_worse & (~no_worse.T | later)).any(axis=1)
    return program.of(kept)


def _without_hopeless(program: _Program) -> tuple[_Program, float]:
    """Leave out choices that no solution better than a known one can hold; return also the known one's loss.

    With a price on the budgets, every group's cheapest choice together are a lower bound (Lagrange's relaxation), which
    a choice raises by what it is dearer. Where they keep the budgets, they are a known solution.
    """
    starts = np.flatnonzero(np.diff(program.group, prepend=-1))
    cost, room = program.costs.sum(axis=0), float(program.room.sum())
    known, bound, excess = np.inf, -np.inf, np.zeros_like(program.loss)
    low, high = LEAST_PRICE, 1 / LEAST_PRICE
    scale = float(program.loss.max()) or 1.0
    for _ in range(HALVINGS):
        price = scale * (low * high) ** 0.5
        priced = program.loss + price * cost
        cheapest = np.minimum.reduceat(priced, starts)
        dearer = priced - cheapest[program.group]
        chosen = np.unique(np.where(dearer == 0, program.group, -1), return_index=True)[1][-len(starts) :]
        within = bool((program.costs[:, chosen].sum(axis=1) <= program.room).all())
        if within:
            known = min(known, float(program.loss[chosen].sum()))
        lower = float(cheapest.sum()) - price * room
        if lower > bound:
            bound, excess = lower, dearer
        low, high = (low, price / scale) if within else (price / scale, high)
    if known == np.inf:
        return program, scale * UNIT
    return program.of(excess <= (known - bound) * (1 + ROUNDING) + ROUNDING * scale), known or scale


@contextmanager
def _silent_library() -> Iterator[None]:
    """Drop what HiGHS prints whatever its options say: a line of its debugging, on the process's own output."""
    sys.stdout.flush()
    terminal = os.dup(1)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(terminal, 1)
        os.close(terminal)
