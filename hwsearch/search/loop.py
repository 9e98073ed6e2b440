"""The ask/tell loop over per-layer precisions."""

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from hashlib import sha256
from math import isnan, nan
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from cost_models import BitConfig, Precision
from hwsearch.progress import progress_bar
from hwsearch.search.encoding import encode, suggest
from hwsearch.search.judgement import Judge, Judgement, Key, Proposer
from hwsearch.search.ledger import Ledger
from hwsearch.search.objectives import Constraint, check_objectives
from hwsearch.search.racing import hopelessness, never
from hwsearch.search.space import SearchSpace, canonical
from hwsearch.search.study import SamplerFactory, open_study

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of half its samplers

MAX_REPEATS = 3
"""Duplicates in a row after which a neighbour that was not judged is taken instead of asking once more."""


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
    storage: BaseStorage | None = None,
    study_name: str = "hwsearch",
    definition: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Judge ``n_trials`` different configurations, the uniform ones first.

    A search that was killed goes on where it was when it is called again with the same storage and name.

    Args:
        space: Decisions and choices.
        price: Costs of a configuration.
        judge: Measures a configuration on the search split. Uniform configurations are never hopeless to it.
        objectives: Any of top1, kl, latency_s, energy_j, size_bytes, bops.
        constraints: Bounds that samplers treat as constraints; infeasible candidates are judged like others.
        reference_point: Of the hypervolume, by measure. Candidates beyond it add nothing to a front, so samplers are
            told that they are infeasible; without that, most of a search goes to networks that no longer classify.
        proposer: Chooses candidates after the uniform ones, until it leaves the choice to the sampler.
        make_sampler: Makes the Optuna sampler from a seed.
        n_trials: Complete trials to end with, uniform configurations included; never more than the space holds.
            Candidates that were judged before don't count.
        seed: Seed of the sampler.
        storage: Optuna storage; None keeps the study in memory.
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
    study = open_study(storage or InMemoryStorage(), study_name, objectives, make_sampler, seed, whole)
    uniforms = {canonical(config) for config in space.uniforms()}
    for config in space.uniforms():
        study.enqueue_trial(encode(space, config), skip_if_exists=True)
    ledger = Ledger(space, objectives, constraints)
    target = min(n_trials, space.size)
    repeats = 0
    with progress_bar() as bar:
        task = bar.add_task("searching", total=target)
        while True:
            ledger.read(study)
            bar.update(task, completed=len(ledger.judged))
            if len(ledger.judged) >= target:
                return study
            if proposer and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                proposal = proposer.propose(ledger.judged, ())
                if proposal is not None:
                    study.enqueue_trial(encode(space, proposal))
            trial = study.ask()
            config = suggest(trial, space)
            key = canonical(config)
            if key in ledger.judged:
                trial.set_user_attr("duplicate_of", ledger.numbers[key])
                study.tell(trial, state=TrialState.FAIL)
                repeats += 1
                if repeats % MAX_REPEATS == 0:
                    rng = np.random.default_rng([seed, trial.number])
                    study.enqueue_trial(encode(space, unjudged_neighbour(space, config, ledger.judged, rng)))
                continue
            repeats = 0
            costs = price(config)
            hopeless = never if key in uniforms else hopelessness(costs, objectives, constraints, ledger.rivals)
            judgement = judge(config, hopeless)
            _tell(study, trial, judgement, {**judgement.measures, **costs}, objectives, [*constraints, *limits])


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


def unjudged_neighbour(
    space: SearchSpace, config: BitConfig, judged: Container[Key], rng: np.random.Generator
) -> dict[str, Precision]:
    """Change random decisions of ``config``, one after the other, until the candidate is new."""
    choices = {group.name: config[group.layers[0]] for group in space.groups}
    open_groups = [group for group in space.groups if len(group.precisions) > 1]
    while canonical(space.config(choices)) in judged:
        group = open_groups[rng.integers(len(open_groups))]
        choices[group.name] = group.precisions[rng.integers(len(group.precisions))]
    return space.config(choices)
