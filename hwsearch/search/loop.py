"""The ask/tell loop over per-layer precisions."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isnan
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from cost_models import BitConfig, Precision
from hwsearch.progress import progress_bar
from hwsearch.search.objectives import Constraint, check_objectives
from hwsearch.search.space import Group, SearchSpace, canonical
from hwsearch.search.study import SamplerFactory, open_study

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of half its samplers

MAX_REPEATS = 3
"""Duplicates in a row after which a neighbour that was not judged is taken instead of asking once more."""


def search_precisions(
    space: SearchSpace,
    price: Callable[[BitConfig], Mapping[str, float]],
    evaluate: Callable[[BitConfig], float],
    *,
    objectives: Sequence[str] = ("top1", "latency_s"),
    constraints: Sequence[Constraint] = (),
    reference_point: Mapping[str, float] | None = None,
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
        evaluate: Its top1 in percent on the search split.
        objectives: Any of top1, latency_s, energy_j, size_bytes, bops.
        constraints: Bounds that samplers treat as constraints; infeasible candidates are judged like others.
        reference_point: Of the hypervolume, by measure. Candidates beyond it add nothing to a front, so samplers are
            told that they are infeasible; without that, most of a search goes to networks that no longer classify.
        make_sampler: Makes the Optuna sampler from a seed.
        n_trials: Complete trials to end with, uniform configurations included; never more than the space holds.
            Candidates that were judged before don't count.
        seed: Seed of the sampler.
        storage: Optuna storage; None keeps the study in memory.
        study_name: Name in the storage.
        definition: What the results depend on beside these arguments; a study is resumed only with the same one.

    Returns:
        The study. Complete trials hold their measures as user attribute ``measures``; duplicates are failed trials with
        a user attribute ``duplicate_of``.

    Raises:
        ValueError: If an objective is unknown, ``n_trials`` is below the number of uniform configurations, or the
            storage holds a study with another definition; if an objective or a constraint's measure is NaN.
    """
    check_objectives(objectives)
    check_n_trials(space, n_trials)
    limits = [Constraint(name, bound) for name, bound in (reference_point or {}).items() if name in objectives]
    whole = search_definition(space, objectives, constraints, seed, definition)
    study = open_study(storage or InMemoryStorage(), study_name, objectives, make_sampler, seed, whole)
    for config in space.uniforms():
        study.enqueue_trial(encode(space, config), skip_if_exists=True)
    judged = {canonical(config): number for number, config in judged_configs(study, space).items()}
    target = min(n_trials, space.size)
    repeats = 0
    with progress_bar() as bar:
        task = bar.add_task("searching", total=target, completed=min(len(judged), target))
        while len(judged) < target:
            trial = study.ask()
            config = suggest(trial, space)
            key = canonical(config)
            if key in judged:
                trial.set_user_attr("duplicate_of", judged[key])
                study.tell(trial, state=TrialState.FAIL)
                repeats += 1
                if repeats % MAX_REPEATS == 0:
                    rng = np.random.default_rng([seed, trial.number])
                    study.enqueue_trial(encode(space, unjudged_neighbour(space, config, judged, rng)))
                continue
            repeats = 0
            measures = {"top1": float(evaluate(config)), **price(config)}
            _tell(study, trial, measures, objectives, [*constraints, *limits], exhausted=len(judged) + 1 == space.size)
            judged[key] = trial.number
            bar.update(task, advance=1)
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
    measures: Mapping[str, float],
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
    *,
    exhausted: bool,
) -> None:
    for measure in (*objectives, *(constraint.measure for constraint in constraints)):
        if isnan(measures[measure]):
            raise ValueError(
                f"{measure} of trial {trial.number} is unknown; choose objectives and constraints that are known."
            )
    # A database's JSON column may not take NaN.
    trial.set_user_attr("measures", {name: None if isnan(value) else value for name, value in measures.items()})
    for constraint in constraints:
        trial.set_constraint(constraint.name, constraint.violation(measures[constraint.measure]))
    try:
        study.tell(trial, [measures[objective] for objective in objectives])
    except RuntimeError:
        # BruteForceSampler stops the study after its last candidate, which Optuna refuses outside `optimize`; the trial
        # itself has been told by then.
        if not exhausted:
            raise


def _parameters(group: Group) -> list[tuple[str, list[int]]]:
    """Optuna parameters of a group and the bits they index; none if there is no choice."""
    parameters = [
        (f"{group.name}.weight_bits", group.weight_bits),
        (f"{group.name}.activation_bits", group.activation_bits),
    ]
    return [(name, bits) for name, bits in parameters if len(bits) > 1]


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Precision]:
    """Let the sampler choose; each parameter is an index into ascending bits, so that samplers see their order."""
    choices = {}
    for group in space.groups:
        chosen = {name: bits[trial.suggest_int(name, 0, len(bits) - 1)] for name, bits in _parameters(group)}
        choices[group.name] = _decode(group, chosen)
    return space.config(choices)


def _decode(group: Group, chosen: Mapping[str, int]) -> Precision:
    """The pair itself, or the nearest where the device does not run every combination."""
    weight_bits = chosen.get(f"{group.name}.weight_bits", group.weight_bits[0])
    activation_bits = chosen.get(f"{group.name}.activation_bits", (group.activation_bits or [0])[0])
    if not group.activation_bits:
        return next(p for p in group.precisions if p.weight_bits == weight_bits)
    precision = group.nearest(weight_bits, activation_bits)
    assert precision  # the group has these weight_bits
    return precision


def encode(space: SearchSpace, config: BitConfig) -> dict[str, int]:
    """Optuna parameters that :func:`suggest` turns into ``config``."""
    parameters = {}
    for group in space.groups:
        precision = config[group.layers[0]]
        values = {"weight_bits": precision.weight_bits, "activation_bits": precision.activation_bits}
        for name, bits in _parameters(group):
            parameters[name] = bits.index(values[name.rpartition(".")[2]])
    return parameters


def unjudged_neighbour(
    space: SearchSpace, config: BitConfig, judged: Mapping[Any, int], rng: np.random.Generator
) -> dict[str, Precision]:
    """Change random decisions of ``config``, one after the other, until the candidate is new."""
    choices = {group.name: config[group.layers[0]] for group in space.groups}
    open_groups = [group for group in space.groups if len(group.precisions) > 1]
    while canonical(space.config(choices)) in judged:
        group = open_groups[rng.integers(len(open_groups))]
        choices[group.name] = group.precisions[rng.integers(len(group.precisions))]
    return space.config(choices)


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Judged trials in the order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def judged_configs(study: optuna.Study, space: SearchSpace) -> dict[int, dict[str, Precision]]:
    """Configuration of each complete trial, by its number."""
    return {trial.number: config_of(space, trial.params) for trial in complete_trials(study)}


def config_of(space: SearchSpace, parameters: Mapping[str, int]) -> dict[str, Precision]:
    """Configuration that a trial's parameters stand for."""
    choices = {}
    for group in space.groups:
        chosen = {name: bits[parameters[name]] for name, bits in _parameters(group)}
        choices[group.name] = _decode(group, chosen)
    return space.config(choices)
