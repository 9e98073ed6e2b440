"""What a benchmark prints and writes."""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import Rounds, with_range

from cost_models.tvm.target import host_cpu_model

PACKAGES = ("apache-tvm", "onnxruntime", "torch")

CONSOLE = Console(width=None if Console().is_terminal else 140)


def print_machine() -> None:
    """CPU, versions, threads."""
    CONSOLE.print(f"{host_cpu_model()}; {', '.join(f'{name} {version(name)}' for name in PACKAGES)}; 1 thread")


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Numbers to the right, the first column to the left."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    CONSOLE.print(table)


def print_ratios(ratios: Mapping[str, Rounds]) -> None:
    """Median over rounds and the range of each."""
    print_table("", ("ratio", "median (range over rounds)"), ((name, with_range(r)) for name, r in ratios.items()))


def write_ratios(ratios: Mapping[str, Rounds], out: Path) -> None:
    """Medians as JSON."""
    medians = {name: round(float(np.median(ratio)), 4) for name, ratio in ratios.items()}
    out.write_text(json.dumps(medians, indent=2) + "\n")


def microseconds(seconds: Rounds) -> str:
    """Median over rounds."""
    return f"{np.median(seconds) * 1e6:.1f}"
