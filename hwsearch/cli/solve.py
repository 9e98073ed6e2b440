"""``hwsearch solve``."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cost_models import BitConfig, LayerSpec, Precision
from hwsearch.cli.hardware import load_hardware
from hwsearch.cli.run_config import read_run_config
from hwsearch.cli.schema import SolveConfig
from hwsearch.costs import check_fits, cost_table, pricing
from hwsearch.network_file import read_network
from hwsearch.pareto import COSTS
from hwsearch.run_folder import write_csv
from hwsearch.search import (
    Group,
    Menu,
    SearchSpace,
    build_menu,
    build_space,
    canonical,
    check_known,
    check_reachable,
    least_predicted_loss,
    parse_constraints,
    predicted_front,
)
from hwsearch.sensitivity_table import SENSITIVITIES, read_sensitivities
from hwsearch.units import unit_of


def solve_command(run: Path, config: SolveConfig, run_dir: Path) -> None:
    """Find configurations of least predicted loss from what a search stored; print and write them."""
    searched = read_run_config(run)
    table, network = read_sensitivities(run / SENSITIVITIES), read_network(run)
    hardware = load_hardware(config.hardware or searched.hardware, searched.quantizer)
    space = build_space(network.layers, hardware, shared=_groups(run), **searched.space.arguments())
    space, unknown = _with_sensitivities(space, table, hardware.name)
    check_fits(network, hardware, space.narrowest)
    price = pricing(cost_table(network.layers, hardware), network, hardware)
    constraints = parse_constraints(config.constraints.model_dump())
    cost = config.cost or next((name for name in searched.objective.objectives if name in COSTS), COSTS[0])
    if cost not in COSTS:
        raise ValueError(f"cost={cost} is no cost; choose from {list(COSTS)}.")
    traded = [] if constraints else [cost]
    check_known(traded, constraints, price(space.narrowest), hardware.name)
    check_reachable(space, price, constraints)
    menu = build_menu(space, price, table, [*traded, *(bound.measure for bound in constraints)])
    start = time.perf_counter()
    if constraints:
        found = least_predicted_loss(menu, price, constraints)
        configs = [found] if found else []
    else:
        configs = [menu.config(chosen) for chosen in predicted_front(menu, [cost], (), config.budgets)]
    seconds = time.perf_counter() - start
    solutions = _front(_solutions(menu, configs, network.layers, price), traded)
    if solutions.empty:
        bounds = "".join(f" and keeps {bound.name}" for bound in constraints)
        raise ValueError(
            f"No configuration was found that fits hardware '{hardware.name}'{bounds}; set other constraints."
        )
    configs = [configs[number] for number in solutions.index]
    solutions = solutions.reset_index(drop=True)
    write_csv(solutions.rename_axis("trial").reset_index(), run_dir / "solutions.csv")
    write_csv(_precisions(configs), run_dir / "precisions.csv")
    console = Console()
    console.print(f"{searched.model.name} on {hardware.name}: predicted, not judged; solved in {seconds:.2f} s")
    console.print(_rendered(solutions))
    if unknown:
        left_out = f"Left out, since the run stored no sensitivities of them: {', '.join(map(str, unknown))}"
        console.print(left_out, style="yellow", highlight=False)
    judge = "hwsearch evaluate with the run's model and data, and precisions="
    console.print(f"To judge them: {judge}{run_dir / 'precisions.csv'} trial=0", highlight=False, soft_wrap=True)


def _groups(run: Path) -> list[list[str]]:
    """Layers that decided together in the run."""
    table = pd.read_csv(run / "groups.csv", dtype=str, keep_default_na=False)
    return [list(layers) for _, layers in table.groupby("group", sort=False)["layer"]]


def _with_sensitivities(space: SearchSpace, table: pd.DataFrame, device: str) -> tuple[SearchSpace, list[Precision]]:
    """The choices of a space that a search knows the sensitivities of, and those that it does not."""
    known = set(table[["layer", "operand", "bits", "weight_format"]].itertuples(index=False, name=None))

    def is_known(group: Group, precision: Precision) -> bool:
        operands = (
            ("weights", precision.weight_bits, precision.weight_format),
            ("activations", precision.activation_bits, ""),
        )
        return known.issuperset((layer, *operand) for layer in group.layers for operand in operands)

    groups, unknown = [], set[Precision]()
    for group in space.groups:
        kept = tuple(precision for precision in group.precisions if is_known(group, precision))
        if not kept:
            raise ValueError(
                f"Hardware '{device}' runs layers {list(group.layers)} at {', '.join(map(str, group.precisions))}, of "
                "which the run stored no sensitivities; search with this hardware."
            )
        groups.append(replace(group, precisions=kept))
        unknown |= {*group.precisions} - {*kept}
    return replace(space, groups=tuple(groups)), sorted(unknown)


def _solutions(
    menu: Menu,
    configs: Sequence[BitConfig],
    layers: Sequence[LayerSpec],
    price: Callable[[BitConfig], Mapping[str, float]],
) -> pd.DataFrame:
    """Mean bits, predicted loss and costs of each configuration."""
    weights, inputs = [layer.weight_count for layer in layers], [layer.in_count for layer in layers]
    rows = []
    for config in configs:
        chosen = menu.number(canonical(config))
        assert chosen
        precisions = [config[layer.name] for layer in layers]
        rows.append(
            {
                "weight_bits_mean": np.average([p.weight_bits for p in precisions], weights=weights),
                "activation_bits_mean": np.average([p.activation_bits for p in precisions], weights=inputs),
                "predicted_loss": sum(
                    float(loss[choice].sum()) for loss, choice in zip(menu.losses, chosen, strict=True)
                ),
                **price(config),
            }
        )
    return pd.DataFrame(
        rows, columns=["weight_bits_mean", "activation_bits_mean", "predicted_loss", *COSTS], dtype=float
    )


def _front(solutions: pd.DataFrame, traded: Sequence[str]) -> pd.DataFrame:
    """Solutions that fit the device and are not dominated at their own prices, in order of the cost that is traded."""
    fitting = solutions[~np.isinf(solutions[list(COSTS)].to_numpy()).any(axis=1)]
    in_order = fitting.sort_values([*traded, "predicted_loss"], kind="stable")
    least_before = in_order["predicted_loss"].cummin().shift(fill_value=inf)
    front: pd.DataFrame = in_order[in_order["predicted_loss"] < least_before]
    return front


def _precisions(configs: Sequence[BitConfig]) -> pd.DataFrame:
    """As ``precisions.csv`` of a run; ``trial`` counts the solutions."""
    return pd.DataFrame(
        {"trial": number, "layer": layer, **asdict(precision)}
        for number, config in enumerate(configs)
        for layer, precision in config.items()
    )


def _rendered(solutions: pd.DataFrame) -> Table:
    costs = [name for name in COSTS if solutions[name].notna().any()]
    units = {name: unit_of(name, float(solutions[name].max())) for name in costs}
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("trial", "W bits", "A bits", "predicted loss", *(f"{cost} ({units[cost][1]})" for cost in costs)):
        table.add_column(name.replace("_s ", " ").replace("_j ", " ").replace("_bytes ", " "), justify="right")
    for number, row in solutions.iterrows():
        means = [f"{row[name]:.2f}" for name in ("weight_bits_mean", "activation_bits_mean")]
        table.add_row(
            str(number),
            *means,
            f"{row['predicted_loss']:.3g}",
            *(f"{row[cost] / units[cost][0]:.4g}" for cost in costs),
        )
    return table
