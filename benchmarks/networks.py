"""Whole networks at batch 1: hwsearch's compiled integer networks against onnxruntime quantized and torch float.

    python benchmarks/networks.py [--quick] [--out FILE.json]

Needs the extra ``bench``. Weights are random; engines take turns in one process, called from Python, each from float
images to logits. A ratio above 1 means that hwsearch is faster. Then the cost model, which begins at stored integers:
the sum of layers against the whole network, measured in the same rounds, and the order in which it puts configurations
against the order of their measured latencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Self

import numpy as np
import ours
import peers
import torch
import typer
from layers import identifier, network
from report import microseconds, print_machine, print_ratios, print_table, write_ratios
from scipy.stats import spearmanr
from timing import QUICK, Engine, Procedure, Rounds, time_together, with_range
from torch import Tensor

import hwsearch
from cost_models import BitConfig, Precision
from hwsearch.graph import Network
from hwsearch.lowering import lower
from hwsearch.progress import track
from hwsearch.quantize import ActivationRanges, LayerDatabase, QuantizedWeight

NAMES = ("ResNet-20", "ResNet-18", "MobileNetV2")
OURS, FLOAT = "hwsearch", "torch float"
FORMATS = ("QDQ", "QOperator")
W8A8 = Precision(8, 8)

RANKED = "ResNet-18"
"""The network whose configurations are put in order."""

WIDE = tuple(Precision(bits, 8) for bits in (8, 4, 2))
NARROW = tuple(Precision(*bits) for bits in ((1, 1), (1, 2), (2, 2)))
CONFIGURATIONS = 20
DRAWN = 1000
"""Random configurations, of which those are taken whose predicted latencies are evenly spread."""


@dataclass(frozen=True)
class Quantized:
    """A network with its integer weights and activation grids."""

    network: Network
    database: LayerDatabase
    ranges: ActivationRanges

    @classmethod
    def of(cls, name: str, precisions: Sequence[Precision]) -> Self:
        """A network of random weights that runs at any of ``precisions`` in each layer."""
        module, image = network(name)
        captured = hwsearch.capture(module, image)
        weight_bits = {precision.weight_bits for precision in precisions}
        database = hwsearch.build_database(captured, hwsearch.minmax, bits=sorted(weight_bits - {1}))
        if 1 in weight_bits:
            database |= {(name, 1, "uniform"): signs(captured.weight(name)) for name in captured.nodes}
        activation_bits = sorted({8} | {precision.activation_bits for precision in precisions})
        ranges = hwsearch.calibrate(captured, [image], hwsearch.minmax, bits=activation_bits)
        return cls(captured, database, ranges)

    def uniform(self, precision: Precision) -> BitConfig:
        """The same precision in every layer."""
        return {layer.name: precision for layer in self.network.layers}

    def engine(self, config: BitConfig) -> Engine:
        """The compiled integer network."""
        return ours.network_engine(lower(self.network, config, self.database, self.ranges))

    def engine_of_floats(self, config: BitConfig) -> Engine:
        """The same with the quantization of its input."""
        return ours.network_engine_of_floats(lower(self.network, config, self.database, self.ranges))

    def predicted_s(self, config: BitConfig) -> float:
        """Sum of measured layers and other operators."""
        return ours.predicted_s(self.network.spec, config)

    def sum_and_whole_s(self, config: BitConfig) -> tuple[float, float]:
        """The same measured in one run with the compiled network, which comes second."""
        return ours.sum_and_whole_s(self.network.spec, config, lower(self.network, config, self.database, self.ranges))


def main(
    quick: Annotated[bool, typer.Option(help="One network, fewer rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the ratios as JSON.")] = None,
) -> None:
    """Print the time of every network, and the ratios."""
    print_machine()
    with torch.inference_mode():
        ratios = against_peers(NAMES[:1], QUICK) if quick else against_peers(NAMES, Procedure()) | order(Procedure())
    print_ratios(ratios)
    if out:
        write_ratios(ratios, out)


def against_peers(names: Sequence[str], procedure: Procedure) -> dict[str, Rounds]:
    """W8A8 against onnxruntime's better form and torch, and against the sum of its layers; the ratios by name."""
    times, predicted, measured = {}, {}, {}
    for name in track(names, "W8A8"):
        quantized = Quantized.of(name, [W8A8])
        config = quantized.uniform(W8A8)
        times[name] = time_together({OURS: quantized.engine_of_floats(config), **peer_engines(name)}, procedure)
        predicted[name], measured[name] = quantized.sum_and_whole_s(config)
    theirs = {name: np.minimum(*(t[quantization] for quantization in FORMATS)) for name, t in times.items()}
    print_table(
        "W8A8, batch 1, us",
        [
            "network",
            OURS,
            "from integers",
            "sum of its layers",
            *(f"onnxruntime {quantization}" for quantization in FORMATS),
            FLOAT,
            "onnxruntime / hwsearch",
        ],
        (
            [
                name,
                microseconds(t[OURS]),
                f"{measured[name] * 1e6:.1f}",
                f"{predicted[name] * 1e6:.1f} ({predicted[name] / measured[name] - 1:+.1%})",
                *(microseconds(t[engine]) for engine in (*FORMATS, FLOAT)),
                with_range(theirs[name] / t[OURS]),
            ]
            for name, t in times.items()
        ),
    )
    return {
        f"{identifier(name)}_{key}": ratio
        for name, t in times.items()
        for key, ratio in {
            "vs_onnxruntime_int8": theirs[name] / t[OURS],
            "vs_torch_float": t[FLOAT] / t[OURS],
            "sum_of_layers_vs_network": np.array([predicted[name] / measured[name]]),
        }.items()
    }


def peer_engines(name: str) -> dict[str, Engine]:
    """Whom a network is compared with."""
    module, image = network(name)
    found: dict[str, Engine] = {}
    for quantization in FORMATS:
        with TemporaryDirectory() as folder:
            found[quantization] = peers.quantized_network(module, image, quantization, Path(folder))
    return {**found, FLOAT: peers.float_network(module, image)}


def order(procedure: Procedure) -> dict[str, Rounds]:
    """Rank correlation of predicted and measured latency, beside that of two measurements."""
    quantized = Quantized.of(RANKED, (*WIDE, *NARROW))
    drawn = configurations([layer.name for layer in quantized.network.layers])
    predicted = np.array([quantized.predicted_s(config) for config in drawn])
    chosen = evenly(predicted)
    engines = {str(i): quantized.engine(drawn[i]) for i in track(chosen, "compiling")}
    first, second = (
        {int(i): float(np.median(seconds)) for i, seconds in time_together(engines, procedure).items()}
        for _ in track(range(2), "measuring")
    )
    print_table(
        f"{RANKED}: {len(chosen)} configurations, us",
        ["layers below 8 bits in both", "predicted", "measured", "again", "predicted / measured"],
        (
            [
                str(sum(precision in NARROW for precision in drawn[i].values())),
                *(f"{seconds * 1e6:.0f}" for seconds in (predicted[i], first[i], second[i])),
                f"{predicted[i] / first[i]:.3f}",
            ]
            for i in chosen
        ),
    )
    return {
        "spearman_predicted_measured": _spearman(predicted[chosen], list(first.values())),
        "spearman_of_two_measurements": _spearman(list(first.values()), list(second.values())),
    }


def configurations(layers: Sequence[str]) -> list[BitConfig]:
    """Random configurations, from all wide to all narrow."""
    generator = np.random.default_rng(0)
    found: list[BitConfig] = []
    for share in np.linspace(0, 1, DRAWN):
        narrow = generator.random(len(layers)) < share
        menus = [NARROW if is_narrow else WIDE for is_narrow in narrow]
        found.append({name: menu[generator.integers(len(menu))] for name, menu in zip(layers, menus, strict=True)})
    return found


def evenly(values: Sequence[float]) -> list[int]:
    """Positions of values that are spread evenly over their range, smallest first."""
    targets = np.linspace(min(values), max(values), CONFIGURATIONS)
    return list(dict.fromkeys(int(np.argmin(np.abs(np.asarray(values) - target))) for target in targets))


def signs(weight: Tensor) -> QuantizedWeight:
    """One-bit weights: Rastegari et al. 2016, arXiv:1603.05279, eq. 6."""
    codes = torch.where(weight >= 0, 1, -1).to(torch.int8)
    return QuantizedWeight(codes, weight.abs().flatten(1).mean(1))


def _spearman(a: Sequence[float], b: Sequence[float]) -> Rounds:
    return np.array([spearmanr(a, b).statistic])


if __name__ == "__main__":
    typer.run(main)
