"""How right costs are, against published figures, and how long costing takes.

    python benchmarks/costs.py [--quick] [--out FILE.json]

ResNet-50 at every pair of 2 to 8 bits on HAQ's array, an analytic device; 10,000 candidates priced at once against
one by one. Medians of interleaved rounds; a budget's ratio is the time over the time allowed, so below 1 is within it.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from agreements import figures
from published import FIXTURES
from report import print_table

import hwsearch
from cost_models import Analytic, Precision
from hwsearch.networks import ResNet

DEVICE = Path(__file__).parents[1] / "conf" / "hardware" / "haq_cvpr_2019.yaml"
CANDIDATES = 10_000
ONE_BY_ONE = 500
BUDGETS_S = {"table_49_pairs": 0.2, "price_10000_at_once": 0.1}


def cases() -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    network = hwsearch.capture(ResNet(50).eval(), torch.zeros(1, 3, 224, 224))
    loaded = hwsearch.load_device(DEVICE)
    assert isinstance(loaded, Analytic)
    bits = tuple(range(2, 9))
    device = replace(loaded, compute=[replace(r, weight_bits=bits, activation_bits=bits) for r in loaded.compute])
    price = hwsearch.pricing(hwsearch.cost_table(network.layers, device), network.spec, device)
    pairs = [Precision(*pair) for pair in product(bits, bits)]
    rows = np.array([[price.row(layer.name, pair) for pair in pairs] for layer in network.layers])  # [layers, pairs]
    choice = np.random.default_rng(0).integers(len(pairs), size=(CANDIDATES, len(rows)))
    chosen = rows[np.arange(len(rows)), choice]
    configs = [dict(price.keys[row] for row in candidate) for candidate in chosen[:ONE_BY_ONE].tolist()]
    return {
        "table_49_pairs": lambda: hwsearch.cost_table(network.layers, device),
        "price_10000_at_once": lambda: price.many(chosen),
        f"price_{ONE_BY_ONE}_one_by_one": lambda: [price(config) for config in configs],
    }


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds, and no networks but those of MLPerf Tiny.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write figures, bounds and ratios as JSON.")] = None,
) -> None:
    """Print figures with their bounds, milliseconds per case and the ratios; fail if a figure leaves its bound."""
    found = list(figures(quick=quick)) if FIXTURES.is_dir() else []
    if found:
        marks = ["" if figure.holds else "BROKEN" for figure in found]
        rows = [
            (f"{f.source}: {f.name}", f"{f.value:.4g}", f.bound, mark) for f, mark in zip(found, marks, strict=True)
        ]
        print_table("Agreement with published figures", ("figure", "value", "bound", ""), rows)
    else:
        typer.echo(f"No published figures: there is no folder {FIXTURES}.")
    ratios = timings(quick)
    if out:
        records = [
            {"fixture": f.source, "figure": f.name, "value": f.value, "bound": f.bound, "holds": f.holds} for f in found
        ]
        out.write_text(json.dumps({"figures": records, "ratios": ratios}, indent=2) + "\n")
    if not all(figure.holds for figure in found):
        raise typer.Exit(1)


def timings(quick: bool) -> dict[str, float]:
    """Time every case in interleaved rounds; print medians and ratios."""
    timed = cases()
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(3 if quick else 15):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    typer.echo("ResNet-50, median (fastest to slowest)")
    for name, values in times.items():
        low, high = min(values) * 1e3, max(values) * 1e3
        typer.echo(f"{name:24s} {statistics.median(values) * 1e3:8.1f} ms ({low:.1f} to {high:.1f})")
    each, at_once = times[f"price_{ONE_BY_ONE}_one_by_one"], times["price_10000_at_once"]
    per_candidate = [(a / ONE_BY_ONE) / (b / CANDIDATES) for a, b in zip(each, at_once, strict=True)]
    ratios = {f"{name}_over_budget": statistics.median(times[name]) / budget for name, budget in BUDGETS_S.items()}
    ratios["one_by_one_vs_at_once"] = statistics.median(per_candidate)
    for name, ratio in ratios.items():
        typer.echo(f"{name:32s} {ratio:6.2f}")
    return ratios


if __name__ == "__main__":
    typer.run(main)
