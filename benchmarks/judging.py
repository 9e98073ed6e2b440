"""Judging candidates: the integer engine against fake quantization, prefix reuse, racing.

    python benchmarks/judging.py [--quick] [--out FILE.json] [--data FOLDER] [--part engine --part reuse --part racing]

CIFAR ResNet-20 with trained weights and test images in FOLDER, on one thread. Engines take turns at the same
candidates; ratios are formed within a round. ``engine``: candidates per second, of random widths. ``reuse``: every
layer at each of 7 widths, the others at 8 bits, with the memory of ``conf/config.yaml`` and without. ``racing``: what a
TPE search judged on all images is judged again, in the same order, on growing parts, by the rules there.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from plain import PlainResNet20
from report import CONSOLE, print_machine, print_ratios, print_table, write_ratios
from searching import composed
from timing import Rounds, with_range

import hwsearch
from cost_models import BitConfig, Precision
from hwsearch.data import Batch, Preprocess
from hwsearch.evaluate import Engine, FakeQuantNetwork
from hwsearch.graph import Network
from hwsearch.judging import SplitJudge, growing_parts
from hwsearch.lowering.engine import IntegerEngine
from hwsearch.networks import CifarResNet, load_checkpoint
from hwsearch.quantize import ActivationRanges, LayerDatabase
from hwsearch.search import Judge, Key, canonical, judged_configs, never, search_precisions, trials_table

DEVICE = Path(__file__).parents[1] / "conf" / "hardware" / "bitfusion_isca_2018.yaml"
DATA = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
PREPROCESS = Preprocess(shape=(3, 32, 32), divisor=255.0, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
WIDTHS = tuple(range(2, 9))
BATCH = 250
OBJECTIVES = ("top1", "size_bytes")


class Part(StrEnum):
    """What is measured."""

    ENGINE = "engine"
    REUSE = "reuse"
    RACING = "racing"


LEAST_ALIKE = 0.95
"""Images that engines must classify alike: they differ by ties of rounding, which networks of 2 or 3 bits amplify."""


@dataclass(frozen=True)
class Size:
    """How much is judged.

    Attributes:
        images: Of ``engine`` and ``racing``.
        swept_images: Of ``reuse``.
        rounds: Candidates of ``engine``, passes of ``reuse``, seeds of ``racing``.
        trials: Candidates of ``racing``.
    """

    images: int = 2000
    swept_images: int = 1000
    rounds: int = 5
    trials: int = 100


QUICK = Size(images=500, swept_images=250, rounds=1, trials=25)


@dataclass(frozen=True)
class Task:
    """The network, quantized, and images to judge it on."""

    network: Network
    database: LayerDatabase
    ranges: ActivationRanges
    images: np.ndarray
    labels: np.ndarray
    cache_dir: Path

    @classmethod
    def load(cls, data: Path, images: int, cache_dir: Path) -> "Task":
        """Quantize the trained network."""
        with np.load(data / "cifar10_calib2048.npz") as arrays:
            calibration = PREPROCESS(arrays["images"][:256])
        with np.load(data / "cifar10_test.npz") as arrays:
            chosen, labels = arrays["images"][:images], arrays["labels"][:images].astype(np.int64)
        network = hwsearch.capture(load_checkpoint(CifarResNet(20), data / "resnet20.pth").eval(), calibration)
        database = hwsearch.build_database(network, hwsearch.mse_grid)
        ranges = hwsearch.calibrate(network, [calibration], hwsearch.mse)
        return cls(network, database, ranges, chosen, labels, cache_dir)

    def batches(self, indices: slice | np.ndarray = slice(None)) -> list[Batch]:
        return list(hwsearch.Batches(self.images[indices], self.labels[indices], PREPROCESS, BATCH).parts())

    def integer(self, reuse_bytes: int = 0) -> IntegerEngine:
        arguments = self.network, self.database, self.ranges
        return IntegerEngine(*arguments, cache_dir=self.cache_dir, batch_size=BATCH, reuse_bytes=reuse_bytes)

    def fake(self) -> FakeQuantNetwork:
        return FakeQuantNetwork(self.network, self.database, self.ranges)


def engine_rounds(task: Task, rounds: int) -> dict[str, Rounds]:
    """Seconds per candidate of each engine in each round; every round has another candidate."""
    rng = np.random.default_rng(0)
    integer, fake = task.integer(), task.fake()
    inputs = [batch.inputs.contiguous() for batch in task.batches()]
    times: dict[str, list[float]] = {"integer engine": [], "FakeQuantNetwork": [], "plain torch": []}
    for _ in range(rounds):
        config = {layer.name: Precision(*rng.integers([2, 3], 9).tolist()) for layer in task.network.layers}

        def configured(engine: Engine, config: BitConfig = config) -> Callable[[torch.Tensor], torch.Tensor]:
            engine.configure(config)
            return engine

        judges: Mapping[str, Callable[[], Callable[[torch.Tensor], torch.Tensor]]] = {
            "integer engine": lambda: configured(integer),
            "FakeQuantNetwork": lambda: configured(fake),
            "plain torch": lambda c=config: PlainResNet20(task.network, task.database, task.ranges, c),
        }
        found = {}
        for name, judge in judges.items():
            start = time.perf_counter()
            run = judge()
            found[name] = torch.cat([run(x).argmax(1) for x in inputs])
            times[name].append(time.perf_counter() - start)
        alike = min(float((found["integer engine"] == classes).double().mean()) for classes in found.values())
        assert alike > LEAST_ALIKE, f"engines classify only {alike:.2%} of the images alike"
    return {name: np.array(seconds) for name, seconds in times.items()}


def reuse_rounds(task: Task, images: int, rounds: int) -> dict[str, Rounds]:
    """Seconds of a sweep with and without reuse in each round."""
    eight = {layer.name: Precision(8, 8) for layer in task.network.layers}
    configs = [{**eight, name: Precision(bits, 8)} for name in eight for bits in WIDTHS]
    times: dict[str, list[float]] = {"with reuse": [], "without": []}
    bounds = {"with reuse": composed().reuse_bytes, "without": 0}
    for _ in range(rounds):
        found = []
        for way, reuse_bytes in bounds.items():
            engine, batches = task.integer(reuse_bytes), task.batches(slice(images))
            start = time.perf_counter()
            logits = []
            for config in configs:
                engine.configure(config)
                logits.append(torch.cat([engine.logits(batch) for batch in batches]))
            times[way].append(time.perf_counter() - start)
            found.append(torch.stack(logits))
        assert torch.equal(*found)
    return {name: np.array(seconds) for name, seconds in times.items()}


@dataclass(frozen=True)
class Again:
    """Proposes given candidates in their order."""

    configs: Mapping[Key, BitConfig]

    def propose(self, judged: Mapping[Key, Mapping[str, float]], pending: Collection[Key]) -> BitConfig | None:
        """The first that was not judged."""
        return next((config for key, config in self.configs.items() if key not in judged), None)


class Remembering:
    """An engine that runs each candidate once: the race is judged by what it takes, not by how long."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[Key, Batch], torch.Tensor] = {}

    def configure(self, config: BitConfig) -> None:
        """Set every layer's precision."""
        self._config = config

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of any inputs."""
        self._engine.configure(self._config)
        return self._engine(x)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits of a batch."""
        key = canonical(self._config), batch
        if key not in self._known:
            self._engine.configure(self._config)
            self._known[key] = self._engine.logits(batch)
        return self._known[key]


@dataclass(frozen=True)
class Race:
    """What judging the same candidates took: images, and the front's hypervolume."""

    images: int
    hypervolume: float


def race(task: Task, trials: int, seed: int) -> tuple[Race, Race]:
    """Judge candidates on all images, then again with racing."""
    device = hwsearch.load_device(DEVICE)
    space = hwsearch.build_space(task.network.layers, device)
    price = hwsearch.pricing(hwsearch.cost_table(task.network.layers, device), task.network.spec, device)
    config = composed()
    engine = Remembering(task.integer(config.reuse_bytes))
    parts = [task.batches(part) for part in growing_parts(task.labels, seed)]
    rules = config.racing
    assert rules
    whole, racing = (
        SplitJudge(engine, FakeQuantNetwork(task.network, {}, {}), parts, deviations=rules.deviations) for _ in range(2)
    )
    eight = {layer.name: Precision(8, 8) for layer in task.network.layers}
    reference = hwsearch.reference_point(100 * whole.float_correct / whole.n, price(eight))

    def search(judge: Judge, again: Again | None = None) -> tuple[Race, dict[Key, BitConfig]]:
        study = search_precisions(
            space,
            price,
            judge,
            objectives=OBJECTIVES,
            reference_point=reference,
            proposer=again,
            n_trials=trials,
            seed=seed,
            least_gain=rules.least_gain,
        )
        table = trials_table(study, space)
        complete = table[table["state"] == "complete"]
        images = sum(trial.user_attrs.get("n", 0) for trial in study.get_trials(deepcopy=False))
        configs = {canonical(config): config for config in judged_configs(study, space).values()}
        return Race(images, hwsearch.hypervolume(complete, OBJECTIVES, reference)), configs

    first, configs = search(lambda config, hopeless: whole(config, never))
    return first, search(racing, Again(configs))[0]


def main(
    quick: Annotated[bool, typer.Option(help="Fewer images, rounds and candidates.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of resnet20.pth and the images.")] = DATA,
    part: Annotated[list[Part] | None, typer.Option(help="What to measure; default: all.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Of racing; default: 0 to 4.")] = None,
) -> None:
    """Print candidates per second, and ratios."""
    torch.set_num_threads(1)
    print_machine()
    size, parts = QUICK if quick else Size(), part or list(Part)
    ratios: dict[str, Rounds] = {}
    with tempfile.TemporaryDirectory() as folder:
        task = Task.load(data, size.images, Path(folder))
        start = time.perf_counter()
        task.integer()
        compiled_s = time.perf_counter() - start
        start = time.perf_counter()
        task.integer()
        CONSOLE.print(f"engine compiled in {compiled_s:.1f} s, started again in {time.perf_counter() - start:.2f} s")
        if Part.ENGINE in parts:
            times = engine_rounds(task, size.rounds)
            rows = [(name, with_range(1 / seconds)) for name, seconds in times.items()]
            print_table(f"{size.images} images", ("engine", "candidates per second"), rows)
            ratios["integer_engine_vs_fake_quantization"] = times["plain torch"] / times["integer engine"]
            ratios["integer_engine_vs_fake_quant_network"] = times["FakeQuantNetwork"] / times["integer engine"]
        if Part.REUSE in parts:
            times = reuse_rounds(task, size.swept_images, size.rounds)
            ratios["sensitivity_with_reuse"] = times["without"] / times["with reuse"]
        if Part.RACING in parts:
            races = [race(task, size.trials, number) for number in seed or range(size.rounds)]
            ratios["images_judged_racing"] = np.array([whole.images / raced.images for whole, raced in races])
            ratios["hypervolume_racing"] = np.array([raced.hypervolume / whole.hypervolume for whole, raced in races])
    print_ratios(ratios)
    if out:
        write_ratios(ratios, out)


if __name__ == "__main__":
    typer.run(main)
