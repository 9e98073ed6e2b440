"""How well candidates are chosen: the default sampler beside Optuna's, on a space judged exhaustively and on ResNet-20.

    python benchmarks/search.py [--quick] [--out FILE.json] [--part PART ...] [--seed N ...] [--sampler NAME ...]

Parts: ``digits`` (19,683 candidates, all judged; ``--table`` keeps that), ``resnet20_latency`` and ``resnet20_size``
(100 candidates of the default against 400 of the others but ``gp``), ``widths`` (weights of 4 and of 3 bits on average,
against uniform ones). The last three need ``--cifar10``, a folder with resnet20.pth and the images. ``--quick`` is
``digits`` of two widths (512 candidates), with one seed and the samplers that are quick to ask. Sensitivities are
measured on calibration images, which are never scored, without labels; what they cost is given in candidates.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from report import CONSOLE, print_table
from searching import Judged, Problem, composed

from cost_models import FLOAT, FLOAT_BITS, BitConfig, Precision, size_bytes
from hwsearch.evaluate import FakeQuantNetwork, accuracy
from hwsearch.judging import SplitJudge
from hwsearch.pareto import hypervolume
from hwsearch.progress import track
from hwsearch.search import (
    Chain,
    Constraint,
    Hopeless,
    Judgement,
    canonical,
    judged_configs,
    never,
    search_precisions,
    trials_table,
)
from hwsearch.sensitivity import Quantized, kl_divergence, output_change

PARTS = ("digits", "resnet20_latency", "resnet20_size", "widths")
SAMPLERS = ("chain", "tpe", "nsga2", "gp", "random")
NATIVE = (2, 4, 8)
"""Bit Fusion's own widths, of weights and activations alike."""
DIGITS_BUDGETS = (20, 50, 100, 200)
QUICK_NATIVE, QUICK_BUDGETS = NATIVE[:2], DIGITS_BUDGETS[:2]
RESNET20_BUDGETS = {"chain": 100, "tpe": 400, "nsga2": 400, "random": 400}
"""Most candidates of each sampler; ``gp`` would take too long to ask for them."""
RESNET20_IMAGES = 2000

COSTS = {"resnet20_latency": "latency_s", "resnet20_size": "size_bytes"}
WIDTHS_IMAGES = 1000
"""Of the calibration set, drawn by the seed, for sensitivities; candidates are judged on all of it."""
WIDTHS_CANDIDATES = 40
MEAN_BITS = (4, 3)
SEEDS = range(5)
QUICK_SEEDS = (0,)
SLOW = ("gp", "tpe")
"""Samplers that take longest to ask."""
CIFAR10 = Path("../shared/data/cifar10")

Figures = dict[str, float]


def digits(
    seeds: Sequence[int], samplers: Sequence[str], widths: Sequence[int], budgets: Sequence[int], table: Path | None
) -> Figures:
    """Share of the exhaustive front's hypervolume that a search finds."""
    choices = tuple(Precision(bits, bits) for bits in widths)
    judged = Judged(composed("engine=torch", "data.batch_size=500"), 10**9, choices)
    problem = judged.problem(["top1", "latency_s"])
    every = exhaustive(judged, table)
    costs = pd.DataFrame([problem.price(dict(key)) for key in every])
    best = hypervolume(costs.assign(top1=list(every.values())), problem.objectives, problem.reference_point)
    looked_up = replace(
        problem, judge=lambda config, hopeless: Judgement({"top1": every[canonical(config)]}, judged.judge.n)
    )
    shares = {
        sampler: np.array([list(search(looked_up, sampler, budgets, seed).values()) for seed in seeds]) / best
        for sampler in samplers
    }
    print_shares(f"digits: share of the hypervolume of all {len(every):,} candidates", budgets, shares)
    CONSOLE.print(f"Sensitivities cost as much as {judged.sensitivity_evaluations:.1f} candidates.")
    figures = {f"digits_{sampler}_{budgets[-1]}": median(found[:, -1]) for sampler, found in shares.items()}
    figures["digits_sensitivity_evaluations"] = round(judged.sensitivity_evaluations, 1)
    if "chain" in shares:
        figures["digits_seeds_above_99"] = float((shares["chain"][:, -1] >= 0.99).mean())
    return figures


def exhaustive(judged: Judged, path: Path | None) -> dict[Any, float]:
    """Top1 of every candidate, in an order in which each shares the most layers with the one before."""
    groups = judged.space.groups
    keys = [
        canonical(judged.space.config({group.name: p for group, p in zip(groups, chosen, strict=True)}))
        for chosen in product(*(group.precisions for group in groups))
    ]
    if path and path.exists():
        return dict(zip(keys, np.load(path).tolist(), strict=True))
    batches = list(judged.task.batches(judged.split).parts())

    def correct(config: BitConfig) -> int:
        judged.engine.configure(config)
        return sum(int((judged.engine.logits(batch).argmax(dim=1).numpy() == batch.labels).sum()) for batch in batches)

    top1 = [100 * correct(dict(key)) / len(judged.split) for key in track(keys, "judging every candidate")]
    if path:
        np.save(path, np.array(top1))
    return dict(zip(keys, top1, strict=True))


def search(problem: Problem, sampler: str, budgets: Sequence[int], seed: int) -> dict[int, float]:
    """Hypervolume after each of some numbers of candidates."""
    trials = problem.found(composed(f"sampler={sampler}").sampler, max(budgets), seed)
    return problem.hypervolumes(trials, budgets)


def median(values: Any) -> float:
    return round(float(np.median(values)), 5)


def print_shares(title: str, budgets: Sequence[int], shares: Mapping[str, Any]) -> None:
    """Median over seeds and range."""
    rows = [
        (sampler, *(f"{np.median(of):.4f} ({of.min():.4f} to {of.max():.4f})" for of in found.T))
        for sampler, found in shares.items()
    ]
    print_table(title, ("sampler", *(f"{budget} candidates" for budget in budgets)), rows)


def resnet20(cost: str, seeds: Sequence[int], samplers: Sequence[str], cifar10: Path) -> Figures:
    """Hypervolume of the default at a quarter of the others' candidates."""
    judged = Judged(composed(*resnet20_overrides(cifar10)), RESNET20_IMAGES)
    problem = judged.problem(["top1", cost])
    known: dict[Any, Judgement] = {}

    def judge(config: BitConfig, hopeless: Hopeless) -> Judgement:
        key = canonical(config)
        known[key] = known.get(key) or judged.judge(config, never)
        return known[key]

    once = replace(problem, judge=judge)
    ratios = {}
    for sampler in [name for name in samplers if name in RESNET20_BUDGETS]:
        budgets = [budget for budget in (50, 100, 200, 400) if budget <= RESNET20_BUDGETS[sampler]]
        found = [search(once, sampler, budgets, seed) for seed in seeds]
        values = np.array([list(each.values()) for each in found])
        print_shares(f"ResNet-20, top1 and {cost}: hypervolume", budgets, {sampler: values})
        ratios |= {
            f"resnet20_{cost}_{sampler}_{budget}": median(of) for budget, of in zip(budgets, values.T, strict=True)
        }
    CONSOLE.print(f"Sensitivities cost as much as {judged.sensitivity_evaluations:.1f} candidates.")
    return ratios | {f"resnet20_{cost}_sensitivity_evaluations": round(judged.sensitivity_evaluations, 1)}


def resnet20_overrides(cifar10: Path) -> list[str]:
    return [
        "model=cifar_resnet20",
        f"model.checkpoint={cifar10 / 'resnet20.pth'}",
        "data=cifar10",
        f"data.root={cifar10}",
    ]


def widths(seeds: Sequence[int], cifar10: Path) -> Figures:
    """What weights of mixed widths win back of what uniform ones of the same size lose; activations are floats."""
    overrides = ("data.calibration_images=2048", "quantizer=bias_correction", "engine=torch")
    choices = tuple(Precision(bits, FLOAT_BITS) for bits in range(2, 9))
    judged = Judged(composed(*resnet20_overrides(cifar10), *overrides), 10**9, choices)
    network, config = judged.task.network, judged.config
    engine = FakeQuantNetwork(network, judged.database, {}, reuse_bytes=config.reuse_bytes)

    def top1(precisions: BitConfig) -> float:
        engine.configure(precisions)
        return accuracy(engine, judged.task.batches()).top1

    layers = [layer.name for layer in network.layers]
    reference = top1(dict.fromkeys(layers, FLOAT))
    uniform = {bits: top1(dict.fromkeys(layers, Precision(bits, FLOAT_BITS))) for bits in MEAN_BITS}
    found = [{bits: top1(mixed) for bits, mixed in mixed_widths(judged, engine, seed).items()} for seed in seeds]
    rows, figures = [], {"widths_float": reference}
    for bits in MEAN_BITS:
        mixed = [of_seed[bits] for of_seed in found]
        won = float((np.mean(mixed) - uniform[bits]) / (reference - uniform[bits]))
        rows.append((str(bits), f"{uniform[bits]:.2f}", " ".join(f"{value:.2f}" for value in mixed), f"{won:.2f}"))
        figures |= {f"widths_{bits}_uniform": uniform[bits], f"widths_{bits}_mixed": float(np.mean(mixed))}
        figures |= {f"widths_{bits}_won_back": won}
    title = f"ResNet-20, float activations, {len(judged.task.data.labels):,} images; float {reference:.2f} %"
    print_table(title, ("mean bits", "uniform", "mixed, by seed", "share of the loss won back"), rows)
    return figures


def mixed_widths(judged: Judged, engine: FakeQuantNetwork, seed: int) -> dict[int, BitConfig]:
    """By mean bits, the least divergence from float on calibration images within the size of uniform weights."""
    network, calibration = judged.task.network, judged.task.calibration
    drawn = np.random.default_rng(seed).choice(len(calibration.inputs), WIDTHS_IMAGES, replace=False)
    images = replace(calibration, inputs=calibration.inputs[drawn], labels=calibration.labels[drawn])
    choices = {group.name: group.precisions for group in judged.space.groups}
    quantized = Quantized(network, judged.database, {}, engine, images)
    table = output_change(quantized, choices, measure=kl_divergence, images=WIDTHS_IMAGES)
    judge = SplitJudge(engine, FakeQuantNetwork(network, {}, {}), [list(calibration.parts())])

    def price(config: BitConfig) -> dict[str, float]:
        return {"size_bytes": float(sum(size_bytes(layer, config[layer.name]) for layer in network.layers))}

    def best(bits: int) -> BitConfig:
        uniform = dict.fromkeys(choices, Precision(bits, FLOAT_BITS))
        bounds = [Constraint("size_bytes", price(uniform)["size_bytes"])]
        reference = {"kl": judge(uniform, never).measures["kl"]}
        search: dict[str, Any] = {
            "objectives": ["kl"],
            "constraints": bounds,
            "reference_point": reference,
            "seed": seed,
        }
        study = search_precisions(
            judged.space,
            price,
            lambda config, hopeless: judge(config, never),
            proposer=Chain(judged.space, price, table, **search),
            n_trials=WIDTHS_CANDIDATES,
            **search,
        )
        trials = trials_table(study, judged.space, bounds)
        least = trials[trials["feasible"]].sort_values("kl", kind="stable").iloc[0]
        return judged_configs(study, judged.space)[int(least["trial"])]

    return {bits: best(bits) for bits in MEAN_BITS}


def main(
    quick: Annotated[bool, typer.Option(help="The digits with two widths and one seed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}; default: digits.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Default: 0 to 4.")] = None,
    sampler: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SAMPLERS)}; default: all.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Keeps the exhaustive judgement of the digits, a .npy file.")
    ] = None,
    cifar10: Annotated[Path, typer.Option(help="Folder with resnet20.pth and the images.")] = CIFAR10,
) -> None:
    """Print tables, and write medians over seeds."""
    seeds = seed or (QUICK_SEEDS if quick else SEEDS)
    samplers = sampler or [name for name in SAMPLERS if not (quick and name in SLOW)]
    figures: Figures = {}
    for name in part or PARTS[:1]:
        if name == "digits":
            widths_and_budgets = (QUICK_NATIVE, QUICK_BUDGETS) if quick else (NATIVE, DIGITS_BUDGETS)
            figures |= digits(seeds, samplers, *widths_and_budgets, table)
        elif name == "widths":
            figures |= widths(seeds, cifar10)
        else:
            figures |= resnet20(COSTS[name], seeds, samplers, cifar10)
        if out:
            out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
