"""Published figures as layers, networks and measurements."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from cost_models import LayerSpec, NetworkSpec, Precision
from hwsearch.graph import capture

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT.parent / "shared" / "fixtures"


def fixture(name: str) -> Path:
    """A file of published figures; the test is skipped where it is not."""
    if not (FIXTURES / name).exists():
        pytest.skip(f"needs {FIXTURES / name}")
    return FIXTURES / name


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(fixture(name), comment="#")


def device_file(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "hardware" / f"{name}.yaml").read_text())
    return content


@cache
def spec(build: type[nn.Module], *arguments: Any, shape: tuple[int, ...]) -> NetworkSpec:
    return capture(build(*arguments), torch.zeros(1, *shape)).spec


def uniform(network: NetworkSpec, bits: int) -> dict[str, Precision]:
    return {layer.name: Precision(bits, bits) for layer in network.layers}


def perceptron(widths: Sequence[int]) -> NetworkSpec:
    """Linear layers from one width to the next."""
    return NetworkSpec.chain([LayerSpec(f"fc{i}", "linear", *pair) for i, pair in enumerate(pairwise(widths))])
