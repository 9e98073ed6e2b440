"""A small network by its shapes, real devices, and an accuracy in closed form that counts how often it is asked."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp
from pathlib import Path

import pandas as pd
import pytest

from cost_models import BitConfig, CostModel, LayerSpec, NetworkSpec, load_device
from hwsearch.costs import cost_table, pricing
from hwsearch.search import Hopeless, Judgement, SearchSpace, build_space, canonical
from hwsearch.sensitivity_table import COLUMNS

CONF = Path(__file__).parents[3] / "conf"
HARDWARE = CONF / "hardware"
SAMPLERS = [path for path in sorted((CONF / "sampler").glob("*.yaml")) if "proposer" not in path.read_text()]
"""Optuna's samplers on their own."""
LAYERS = (
    LayerSpec("conv1", "conv2d", 3, 16, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8)),
    LayerSpec("block.conv", "conv2d", 16, 32, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8)),
    LayerSpec("fc", "linear", 32, 10),
)
SENSITIVITY = {"conv1": 4.0, "block.conv": 1.0, "fc": 2.0}
"""How much a layer's quantization noise lowers the accuracy."""


class Judge:
    """Judges candidates; ``interrupt_at`` is the call, from 1, that a user interrupts."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.calls: Counter[object] = Counter()
        self.interrupt_at = interrupt_at

    def __call__(self, config: BitConfig, hopeless: Hopeless) -> Judgement:
        self.calls[canonical(config)] += 1
        if self.calls.total() == self.interrupt_at:
            raise KeyboardInterrupt
        return Judgement({"top1": self.top1(config)}, n=1000)

    @staticmethod
    def top1(config: BitConfig) -> float:
        """Percent; the noise power of a b-bit uniform quantizer is proportional to 4**-b."""
        noise = sum(SENSITIVITY[name] * (4.0**-p.weight_bits + 4.0**-p.activation_bits) for name, p in config.items())
        return 100 * exp(-noise)


@dataclass(frozen=True)
class Problem:
    """What a search needs beside its judge."""

    device: CostModel
    space: SearchSpace
    price: Callable[[BitConfig], Mapping[str, float]]


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def new_judge() -> type[Judge]:
    return Judge


@pytest.fixture(scope="session")
def layers() -> tuple[LayerSpec, ...]:
    return LAYERS


@pytest.fixture(scope="session")
def sensitivities() -> pd.DataFrame:
    """The noise that :meth:`Judge.top1` counts, at every width."""
    rows = [
        (layer, operand, bits, weight_format, sensitivity * 4.0**-bits)
        for layer, sensitivity in SENSITIVITY.items()
        for operand, weight_format in (("weights", "uniform"), ("activations", ""))
        for bits in range(2, 9)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="session")
def hardware() -> Path:
    return HARDWARE


@pytest.fixture(scope="session")
def bit_fusion() -> CostModel:
    return load_device(HARDWARE / "bitfusion_isca_2018.yaml")


@pytest.fixture(scope="session")
def t4() -> CostModel:
    return load_device(HARDWARE / "t4_roofline.yaml")


@pytest.fixture(scope="session")
def small(bit_fusion: CostModel) -> Problem:
    """Three layers at W{2,4,8}A{4,8}: 216 configurations, five of them uniform."""
    costs = cost_table(LAYERS, bit_fusion)
    space = build_space(LAYERS, bit_fusion, weight_bits=[2, 4, 8], activation_bits=[4, 8])
    return Problem(bit_fusion, space, pricing(costs, NetworkSpec.chain(LAYERS), bit_fusion))


@pytest.fixture(scope="session")
def tiny(t4: CostModel) -> Problem:
    """Three layers at W4A4 or W8A8: eight configurations, two of them uniform."""
    return Problem(t4, build_space(LAYERS, t4), pricing(cost_table(LAYERS, t4), NetworkSpec.chain(LAYERS), t4))
