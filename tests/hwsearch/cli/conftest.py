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
    "hardware.weight_bits=[4,8]",
    "hardware.activation_bits=[8]",
]
"""Measurements of no use, in little time."""

TINY = """
name: tiny
network:
  _target_: torch.nn.Sequential
  _args_:
    - {_target_: torch.nn.Conv2d, in_channels: 1, out_channels: 8, kernel_size: 3, padding: 1}
    - {_target_: torch.nn.ReLU}
    - {_target_: torch.nn.Flatten}
    - {_target_: torch.nn.Linear, in_features: 512, out_features: 10}
checkpoint: random
checkpoint_sha256: null
input: {_target_: hwsearch.data.Preprocess, shape: [1, 8, 8], divisor: 16.0}
"""
"""A network on the digits that compiles in a second."""


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
        status = status_of(command, *args, *own)
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return run


def status_of(*args: object) -> int:
    """Run a command in this process."""
    argv = sys.argv
    try:
        app([*map(str, args)], standalone_mode=False)
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


@pytest.fixture
def hwsearch_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as users do, in a process of its own."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hwsearch", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that choose the network ``TINY``."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "model").mkdir()
    (folder / "model" / "tiny.yaml").write_text(TINY)
    return ["--config-dir", str(folder), "model=tiny"]


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the pretrained networks and images in {SHARED}")
    return SHARED
