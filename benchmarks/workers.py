"""What sharing a search costs: workers on one study beside as many independent searches, and the time to ask.

    python benchmarks/workers.py [--quick] [--out FILE.json] [--workers N] [--judge-s SECONDS]

Candidates are judged in closed form after a fixed piece of work, which takes about ``--judge-s`` where nothing else
runs (ResNet-20 on 2,000 images: benchmarks/judging.py). Both kinds of search run in turn in the same processes, with
the default sampler, on a network of 20 layers. ``asking_s`` is the time between two candidates of a study of 1,000
trials and 50 layers: telling the one, choosing the next, and claiming it, in the run folder's journal.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import pandas as pd
import typer
from report import CONSOLE, print_ratios, print_table
from searching import composed
from timing import Rounds

from cost_models import BitConfig, LayerSpec, NetworkSpec, load_device
from hwsearch.cli.proposing import build_proposer, build_sampler
from hwsearch.costs import cost_table, pricing
from hwsearch.search import Hopeless, Judgement, build_space, open_locks, open_storage, search_precisions
from hwsearch.search.encoding import config_of, distributions, encode
from hwsearch.search.loop import search_definition
from hwsearch.search.study import open_study
from hwsearch.sensitivity_table import COLUMNS

TRIALS = 1000
"""In the study that a candidate is asked of."""
OBJECTIVES = ("top1", "latency_s")


class Searched:
    """A chain of equal convolutions on Bit Fusion, whose accuracy falls with each layer's quantization noise."""

    def __init__(self, layers: int) -> None:
        shape: Any = {"in_size": (16, 16), "out_size": (16, 16), "padding": (1, 1)}
        self.layers = [LayerSpec(f"conv{i}", "conv2d", 64, 64, (3, 3), **shape) for i in range(layers)]
        self.config = composed()
        device = load_device(self.config.hardware)
        self.space = build_space(self.layers, device)
        self.price = pricing(cost_table(self.layers, device), NetworkSpec.chain(self.layers), device)
        rng = np.random.default_rng(0)
        self.losses = {
            (layer.name, operand, bits): rng.gamma(1.0) / layers * 8 * 4.0**-bits
            for layer in self.layers
            for operand in ("weights", "activations")
            for bits in range(2, 9)
        }
        self.reference_point = {"top1": 80.0, **self.price(self.space.uniforms()[0])}

    def top1(self, config: BitConfig) -> float:
        """In percent."""
        widths = [
            (name, pair)
            for name, p in config.items()
            for pair in (("weights", p.weight_bits), ("activations", p.activation_bits))
        ]
        return 95 * float(np.exp(-sum(self.losses[name, operand, bits] for name, (operand, bits) in widths)))

    def search(self, folder: Path, judge: Callable[..., Judgement], n_trials: int, seed: int) -> None:
        """With the default sampler, in a folder that other workers may share."""
        rows = [(*key, "uniform" if key[1] == "weights" else "", loss) for key, loss in self.losses.items()]
        found: dict[str, Any] = {"space": self.space, "price": self.price, "objectives": OBJECTIVES}
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        found["reference_point"] = self.reference_point
        search_precisions(
            **found,
            judge=judge,
            proposer=build_proposer(self.config.sampler, table, **found, seed=seed),
            make_sampler=partial(build_sampler, self.config.sampler),
            n_trials=n_trials,
            seed=seed,
            storage=open_storage(None, folder),
            locks=open_locks(None, folder, "hwsearch"),
        )


def work(seconds: float) -> Callable[[], None]:
    """Something that takes this long on an idle machine."""
    block = np.random.default_rng(0).random((128, 128), dtype=np.float32)
    np.dot(block, block)
    start = time.perf_counter()
    for _ in range(1000):
        np.dot(block, block)
    products = round(1000 * seconds / (time.perf_counter() - start))

    def run() -> None:
        for _ in range(products):
            np.dot(block, block)

    return run


def worker(judge_s: float, barrier: Any, orders: Any) -> None:
    """Run the searches that it is told to, each when all the others do."""
    searched, busy = Searched(20), work(judge_s)

    def judge(config: BitConfig, hopeless: Hopeless) -> Judgement:
        busy()
        return Judgement({"top1": searched.top1(config)}, n=2000)

    while (order := orders.get()) is not None:
        folder, n_trials, seed = order
        barrier.wait()
        searched.search(folder, judge, n_trials, seed)
        barrier.wait()


def shared_and_independent(workers: int, trials: int, rounds: int, judge_s: float, root: Path) -> dict[str, Rounds]:
    """Trials per second of all workers together, for both kinds of search, in each round."""
    context = multiprocessing.get_context("spawn")
    barrier, orders = context.Barrier(workers + 1), [context.Queue() for _ in range(workers)]
    processes = [context.Process(target=worker, args=(judge_s, barrier, queue), daemon=True) for queue in orders]
    for process in processes:
        process.start()
    searched = Searched(20)
    uniforms = len(searched.space.uniforms())

    def judge(config: BitConfig, hopeless: Hopeless) -> Judgement:
        return Judgement({"top1": searched.top1(config)}, n=2000)

    rates: dict[str, list[float]] = {"shared": [], "independent": []}
    for number in range(rounds):
        for kind, found in rates.items():
            for index, queue in enumerate(orders):
                folder = root / f"{number}-{kind}" / ("" if kind == "shared" else str(index))
                if not folder.exists():  # uniform configurations, which take no choosing, are judged before
                    folder.mkdir(parents=True)
                    searched.search(folder, judge, uniforms, number)
                queue.put((folder, uniforms + trials * (workers if kind == "shared" else 1), number))
            barrier.wait()
            start = time.perf_counter()
            barrier.wait()
            found.append(workers * trials / (time.perf_counter() - start))
    for queue in orders:
        queue.put(None)
    for process in processes:
        process.join()
    return {kind: np.array(found) for kind, found in rates.items()}


def asking(asks: int, folder: Path) -> Rounds:
    """Seconds between candidates of a study that holds 1,000 trials."""
    searched = Searched(50)
    folder.mkdir()
    definition = search_definition(searched.space, OBJECTIVES, [], 0)
    study = open_study(open_storage(None, folder), "hwsearch", OBJECTIVES, definition)
    rng, parameters = np.random.default_rng(0), distributions(searched.space)
    chosen = [encode(searched.space, config) for config in searched.space.uniforms()]
    while len(chosen) < TRIALS:  # about one width each, so that the front has many members
        lowest = rng.integers(0, 6)
        chosen.append(
            {name: int(index) for name, index in zip(parameters, rng.integers(lowest, 7, len(parameters)), strict=True)}
        )
    for indices in chosen:
        config = config_of(searched.space, indices)
        measures = {"top1": searched.top1(config), **searched.price(config)}
        told: dict[str, Any] = {"values": [measures[name] for name in OBJECTIVES]}
        told["user_attrs"] = {"measures": measures, "n": 2000}
        study.add_trial(optuna.create_trial(params=indices, distributions=parameters, **told))
    times: list[float] = []
    judged = time.perf_counter()

    def judge(config: BitConfig, hopeless: Hopeless) -> Judgement:
        nonlocal judged
        times.append(time.perf_counter() - judged)
        top1 = searched.top1(config)
        judged = time.perf_counter()
        return Judgement({"top1": top1}, n=2000)

    searched.search(folder, judge, TRIALS + asks, seed=0)
    return np.array(times[1:])  # the first includes reading the journal


def main(
    quick: Annotated[bool, typer.Option("--quick", help="One round of a few trials.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write the figures, as JSON.")] = None,
    workers: Annotated[int, typer.Option(help="Processes on one study, and independent ones.")] = 2,
    judge_s: Annotated[float, typer.Option(help="Work per candidate, in seconds on an idle machine.")] = 0.2,
) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        times = asking(10 if quick else 100, root / "asking")
        rates = shared_and_independent(workers, 10 if quick else 50, 2 if quick else 5, judge_s, root)
    seconds = {"asking_s": np.median(times), "asking_s_90th_percentile": np.percentile(times, 90)}
    print_table("", ("time", "seconds"), ((name, f"{value:.3f}") for name, value in seconds.items()))
    ratio = rates["shared"] / rates["independent"]
    print_ratios({"shared_vs_independent": ratio})
    CONSOLE.print(
        f"trials per second of {workers} workers: " + ", ".join(f"{k} {np.median(v):.2f}" for k, v in rates.items())
    )
    if out:
        figures = {"shared_vs_independent": float(np.median(ratio)), **seconds}
        out.write_text(json.dumps({name: round(float(value), 4) for name, value in figures.items()}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
