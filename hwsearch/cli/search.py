"""``hwsearch search``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import inf, isnan
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from cost_models import FLOAT, CostModel, Precision
from hwsearch.cli.hardware import load_hardware, notes
from hwsearch.cli.judging import prepare_judging, requantization
from hwsearch.cli.latency import network_latency
from hwsearch.cli.proposing import build_proposer, build_sampler, proposes, sensitivities
from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import Task, activation_ranges, layer_database, load_task
from hwsearch.cli.workers import other_workers
from hwsearch.costs import Pricing, check_fits, cost_table, pricing
from hwsearch.data import stratified_halves
from hwsearch.front import pareto_table
from hwsearch.graph import shared_inputs
from hwsearch.network_file import NETWORK_FILE, network_content
from hwsearch.pareto import reference_likeness, reference_point
from hwsearch.quantize import ActivationRanges, LayerDatabase, ranges_table
from hwsearch.report import render_pareto
from hwsearch.run_folder import RunInfo, layers_table, versions, write_csv, write_json, write_run, write_yaml
from hwsearch.search import (
    Constraint,
    Judge,
    SearchSpace,
    Study,
    build_space,
    check_known,
    check_n_trials,
    check_objectives,
    check_reachable,
    check_resumable,
    groups_table,
    judged_configs,
    locked,
    open_locks,
    open_storage,
    parse_constraints,
    precisions_table,
    search_definition,
    search_precisions,
    shared_name,
    trials_table,
    without_password,
)
from hwsearch.sensitivity_table import SENSITIVITIES, read_sensitivities

log = logging.getLogger("hwsearch")


@dataclass(frozen=True)
class _Search:
    """Everything that is known and checked before the first candidate is judged."""

    config: SearchConfig
    task: Task
    hardware: CostModel
    space: SearchSpace
    costs: pd.DataFrame
    price: Pricing
    constraints: tuple[Constraint, ...]
    study_name: str
    circumstances: Mapping[str, Any]

    @property
    def objectives(self) -> list[str]:
        return self.config.objective.objectives

    @property
    def notes(self) -> list[str]:
        """What a reader of the results must know."""
        return notes(self.hardware, self.config.quantizer, self.space.precisions)


def search_command(config: SearchConfig, run_dir: Path) -> None:
    """Search, then write every table, the figure, and the Pareto table on the terminal."""
    log.info("run folder: %s (repeat the command with run_dir=%s to go on if it stops)", run_dir, run_dir)
    with locked(run_dir):
        plan = _prepare(config, run_dir)
        _log_groups(plan.space)
        database, ranges = (
            layer_database(config, plan.task, plan.space.precisions),
            activation_ranges(config, plan.task),
        )
        write_yaml(config.model_dump() | {"storage": without_password(config.storage)}, run_dir / "config.yaml")
        write_json(versions(), run_dir / "versions.json")
        write_csv(layers_table(plan.task.network.layers), run_dir / "layers.csv")
        write_csv(groups_table(plan.space), run_dir / "groups.csv")
        write_json(network_content(plan.task.network.spec), run_dir / NETWORK_FILE)
        write_csv(ranges_table(plan.task.network, ranges), run_dir / "ranges.csv")
        _search(plan, database, ranges, run_dir)


def _log_groups(space: SearchSpace) -> None:
    together = [" = ".join(group.layers) for group in space.groups if len(group.layers) > 1]
    if together:
        log.info("Layers of one decision (space.untied parts those that read the same tensor): %s", "; ".join(together))


def _prepare(config: SearchConfig, run_dir: Path) -> _Search:
    """Load everything and find every contradiction; nothing in the run folder changes."""
    objectives = config.objective.objectives
    check_objectives(objectives)
    constraints = parse_constraints(config.constraints.model_dump())
    build_sampler(config.sampler, seed=0)  # refuses a wrong sampler before any work
    hardware = load_hardware(config.hardware, config.quantizer)
    task = load_task(config)
    layers = task.network.layers
    space = build_space(layers, hardware, shared=shared_inputs(task.network), **config.space.arguments())
    check_n_trials(space, config.n_trials)
    check_fits(task.network.spec, hardware, space.narrowest)
    costs = cost_table(layers, hardware)
    price = pricing(costs, task.network.spec, hardware)
    check_known(objectives, constraints, price(space.uniforms()[0]), hardware.name)
    check_reachable(space, price, constraints)
    known_costs = f"{costs.to_csv()}{price(space.narrowest)}"  # where they are measured, each machine has its own
    circumstances = {
        "model": [task.network.fingerprint, config.model.input],
        "data": [task.data.fingerprint, task.data.calibration_fingerprint, config.data.split_seed],
        "hardware": config.hardware,
        "costs": sha256(known_costs.encode()).hexdigest(),
        "quantizer": config.quantizer.model_dump(),
        "sampler": config.sampler,
        "judging": [config.engine, requantization(hardware), config.racing.model_dump() if config.racing else None],
        "sensitivity": config.sensitivity if proposes(config.sampler) else None,
    }
    definition = search_definition(space, objectives, constraints, config.seed, circumstances)
    study_name = shared_name(definition) if config.storage else "hwsearch"
    check_resumable(open_storage(config.storage, run_dir), study_name, definition)
    return _Search(config, task, hardware, space, costs, price, constraints, study_name, circumstances)


def work_along(config: SearchConfig, run_dir: Path, reference: Mapping[str, float]) -> None:
    """Judge candidates of a search that another process began, until all are judged."""
    plan = _prepare(config, run_dir)
    database, ranges = layer_database(config, plan.task, plan.space.precisions), activation_ranges(config, plan.task)
    judging = prepare_judging(config, plan.task, plan.hardware, plan.space, database, ranges)
    _judge_candidates(plan, judging, reference, run_dir)


def _judge_candidates(plan: _Search, judge: Judge, reference: Mapping[str, float], run_dir: Path) -> Study:
    config = plan.config
    return search_precisions(
        plan.space,
        plan.price,
        judge,
        objectives=plan.objectives,
        constraints=plan.constraints,
        reference_point=reference,
        proposer=build_proposer(
            config.sampler,
            read_sensitivities(run_dir / SENSITIVITIES) if proposes(config.sampler) else None,
            space=plan.space,
            price=plan.price,
            objectives=plan.objectives,
            constraints=plan.constraints,
            reference_point=reference,
            seed=config.seed,
        ),
        make_sampler=lambda seed: build_sampler(config.sampler, seed),
        n_trials=config.n_trials,
        seed=config.seed,
        least_gain=config.racing.least_gain if config.racing else 0.0,
        storage=open_storage(config.storage, run_dir),
        locks=open_locks(config.storage, run_dir, plan.study_name),
        study_name=plan.study_name,
        definition=plan.circumstances,
    )


def _search(plan: _Search, database: LayerDatabase, ranges: ActivationRanges, run_dir: Path) -> None:
    config, task, space, objectives = plan.config, plan.task, plan.space, plan.objectives
    judging = prepare_judging(config, task, plan.hardware, space, database, ranges)
    float_config = {layer.name: FLOAT for layer in task.network.layers}
    reference = reference_point(judging.float_search.top1, _uniform8_costs(plan)) | reference_likeness()
    if proposes(config.sampler):
        table = sensitivities(config, task, database, ranges, judging.engine, space)
        write_csv(table, run_dir / SENSITIVITIES)
    with other_workers(config.workers - 1, work_along, config, run_dir, reference):
        study = _judge_candidates(plan, judging, reference, run_dir)
    if space.size < config.n_trials:
        log.info("The space holds %d configurations, all of them judged; n_trials=%d.", space.size, config.n_trials)
    configs = judged_configs(study, space)
    trials = trials_table(study, space, plan.constraints)
    pareto = pareto_table(
        trials,
        configs,
        task.network.layers,
        objectives,
        judging.float_search,
        plan.price(float_config),
        judging.test,
        plan.hardware.cost_source,
        network_latency(plan.hardware, task.network, database, ranges),
    )
    info = _run_info(plan, reference)
    precisions = precisions_table(study, space)
    write_run(run_dir, info, trials=trials, precisions=precisions, pareto=pareto, costs=plan.costs)
    _report(trials, pareto, plan, run_dir)


def _uniform8_costs(plan: _Search) -> dict[str, float]:
    """Known costs of 8 bits in every layer; of the widest uniform configuration that fits where these do not run."""
    layers, eight = plan.task.network.layers, Precision(8, 8)
    runs = all(eight in plan.hardware.precisions(layer) for layer in layers)
    widest_first = [*plan.space.uniforms(), plan.space.narrowest]
    if runs:
        widest_first.insert(0, {layer.name: eight for layer in layers})
    costs = next(costs for costs in map(plan.price, widest_first) if costs["latency_s"] != inf)
    return {name: value for name, value in costs.items() if not isnan(value)}


def _run_info(plan: _Search, reference: Mapping[str, float]) -> RunInfo:
    n_search, n_test = map(len, stratified_halves(plan.task.data.labels, plan.config.data.split_seed))
    return RunInfo(
        model=plan.config.model.name,
        model_fingerprint=plan.task.network.fingerprint,
        data=plan.task.data.name,
        data_fingerprint=plan.task.data.fingerprint,
        calibration=plan.task.data.calibration_fingerprint,
        split_seed=plan.config.data.split_seed,
        n_search=n_search,
        n_test=n_test,
        hardware=plan.hardware.name,
        cost_source=plan.hardware.cost_source,
        batch=plan.hardware.batch,
        quantizer=plan.config.quantizer.name,
        objectives=plan.objectives,
        constraints={constraint.measure: constraint.bound for constraint in plan.constraints},
        n_trials=plan.config.n_trials,
        seed=plan.config.seed,
        reference_point=reference,
        warnings=plan.notes,
    )


def _report(trials: pd.DataFrame, pareto: pd.DataFrame, plan: _Search, run_dir: Path) -> None:
    console = Console()
    console.print(render_pareto(pareto))
    for warning in plan.notes:
        console.print(f"Note on {plan.hardware.name}: {warning}", style="yellow", highlight=False)
    if not pareto["on_front"].any():
        console.print(_nearest(trials, plan.constraints), style="bold red", highlight=False)
    console.print(f"Tables and figure: {run_dir}", highlight=False, soft_wrap=True)


def _nearest(trials: pd.DataFrame, constraints: tuple[Constraint, ...]) -> str:
    """Which trial comes nearest to the bounds that no trial meets."""
    complete = trials[trials["state"].isin(["complete", "dropped"])]
    # Each violation is relative to its bound, so they add up.
    excess = sum(complete[c.measure].map(c.violation).clip(lower=0) for c in constraints)
    nearest = complete.assign(excess=excess).sort_values("excess", kind="stable").iloc[0]
    values = ", ".join(f"{c.measure}={nearest[c.measure]:g}" for c in constraints)
    bounds = " and ".join(c.name for c in constraints)
    return f"No candidate meets {bounds}: the nearest is trial {nearest['trial']} with {values}."
