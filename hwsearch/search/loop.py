"""The ask/tell loop over per-layer precisions."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isnan, nan
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from cost_models import BitConfig
from hwsearch.progress import progress_bar
from hwsearch.search.candidates import Candidates
from hwsearch.search.judgement import Judge, Judgement, Proposer, never
from hwsearch.search.ledger import Ledger
from hwsearch.search.locks import ALONE, Locks
from hwsearch.search.objectives import Constraint, check_objectives
from hwsearch.search.racing import hopelessness
from hwsearch.search.space import SearchSpace, canonical
from hwsearch.search.study import SamplerFactory, open_study

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of half its samplers


def search_precisions(
    space: SearchSpace,
    price: Callable[[BitConfig], Mapping[str, float]],
    judge: Judge,
    *,
    objectives: Sequence[str] = ("top1", "latency_s"),
    constraints: Sequence[Constraint] = (),
    reference_point: Mapping[str, float] | None = None,
    proposer: Proposer | None = None,
    make_sampler: SamplerFactory = lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
    n_trials: int,
    seed: int = 0,
    least_gain: float = 0.0,
    storage: BaseStorage | None = None,
    locks: Locks = ALONE,
    study_name: str = "hwsearch",
    definition: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Judge ``n_trials`` different configurations, the uniform ones first.

    A search that was killed goes on where it was when it is called again with the same storage and name. Several
    processes that call it with the same ones share the work; each returns once all is done.

    Args:
        space: Decisions and choices.
        price: Costs of a configuration.
        judge: Measures a configuration on the search split. Uniform configurations are never hopeless to it.
        objectives: Any of top1, kl, agreement, latency_s, energy_j, size_bytes, bops.
        constraints: Bounds that samplers treat as constraints; the judge may drop candidates that can hardly keep them.
        reference_point: Of the hypervolume, by measure. Candidates beyond it add nothing to a front, so samplers are
            told that they are infeasible; without that, most of a search goes to networks that no longer classify.
        proposer: Chooses candidates after the uniform ones, until it leaves the choice to the sampler.
        make_sampler: Makes the Optuna sampler from a seed.
        n_trials: Complete trials to end with, uniform configurations included; never more than the space holds.
            Candidates that were judged before don't count.
        seed: Seed of the sampler.
        least_gain: Share of the front's hypervolume that a candidate must be able to add, or the judge may drop it.
        storage: Optuna storage; None keeps the study in memory.
        locks: Keep workers on the same study from judging the same candidates, from :func:`open_locks`; by default
            there is but this one.
        study_name: Name in the storage.
        definition: What the results depend on beside these arguments; a study is resumed only with the same one.

    Returns:
        The study. Complete trials hold user attributes: their ``measures``, the number ``n`` of images that they were
        judged on, and ``dropped`` if these are not all. Duplicates are failed trials with ``duplicate_of``.

    Raises:
        ValueError: If an objective is unknown, ``n_trials`` is below the number of uniform configurations, or the
            storage holds a study with another definition; if an objective or a constraint's measure is NaN.
    """
    check_objectives(objectives)
    check_n_trials(space, n_trials)
    limits = [Constraint(name, bound) for name, bound in (reference_point or {}).items() if name in objectives]
    whole = search_definition(space, objectives, constraints, seed, definition)
    storage = storage or InMemoryStorage()
    with locks.turn():
        study = open_study(storage, study_name, objectives, whole)
    ledger = Ledger(space, constraints)
    target = min(n_trials, space.size)
    candidates = Candidates(study, storage, space, ledger, locks, proposer, make_sampler, seed, target)
    uniforms = {canonical(config) for config in space.uniforms()}
    with locks.living(candidates.worker), progress_bar() as bar:
        task = bar.add_task("searching", total=target, completed=len(ledger.judged))
        while candidate := candidates.next():
            bar.update(task, completed=len(ledger.judged))
            costs = price(candidate.config)
            race = hopelessness(costs, objectives, constraints, ledger.rivals, reference_point or {}, least_gain)
            judgement = judge(candidate.config, never if candidate.key in uniforms else race)
            measures = {**judgement.measures, **costs}
            with locks.turn():
                if candidates.is_mine(candidate.trial):
                    _tell(study, candidate.trial, judgement, measures, objectives, [*constraints, *limits])
    return study


def check_n_trials(space: SearchSpace, n_trials: int) -> None:
    """Require room for the uniform configurations.

    Raises:
        ValueError: If ``n_trials`` is below their number.
    """
    uniforms = len(space.uniforms())
    if n_trials < uniforms:
        raise ValueError(
            f"n_trials={n_trials} is below the {uniforms} uniform configurations that every table holds; "
            f"set n_trials to at least {uniforms}."
        )


def search_definition(
    space: SearchSpace,
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
    seed: int,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a study's results depend on, JSON-like; ``more`` is what only the caller knows of it."""
    return {
        "objectives": list(objectives),
        "constraints": {constraint.measure: constraint.bound for constraint in constraints},
        "space": sha256(repr(space.groups).encode()).hexdigest(),
        "seed": seed,
        **(more or {}),
    }


def _tell(
    study: optuna.Study,
    trial: optuna.Trial,
    judgement: Judgement,
    measures: Mapping[str, float],
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
) -> None:
    for measure in (*objectives, *(constraint.measure for constraint in constraints)):
        if isnan(measures.get(measure, nan)):
            raise ValueError(
                f"{measure} of trial {trial.number} is unknown; choose objectives and constraints that are known."
            )
    trial.set_user_attr("n", judgement.n)
    if judgement.dropped:
        trial.set_user_attr("dropped", True)
    # A database's JSON column may not take NaN.
    trial.set_user_attr("measures", {name: None if isnan(value) else value for name, value in measures.items()})
    for constraint in constraints:
        trial.set_constraint(constraint.name, constraint.violation(measures[constraint.measure]))
    try:
        study.tell(trial, [measures[objective] for objective in objectives])
    except RuntimeError:
        # BruteForceSampler stops the study after its last candidate, which Optuna refuses outside `optimize`; the trial
        # itself has been told by then.
        if not study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            raise
