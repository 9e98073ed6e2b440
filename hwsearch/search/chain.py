"""From sensitivities to candidates: integer programs, then swaps where the front is expected to gain most."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models import BitConfig
from hwsearch.pareto import COSTS, DIRECTIONS, non_dominated
from hwsearch.search.improvement import Improvement, improvement
from hwsearch.search.judgement import Key
from hwsearch.search.menu import Array, Choices, build_menu
from hwsearch.search.objectives import Constraint
from hwsearch.search.programs import predicted_front
from hwsearch.search.space import SearchSpace
from hwsearch.search.surrogate import Surrogate, features

BEST = {"top1": 100.0, "kl": 0.0, "agreement": 100.0}
"""The ideal of every objective that judging measures."""
BEAM = 5
"""Best candidates whose neighbours are considered next, and whose costs are priced exactly."""


@dataclass(frozen=True)
class _Seen:
    """Judged candidates: choices ``[N, G]``, measure (larger is better) ``[N]``, shares of costs ``[N, K]``."""

    chosen: Choices
    quality: Array
    costs: Array
    feasible: NDArray[np.bool_]


class Chain:
    """Proposes the candidate by which the front is expected to gain the most hypervolume.

    Candidates are the solutions of integer programs over a sweep of budgets, and front members of which some decisions
    are changed. A surrogate that is refit to what was judged corrects what sensitivities predict of them. It depends on
    nothing but its arguments and what was judged.

    Args:
        space: Decisions and choices.
        price: Costs of a configuration.
        sensitivities: As :mod:`hwsearch.sensitivity_table` describes them.
        objectives: The search's: the first of top1, kl and agreement, and costs. Without it, the sampler chooses.
        constraints: The search's; candidates that exceed a bound on a cost are not proposed.
        reference_point: Of the hypervolume, by objective. Objectives that it lacks end at the worst that is known.
        seed: Of the changes that are tried.
        programs: Budgets of the sweep, for each weighting where there are several costs.
        swaps: Random changes of front members that are considered for a proposal.
        rounds: Times that the neighbours of the best of them are considered in turn.
        memory: Judged candidates that the surrogate learns from: those nearest to the front.
        sampler_every: Each so many-th candidate is left to the sampler, which trusts no prediction.
    """

    def __init__(
        self,
        space: SearchSpace,
        price: Callable[[BitConfig], Mapping[str, float]],
        sensitivities: pd.DataFrame,
        *,
        objectives: Sequence[str],
        constraints: Sequence[Constraint] = (),
        reference_point: Mapping[str, float] | None = None,
        seed: int = 0,
        programs: int = 32,
        swaps: int = 500,
        rounds: int = 2,
        memory: int = 200,
        sampler_every: int = 10,
    ) -> None:
        self._price = price
        self._measured = next((name for name in objectives if name in BEST), None)
        self._costs = [name for name in objectives if name in COSTS]
        self._constraints = constraints
        self._bounds = [bound for bound in constraints if bound.measure in COSTS]
        measures = dict.fromkeys([*self._costs, *(bound.measure for bound in self._bounds)])
        self._menu = build_menu(space, price, sensitivities, list(measures))
        self._programs = predicted_front(self._menu, self._costs, self._bounds, programs)
        self._reference_point = {**self._widest(), **(reference_point or {})}
        self._seed = seed
        self._swaps = swaps
        self._rounds = rounds
        self._memory = memory
        self._sampler_every = sampler_every
        self._decoded: list[tuple[Key, tuple[int, ...] | None]] = []

    def _widest(self) -> dict[str, float]:
        """The most that each cost can be."""
        menu = self._menu
        return {cost: menu.base[cost] + sum(float(group.max()) for group in menu.costs[cost]) for cost in self._costs}

    def propose(self, judged: Mapping[Key, Mapping[str, float]], pending: Collection[Key]) -> BitConfig | None:
        """The candidate of the largest expected gain; None where the sampler is to choose."""
        if self._measured is None or (len(judged) + len(pending)) % self._sampler_every == 0:
            return None
        seen = self._seen(judged, self._measured)
        if not len(seen.chosen):
            return None
        sign = _sign(self._measured)
        lowest = sign * self._reference_point.get(self._measured, sign * float(seen.quality.min()))
        bounds = [sign * bound.bound for bound in self._constraints if bound.measure == self._measured]
        worst, best = max([lowest, *bounds]), sign * BEST[self._measured]
        surrogate = self._learn(seen, worst)
        taken = set(map(tuple, seen.chosen.tolist()))
        waiting = np.array([number for number in map(self._menu.number, pending) if number], dtype=np.int64)
        if len(waiting):  # as if they were judged to be what is expected of them
            expected = surrogate.predict(features(self._menu.losses, waiting))[0]
            taken.update(map(tuple, waiting.tolist()))
            seen = _Seen(
                np.concatenate([seen.chosen, waiting]),
                np.concatenate([seen.quality, expected]),
                np.concatenate([seen.costs, self._shares(waiting)]),
                np.concatenate([seen.feasible, np.ones(len(waiting), bool)]),
            )
        front = improvement(seen.quality[seen.feasible], seen.costs[seen.feasible], worst, best)
        rng = np.random.default_rng([self._seed, len(judged), len(pending)])
        members = seen.chosen[self._on_front(seen, self._measured) & (seen.quality > worst)]
        return self._most_promising(surrogate, front, members, taken, rng)

    def _seen(self, judged: Mapping[Key, Mapping[str, float]], measured: str) -> _Seen:
        known = [
            (number, measures)
            for number, measures in zip(self._numbered(judged), judged.values(), strict=True)
            if number is not None
        ]
        shares = [[measures[cost] / self._reference_point[cost] for cost in self._costs] for _, measures in known]
        return _Seen(
            np.array([number for number, _ in known], dtype=np.int64).reshape(len(known), -1),
            np.array([_sign(measured) * measures[measured] for _, measures in known], dtype=float),
            np.array(shares, dtype=float).reshape(len(known), len(self._costs)),
            np.array([self._feasible(measures) for _, measures in known], dtype=bool),
        )

    def _feasible(self, measures: Mapping[str, float]) -> bool:
        """It fits the device, where all costs are finite, and keeps the bounds."""
        return inf not in measures.values() and all(b.violation(measures[b.measure]) <= 0 for b in self._constraints)

    def _numbered(self, keys: Iterable[Key]) -> list[tuple[int, ...] | None]:
        """Candidates that keys stand for; a key takes long to decode, or even to hash, so the last ones are kept."""
        before = self._decoded
        self._decoded = [
            before[place] if place < len(before) and before[place][0] is key else (key, self._menu.number(key))
            for place, key in enumerate(keys)
        ]
        return [number for _, number in self._decoded]

    def _learn(self, seen: _Seen, worst: float) -> Surrogate:
        """Fit the surrogate to what lies nearest to the front; how bad the hopeless are says nothing about it."""
        reached = (seen.costs[:, np.newaxis] >= seen.costs).all(axis=2)  # [N, N]: the other costs no more
        shortfall = np.where(reached, seen.quality, -np.inf).max(axis=1) - seen.quality
        nearest = np.argsort(shortfall, kind="stable")[: self._memory]
        floor = worst - max(float(seen.quality.max()) - worst, 0.0)
        values = np.maximum(seen.quality[nearest], floor)
        return Surrogate(features(self._menu.losses, seen.chosen[nearest]), values)

    def _on_front(self, seen: _Seen, measured: str) -> NDArray[np.bool_]:
        """Feasible and not dominated, ``[N]``."""
        points = np.column_stack([_sign(measured) * seen.quality, seen.costs])
        on_front = seen.feasible & np.isfinite(points).all(axis=1)
        names = [measured, *self._costs]
        on_front[on_front] = non_dominated(pd.DataFrame(points[on_front], columns=names), names)
        return on_front

    def _shares(self, chosen: Choices) -> Array:
        """Costs relative to the reference point's, ``[N, K]``, by sums over decisions."""
        shares = [self._menu.total(cost, chosen) / self._reference_point[cost] for cost in self._costs]
        return np.array(shares).reshape(len(self._costs), len(chosen)).T

    def _most_promising(
        self,
        surrogate: Surrogate,
        front: Improvement,
        members: Choices,
        taken: set[tuple[int, ...]],
        rng: np.random.Generator,
    ) -> BitConfig | None:
        pool = np.concatenate([self._programs, self._swapped(members, rng)])
        best_gain, best = 0.0, None
        for _ in range(1 + self._rounds):
            pool = np.array([chosen for chosen in dict.fromkeys(map(tuple, pool.tolist())) if chosen not in taken])
            if not len(pool):
                break
            taken.update(map(tuple, pool.tolist()))
            mean, deviation = surrogate.predict(features(self._menu.losses, pool))
            gains = front.expected(mean, deviation, self._shares(pool)) * self._within_bounds(pool)
            beam = list(islice(self._fitting(pool, np.argsort(-gains, kind="stable")), BEAM))
            if not beam:
                break
            for number, config, price in beam:
                gain = self._exact_gain(front, mean[number], deviation[number], price)
                if gain > best_gain:
                    best_gain, best = gain, config
            pool = self._menu.neighbours(pool[[number for number, *_ in beam]])
        return best

    def _fitting(
        self, pool: Choices, ranked: NDArray[np.int64]
    ) -> Iterator[tuple[int, BitConfig, Mapping[str, float]]]:
        """Candidates that fit the device, where all costs are finite, with their prices."""
        for number in ranked.tolist():
            config = self._menu.config(pool[number])
            price = self._price(config)
            if inf not in price.values():
                yield number, config, price

    def _within_bounds(self, chosen: Choices) -> NDArray[np.bool_]:
        within = np.ones(len(chosen), bool)
        for bound in self._bounds:
            within &= self._menu.total(bound.measure, chosen) <= bound.bound
        return within

    def _exact_gain(self, front: Improvement, mean: float, deviation: float, price: Mapping[str, float]) -> float:
        """Expected gain at the candidate's own price; nothing where that exceeds a bound."""
        if any(bound.violation(price[bound.measure]) > 0 for bound in self._bounds):
            return 0.0
        shares = np.array([[price[cost] / self._reference_point[cost] for cost in self._costs]])
        return float(front.expected(np.array([mean]), np.array([deviation]), shares.reshape(1, -1))[0])

    def _swapped(self, members: Choices, rng: np.random.Generator) -> Choices:
        """Members after one to three random steps."""
        members = members if len(members) else self._programs
        if not len(members):
            return members
        swapped = members[rng.integers(len(members), size=self._swaps)]
        for share in (1, 2 / 3, 1 / 3):
            count = int(share * len(swapped))
            swapped[:count] = self._menu.stepped(swapped[:count], rng)
        return swapped


def _sign(measure: str) -> int:
    return 1 if DIRECTIONS[measure] == "maximize" else -1
