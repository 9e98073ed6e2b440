"""The digits' network at mixed precisions, ready to be exported."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cost_models import Precision
from cost_models.tvm.target import Target, host
from cost_models.tvm.untuned import untuned
from hwsearch.data import Preprocess, load_digits
from hwsearch.export import Export
from hwsearch.graph import capture
from hwsearch.lowering import lower
from hwsearch.networks import DigitsResNet, load_checkpoint
from hwsearch.quantize import build_database, calibrate, minmax

PREPROCESS = Preprocess(shape=(1, 8, 8), divisor=16.0)


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """Images as stored, ``[N, 8, 8, 1]``."""
    return load_digits(preprocess=PREPROCESS).inputs[:200]


@pytest.fixture(scope="session")
def make(digits: np.ndarray) -> Callable[..., Export]:
    """Exports of the digits' network for a requantization and a target."""
    inputs = PREPROCESS(digits)
    network = capture(load_checkpoint(DigitsResNet(), "hwsearch.networks:digits.safetensors").eval(), inputs[:1])
    database, ranges = build_database(network, minmax), calibrate(network, [inputs], minmax)
    widths = [(8, 8), (4, 6), (3, 8), (2, 5)]
    config = {layer.name: Precision(*widths[i % len(widths)]) for i, layer in enumerate(network.layers)}
    integers = lower(network, config, database, ranges)

    def export(requantization: str = "float32", target: Target | None = None) -> Export:
        target = target or host()
        return Export(integers, requantization, target, untuned(target), PREPROCESS, digits[0])

    return export


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)
