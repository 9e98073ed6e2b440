"""Weight ranges of a ResNet-50 at all of 2 to 8 bits: how long each estimator takes and how far it is off the optimum.

    python benchmarks/ranges.py [--quick] [--out FILE.json]

Weights are random: Student's t with 5 degrees of freedom, whose tails are about as heavy as those of trained layers.
Estimators take turns at every layer; ratios are of sums over layers, medians over rounds. ``requant_global`` takes all
widths at once; layer databases ask for one after the other: ``width by width``. The optimum that an excess is
over is found by brute force in float64: the error at 4,000 scales from sorted weights and their prefix sums, and at the
least squares scales of the codes that each of them gives; the largest scale is the last whose highest level the largest
weight still has. Short rows have more minima than that at 7 and 8 bits: a negative excess is below the brute force.
The databases are those of conf/quantizer/fast.yaml, of networks with random weights.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf
from report import CONSOLE, print_table
from torch import Tensor, nn

import hwsearch
from cost_models import Precision
from hwsearch.cli.hydra_app import conf_dir
from hwsearch.cli.schema import EvaluateConfig
from hwsearch.cli.setup import Task, build, layer_database, load_network
from hwsearch.networks import ResNet
from hwsearch.progress import track
from hwsearch.quantize import (
    Range,
    aciq,
    global_ranges,
    kl,
    lp,
    minmax,
    mse_grid,
    octav,
    requant,
    requant_global,
    weight_mse,
    weight_qmax,
)

BITS = range(2, 9)
TAILS = 5.0
GRID = 4_000
ROWS_PER_LAYER = 4
BUDGETS_S = {"cifar_resnet20": 2.0, "resnet50": 30.0}
GRANULARITIES = ("per_tensor", "per_channel")

Estimator = Callable[[Tensor], Sequence[Range]]
"""The ranges of rows ``[C, N]`` at each of ``BITS``."""

ESTIMATORS: dict[str, Estimator] = {
    "requant_global": lambda rows: global_ranges(rows, BITS),
    **{
        estimate.__name__: lambda rows, estimate=estimate: [estimate(rows, bits) for bits in BITS]
        for estimate in (requant, mse_grid, lp, octav, aciq, kl, minmax)
    },
}
WIDTH_BY_WIDTH: dict[str, Estimator] = {
    "requant_global width by width": lambda rows: [requant_global(rows, bits) for bits in BITS]
}
TIMED = {name: ESTIMATORS[name] for name in ("requant_global", "requant", "mse_grid")} | WIDTH_BY_WIDTH


def heavy_tailed(module: nn.Module, seed: int) -> list[Tensor]:
    """Weights ``[O, N]`` in the shapes of a network's layers."""
    generator = np.random.default_rng(seed)
    shapes = [part.weight.flatten(1).shape for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return [torch.from_numpy(generator.standard_t(TAILS, shape).astype(np.float32)) for shape in shapes]


def rows_of(weight: Tensor, granularity: str) -> Tensor:
    """What shares a range, ``[C, N]``."""
    return weight.reshape(1, -1) if granularity == "per_tensor" else weight


def time_layers(weights: Sequence[Tensor], granularity: str) -> dict[str, float]:
    """Seconds of each timed estimator over all layers and widths."""
    seconds = dict.fromkeys(TIMED, 0.0)
    for weight in weights:
        rows = rows_of(weight, granularity)
        for name, estimate in TIMED.items():
            start = time.perf_counter()
            estimate(rows)
            seconds[name] += time.perf_counter() - start
    return seconds


def least_error(row: NDArray[np.float64], bits: int) -> float:
    """Least mean squared error on the narrow grid, by brute force."""
    magnitudes = np.sort(np.abs(row))
    sums = np.concatenate([[0.0], np.cumsum(magnitudes)])
    qmax = weight_qmax(bits)
    codes = np.arange(1, qmax + 1)

    def products_and_squares(scales: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        first = np.searchsorted(magnitudes, np.multiply.outer(scales, codes - 0.5))  # of the weights with that code
        return (sums[-1] - sums[first]).sum(1), ((len(row) - first) * (2.0 * codes - 1)).sum(1)

    def errors(scales: NDArray[np.float64]) -> NDArray[np.float64]:
        products, squares = products_and_squares(scales)
        return np.sum(magnitudes**2) - scales * (2 * products - scales * squares)

    scales = np.geomspace(0.01, qmax / (qmax - 0.5) if qmax > 1 else 1, GRID) * magnitudes[-1] / qmax
    products, squares = products_and_squares(scales)
    bottoms = products[squares > 0] / squares[squares > 0]
    return float(min(errors(scales).min(), errors(bottoms).min())) / len(row)


def excesses(weights: Sequence[Tensor], granularity: str) -> dict[str, NDArray[np.float64]]:
    """Excess over the least error in percent of each estimator, ``[row, bits]``."""
    samples = []
    for weight in weights:
        rows = rows_of(weight, granularity)
        samples += list(rows[:: max(1, len(rows) // ROWS_PER_LAYER)].split(1))
    least = np.array([[least_error(row[0].double().numpy(), bits) for bits in BITS] for row in samples])
    found = {}
    for name, estimate in ESTIMATORS.items():
        errors = [
            [
                float(weight_mse(row.double(), clip.clip.double(), bits))
                for bits, clip in zip(BITS, estimate(row), strict=True)
            ]
            for row in samples
        ]
        found[name] = 100 * (np.array(errors) / least - 1)
    return found


def database_s(model: str) -> float:
    """Seconds that the layer database of a network with random weights takes under ``fast``, at all of 2 to 8 bits."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        chosen = [f"model={model}", "model.checkpoint=random", "quantizer=fast", f"cache_dir={folder}"]
        config = EvaluateConfig.model_validate(OmegaConf.to_container(compose("evaluate", chosen), resolve=True))
        network = load_network(config.model)
        preprocess = build(config.model.input)
        images = np.zeros((1, *preprocess.shape[1:], preprocess.shape[0]), np.uint8)
        task = Task(network, preprocess, hwsearch.Dataset("none", images, np.zeros(1, np.int64), images), 1)
        start = time.perf_counter()
        layer_database(config, task, {Precision(bits, 8) for bits in BITS})
        return time.perf_counter() - start


def main(
    quick: Annotated[bool, typer.Option(help="Every sixth layer, one round.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print seconds, ratios and excesses."""
    weights = heavy_tailed(ResNet(50), seed=0)[:: 6 if quick else 1]
    count = sum(weight.numel() for weight in weights)
    CONSOLE.print(f"{len(weights)} layers, {count:,} weights, 2 to 8 bits, {torch.get_num_threads()} threads")
    results: dict[str, float] = {}
    for granularity in GRANULARITIES:
        time_layers(weights[:1], granularity)  # torch's first calls allocate
        rounds = [time_layers(weights, granularity) for _ in track(range(1 if quick else 3), f"timing {granularity}")]
        print_table(
            granularity,
            ("estimator", "seconds", "fastest", "slowest"),
            [
                (name, *(f"{pick(r[name] for r in rounds):.2f}" for pick in (statistics.median, min, max)))
                for name in TIMED
            ],
        )
        for other in ("mse_grid", "requant"):
            ratios = [seconds[other] / seconds["requant_global"] for seconds in rounds]
            results[f"{other}_vs_requant_global_{granularity}"] = statistics.median(ratios)
        excess = excesses(weights, granularity)
        print_table(
            f"{granularity}: mean (largest) excess over the least squared error, %, {len(excess['minmax'])} rows",
            ("estimator", *(f"{bits} bits" for bits in BITS)),
            [
                (name, *(f"{mean:.3f} ({most:.2f})" for mean, most in zip(e.mean(0), e.max(0), strict=True)))
                for name, e in excess.items()
            ],
        )
        results[f"requant_global_{granularity}_max_excess_percent"] = float(excess["requant_global"].max())
    for model, budget_s in BUDGETS_S.items():
        results[f"fast_database_{model}_over_budget"] = database_s(model) / budget_s
    print_table("", ("", ""), [(name, f"{value:.3f}") for name, value in results.items()])
    if out:
        out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
