"""``hwsearch search``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from cost_models import FLOAT, BitConfig, CostModel, Precision
from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import Task, build, calibrated, load_task
from hwsearch.costs import Price, cost_table, pricing
from hwsearch.data import stratified_halves
from hwsearch.evaluate import Accuracy, FakeQuantNetwork, accuracy
from hwsearch.figures import pareto_figure
from hwsearch.front import pareto_table
from hwsearch.pareto import COSTS, reference_point
from hwsearch.quantize import ranges_table
from hwsearch.report import render_pareto
from hwsearch.run_folder import layers_table, versions, write_csv, write_json
from hwsearch.search import (
    Constraint,
    SearchSpace,
    build_space,
    check_known,
    check_objectives,
    check_reachable,
    judged_configs,
    locked,
    open_storage,
    parse_constraints,
    precisions_table,
    search_precisions,
    trials_table,
)

log = logging.getLogger("hwsearch")


def search_command(config: SearchConfig, run_dir: Path) -> None:
    """Search, then write every table, the figure, and the Pareto table on the terminal."""
    objectives = config.objective.objectives
    check_objectives(objectives)
    constraints = parse_constraints(config.constraints)
    build(config.sampler, seed=0)  # refuses a wrong sampler before any work
    device: CostModel = build(config.hardware)
    log.info("run folder: %s (repeat the command with run_dir=%s to go on if it stops)", run_dir, run_dir)
    with locked(run_dir):
        task = load_task(config)
        layers = task.network.layers
        space = build_space(layers, device, **config.space.model_dump())
        costs = cost_table(layers, device)
        price = pricing(costs, layers, device)
        check_known(objectives, constraints, price(space.uniforms()[0]), device.name)
        check_reachable(space, price, constraints)
        judge, ranges = calibrated(config, task)
        write_csv(layers_table(layers), run_dir / "layers.csv")
        write_csv(costs.reset_index(), run_dir / "cost_table.csv")
        write_csv(ranges_table(task.network, ranges), run_dir / "ranges.csv")
        write_json(versions(), run_dir / "versions.json")
        _search(config, run_dir, task, device, space, price, judge, constraints)


def _search(
    config: SearchConfig,
    run_dir: Path,
    task: Task,
    device: CostModel,
    space: SearchSpace,
    price: Price,
    judge: FakeQuantNetwork,
    constraints: tuple[Constraint, ...],
) -> None:
    search_split, test_split = (
        task.batches(part) for part in stratified_halves(task.data.labels, config.data.split_seed)
    )
    objectives = config.objective.objectives

    def judged(precisions: BitConfig, batches: Any, description: str | None = None) -> Accuracy:
        judge.configure(precisions)
        return accuracy(judge, batches, description)

    float_config = {layer.name: FLOAT for layer in task.network.layers}
    float_search = judged(float_config, search_split, "judging the float network")
    definition = {
        "model": task.network.fingerprint,
        "data": [task.data.fingerprint, config.data.split_seed, config.data.calibration_images],
        "hardware": config.hardware,
        "quantizer": config.quantizer.model_dump(),
        "space": config.space.model_dump(),
        "sampler": config.sampler,
    }
    widest = space.uniform(Precision(8, 8)) or space.uniforms()[0]
    known = {name: value for name, value in price(widest).items() if name in COSTS and value == value}
    reference = reference_point(float_search.top1, known)
    study = search_precisions(
        space,
        price,
        lambda precisions: judged(precisions, search_split).top1,
        objectives=objectives,
        constraints=constraints,
        reference_point=reference,
        make_sampler=lambda seed: build(config.sampler, seed=seed),
        n_trials=config.n_trials,
        seed=config.seed,
        storage=open_storage(config.storage, run_dir),
        study_name=f"hwsearch {run_dir.resolve()}" if config.storage else "hwsearch",
        definition=definition,
    )
    if space.size < config.n_trials:
        log.info("The space holds %d configurations, all of them judged; n_trials=%d.", space.size, config.n_trials)
    trials = trials_table(study, space, constraints)
    write_csv(trials, run_dir / "trials.csv")
    write_csv(precisions_table(study, space), run_dir / "precisions.csv")
    pareto = pareto_table(
        trials,
        judged_configs(study, space),
        task.network.layers,
        objectives,
        float_search,
        price(float_config),
        lambda precisions: judged(precisions, test_split),
        device.cost_source,
    )
    write_csv(pareto, run_dir / "pareto.csv")
    write_json(
        {
            "schema": "hwsearch.run/1",
            "model": config.model.name,
            "model_fingerprint": task.network.fingerprint,
            "data": task.data.name,
            "data_fingerprint": task.data.fingerprint,
            "split_seed": config.data.split_seed,
            "n_search": len(search_split.labels),
            "n_test": len(test_split.labels),
            "hardware": device.name,
            "cost_source": device.cost_source,
            "batch": device.batch,
            "objectives": objectives,
            "constraints": {constraint.measure: constraint.bound for constraint in constraints},
            "seed": config.seed,
            "quantizer": config.quantizer.name,
            "reference_point": reference,
            "warnings": list(device.warnings),
        },
        run_dir / "run.json",
    )
    title = f"{config.model.name} on {device.name}: {len(judged_configs(study, space))} configurations"
    figure = pareto_figure(trials, pareto, objectives, reference, title)
    figure.savefig(run_dir / "pareto.png")
    _report(trials, pareto, constraints, device, run_dir)


def _report(
    trials: pd.DataFrame, pareto: pd.DataFrame, constraints: tuple[Constraint, ...], device: CostModel, run_dir: Path
) -> None:
    console = Console()
    console.print(render_pareto(pareto))
    for warning in device.warnings:
        console.print(f"Note on {device.name}: {warning}", style="yellow", highlight=False)
    if not pareto["on_front"].any():
        console.print(_nearest(trials, constraints), style="bold red", highlight=False)
    console.print(f"Tables and figure: {run_dir}", highlight=False, soft_wrap=True)


def _nearest(trials: pd.DataFrame, constraints: tuple[Constraint, ...]) -> str:
    """Which trial comes nearest to the bounds that no trial meets."""
    complete = trials[trials["state"] == "complete"]
    excess = sum(complete[c.measure].map(c.violation).clip(lower=0) for c in constraints)
    nearest = complete.assign(excess=excess).sort_values("excess", kind="stable").iloc[0]
    values = ", ".join(f"{c.measure}={nearest[c.measure]:g}" for c in constraints)
    bounds = " and ".join(c.name for c in constraints)
    return f"No candidate meets {bounds}: the nearest is trial {nearest['trial']} with {values}."
