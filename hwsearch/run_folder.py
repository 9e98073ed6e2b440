"""Files of a run folder; ``runs/README.md`` is their contract."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cost_models import LayerSpec

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


def write_csv(table: pd.DataFrame, path: Path, *, index: bool = False) -> None:
    """Write a table whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    table.to_csv(temporary, index=index)
    temporary.replace(path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON whole or not at all; NaN becomes null."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)


def write_yaml(content: Mapping[str, Any], path: Path) -> None:
    """Write YAML whole or not at all, keys in their order."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    temporary.replace(path)


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
