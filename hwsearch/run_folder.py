"""Files of a run folder; ``runs/README.md`` is their contract."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cost_models import LayerSpec
from hwsearch.compare import SCHEMA
from hwsearch.figures import pareto_figure, progress_figure
from hwsearch.pareto import progress_table

PACKAGES = (
    "hwsearch",
    "apache-tvm",
    "apache-tvm-ffi",
    "hydra-core",
    "moocore",
    "numpy",
    "optuna",
    "pandas",
    "torch",
)


def make_run_dir(path: Path) -> Path:
    """Create the folder, or accept one that is there, and make sure that files can be written.

    Raises:
        ValueError: If they can't; it names the folder and the reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"Run folder '{path}' can't be written: {error.strerror}. Choose another run_dir.") from error
    return path


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table whole or not at all."""
    write_text(table.to_csv(index=False), path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON whole or not at all."""
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def write_yaml(content: Mapping[str, Any], path: Path) -> None:
    """Write YAML whole or not at all, keys in their order."""
    write_text(yaml.safe_dump(dict(content), sort_keys=False), path)


def write_text(text: str, path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True)
class RunInfo:
    """What was searched, on what, under which limits: ``run.json``, as ``runs/README.md`` describes it."""

    model: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    calibration: str
    split_seed: int
    n_search: int
    n_test: int
    hardware: str
    cost_source: str
    batch: int
    quantizer: str
    objectives: Sequence[str]
    constraints: Mapping[str, float]
    n_trials: int
    seed: int
    reference_point: Mapping[str, float]
    warnings: Sequence[str]


def write_run(
    folder: Path | str,
    info: RunInfo,
    *,
    trials: pd.DataFrame,
    precisions: pd.DataFrame,
    pareto: pd.DataFrame,
    costs: pd.DataFrame,
) -> Path:
    """Write what ``hwsearch compare`` reads, and the figures; ``run.json`` comes last and marks the folder complete.

    Args:
        folder: The run folder, created if missing.
        info: What was searched.
        trials: From :func:`hwsearch.search.trials_table`.
        precisions: From :func:`hwsearch.search.precisions_table`.
        pareto: From :func:`hwsearch.front.pareto_table`.
        costs: From :func:`hwsearch.costs.cost_table`.

    Raises:
        ValueError: If the folder can't be written.
    """
    folder = make_run_dir(Path(folder))
    write_csv(trials, folder / "trials.csv")
    write_csv(precisions, folder / "precisions.csv")
    write_csv(pareto, folder / "pareto.csv")
    write_csv(costs.reset_index(), folder / "cost_table.csv")
    title = f"{info.model} on {info.hardware}: {(trials['state'] == 'complete').sum()} configurations"
    pareto_figure(trials, pareto, info.objectives, info.reference_point, title).savefig(folder / "pareto.png")
    progress = progress_table(trials, info.objectives, info.reference_point)
    write_csv(progress, folder / "progress.csv")
    progress_figure(progress, info.objectives, info.reference_point, title).savefig(folder / "hypervolume.png")
    write_json({"schema": SCHEMA, **asdict(info)}, folder / "run.json")
    return folder


def layers_table(layers: Sequence[LayerSpec]) -> pd.DataFrame:
    """One row per layer: its shape, sizes as ``HxW``, and counts per image."""
    rows = []
    for layer in layers:
        shape = {
            key: "x".join(map(str, value)) if isinstance(value, tuple) else value
            for key, value in asdict(layer).items()
        }
        name = {"layer": shape.pop("name")}
        counts = {
            "macs": layer.macs,
            "weight_count": layer.weight_count,
            "in_count": layer.in_count,
            "out_count": layer.out_count,
        }
        rows.append(name | shape | counts)
    return pd.DataFrame(rows)


def versions() -> dict[str, str]:
    """Versions of Python, the platform and every package that results may depend on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        **{package: version(package) for package in PACKAGES},
    }
