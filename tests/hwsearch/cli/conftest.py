import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwsearch.cli import app

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
SMALL = ["space.weight_bits=[4,8]", "space.activation_bits=[8]", "n_trials=6"]
"""A search of seconds: two widths, the digits' network."""

QUICK = [
    "hardware.procedure={rounds: 1, samples: 2, sample_s: 2e-4}",
    "hardware.search_s=0.01",
    "hardware.tiles=1",
]
"""Measurements of no use, in little time."""


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def hwsearch(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    """Run a command in this process: ``hwsearch("search", "seed=1")``."""

    def run(command: str, *args: object) -> Result:
        own = [f"cache_dir={tmp_path / 'cache'}"] if command in ("search", "evaluate") and "--help" not in args else []
        argv = sys.argv
        status = 0
        try:
            app([command, *map(str, args), *own], standalone_mode=False)
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            sys.argv = argv
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def hwsearch_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as users do, in a process of its own."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hwsearch", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    return run


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the pretrained networks and images in {SHARED}")
    return SHARED
