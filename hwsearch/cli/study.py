"""``hwsearch study``."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hydra import compose
from omegaconf import OmegaConf
from rich.console import Console

from cost_models import FLOAT_BITS, Precision
from hwsearch.cli.evaluate import check_widths, pinned
from hwsearch.cli.schema import ModelConfig, QuantizerConfig, StudyConfig, TaskConfig
from hwsearch.cli.setup import Task, activation_ranges, check_quantizer, equalized, layer_database, load_float
from hwsearch.evaluate import FakeQuantNetwork, accuracy
from hwsearch.pareto import wilson_interval
from hwsearch.run_folder import write_csv, write_json, write_yaml
from hwsearch.study import markdown, render, study_table

RESULTS, FINGERPRINTS = "study.csv", "fingerprints.json"

PLACES = {"run_dir", "cache_dir", "device"}
"""What may change when a study goes on."""


@dataclass(frozen=True)
class _Row:
    """One network under one quantizer."""

    model: ModelConfig
    quantizer: QuantizerConfig

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model.name, self.quantizer.name, self.quantizer.granularity


def _task_config(config: StudyConfig, row: _Row) -> TaskConfig:
    shared = config.model_dump(include={"data", "space", "device", "run_dir", "cache_dir"})
    return TaskConfig(model=row.model, quantizer=row.quantizer, **shared)


def study_command(config: StudyConfig, run_dir: Path) -> None:
    """Judge every network under every quantizer at every precision; print one table and write it."""
    precisions = [Precision.parse(text) for text in config.precisions]
    check_widths("precisions", precisions)
    check_widths("space.pinned", config.space.pins().values())
    rows = list(_rows(config))
    _check_distinct(rows, config.precisions)
    _check_folder(config, run_dir)
    path = run_dir / RESULTS
    results: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["model"], row["quantizer"], row["granularity"]) for row in results}
    for model, same in groupby((row for row in rows if row.key not in done), lambda row: row.model):
        task = None
        for row in same:
            own = _task_config(config, row)
            if task is None:
                task = load_float(own)
                _check_unchanged(run_dir, model.name, task)
            floats = {result["model"]: result["float"] for result in results}
            results += _judge(own, equalized(task, row.quantizer), precisions, floats.get(model.name))
            write_csv(pd.DataFrame(results), path)
    table = study_table(pd.DataFrame(results))
    (run_dir / "study.md").write_text(markdown(table), encoding="utf-8")
    console = Console()
    console.print(render(table, f"Top-1 in percent on {results[0]['n']:,} images of {config.data.name}"))
    console.print(f"{path} and study.md", highlight=False, soft_wrap=True)


def _rows(config: StudyConfig) -> Iterator[_Row]:
    """Every network under every quantizer, composed and checked before any work."""
    models = [_model(text) for text in config.models]
    quantizers = [QuantizerConfig.model_validate(_choice("quantizer", name)) for name in config.quantizers]
    for quantizer in quantizers:
        check_quantizer(quantizer)
    for model in models:
        for quantizer in quantizers:
            for granularity in config.granularities or [quantizer.granularity]:
                yield _Row(model, quantizer.model_copy(update={"granularity": granularity}))


def _check_distinct(rows: list[_Row], precisions: list[str]) -> None:
    """Refuse two rows or columns of one name: a table could not tell them apart."""
    for names in ([", ".join(row.key) for row in rows], precisions):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"The study names '{repeated[0]}' more than once; its table could not tell them apart.")


def _model(text: str) -> ModelConfig:
    name, _, checkpoint = text.partition(":")
    content = _choice("model", name)
    if checkpoint:
        content |= {"checkpoint": checkpoint, "checkpoint_sha256": None}
    if content["checkpoint"] == "???":
        raise ValueError(f"models names '{name}' without its weights; write {name}:FILE (.safetensors or .pth).")
    return ModelConfig.model_validate(content)


def _choice(group: str, name: str) -> dict[str, Any]:
    """A file of a configuration group, as Hydra composes it."""
    content: Any = OmegaConf.to_container(compose(overrides=[f"+{group}={name}"])[group])
    return dict(content)


def _check_folder(config: StudyConfig, run_dir: Path) -> None:
    """Refuse a folder that holds another study; its rows would be mixed with ours."""
    path, content = run_dir / "config.yaml", config.model_dump(exclude=PLACES)
    if path.exists():
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
        differing = [key for key, value in content.items() if held.get(key) != value]
        if differing:
            raise ValueError(
                f"Run folder '{run_dir}' holds a study with {differing[0]}={held.get(differing[0])}, not "
                f"{content[differing[0]]}. Choose another run_dir."
            )
    write_yaml(config.model_dump(), path)


def _check_unchanged(run_dir: Path, model: str, task: Task) -> None:
    """Refuse other weights or images than those of the folder's rows, and note those of a network that is new."""
    path = run_dir / FINGERPRINTS
    found = {
        "weights": task.network.fingerprint,
        "labelled images": task.data.fingerprint,
        "calibration images": task.data.calibration_fingerprint,
    }
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    differing = [what for what, value in held.setdefault(model, found).items() if value != found[what]]
    if differing:
        raise ValueError(
            f"Run folder '{run_dir}' holds a study of '{model}' with other {differing[0]}: their fingerprint is "
            f"{held[model][differing[0]]}, not {found[differing[0]]}. Choose another run_dir."
        )
    write_json(held, path)


def _judge(
    config: TaskConfig, task: Task, precisions: Sequence[Precision], float_top1: float | None
) -> list[dict[str, Any]]:
    """Results of one network under one quantizer; the float network is judged where its accuracy is not known."""
    names = [layer.name for layer in task.network.layers]
    configs = [dict.fromkeys(names, precision) | pinned(config.space, names) for precision in precisions]
    used = [precision for chosen in configs for precision in chosen.values()]
    database = layer_database(config, task, used)
    integer = any(precision.activation_bits < FLOAT_BITS for precision in used)
    judge = FakeQuantNetwork(task.network, database, activation_ranges(config, task) if integer else {}, config.device)
    row = {
        "model": config.model.name,
        "float": accuracy(judge, task.batches(), f"{config.model.name}, float").top1
        if float_top1 is None
        else float_top1,
        "quantizer": config.quantizer.name,
        "granularity": config.quantizer.granularity,
    }
    results = []
    for precision, chosen in zip(precisions, configs, strict=True):
        judge.configure(chosen)
        found = accuracy(judge, task.batches(), f"{config.model.name}, {config.quantizer.name}, {precision}")
        low, high = wilson_interval(found.correct, found.n)
        judged = {"top1": found.top1, "top1_low": low, "top1_high": high, "correct": found.correct, "n": found.n}
        results.append(row | {"precision": str(precision)} | judged)
    return results
