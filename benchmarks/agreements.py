"""How far the shipped devices are from published figures, and the bounds that they keep."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import pandas as pd
import torch
from published import (
    BOARDS,
    bit_fusion_layer,
    device_file,
    edge_tpu_networks,
    haq_layer,
    hawq_networks,
    kernels,
    table,
    tiny,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import hwsearch
from cost_models import Analytic, BitFusion, Precision, bops, load_device
from cost_models.agreement import agreement
from cost_models.bit_fusion_tiling import Counts
from cost_models.calibrate import Measurement, held_out
from hwsearch.networks import InceptionV3, MobileNetV2, ResNet


@dataclass(frozen=True)
class Figure:
    """A figure and what it must lie between."""

    source: str
    name: str
    value: float
    low: float = 0.0
    high: float = inf

    @property
    def holds(self) -> bool:
        """Whether it lies there."""
        return self.low <= self.value <= self.high

    @property
    def bound(self) -> str:
        """In words."""
        if self.low == self.high:
            return f"exactly {self.low:g}"
        return " and ".join([f">= {self.low:g}"] * (self.low > 0) + [f"<= {self.high:g}"] * (self.high < inf))


def figures(*, quick: bool) -> Iterator[Figure]:
    """Every figure that a device file claims a bound for.

    Args:
        quick: Leave out those that take longer than a few seconds.
    """
    yield from bit_fusion()
    yield from haq()
    yield from microcontrollers()
    yield from t4_kernels()
    if not quick:
        yield _held_out("HAWQ-V3 networks, T4", "t4_roofline", hawq_networks(), ["overhead.between_layers_s"], 0.20)
        paths = ["memory[0].bytes_per_s", "overhead.inference_s"]
        yield _held_out("Edge TPU networks", "edgetpu_usb", edge_tpu_networks(), paths, 0.10)
        yield from macs()


def bit_fusion() -> Iterator[Figure]:
    """The simulator's 61 rows, ISCA 2018."""
    source = "Bit Fusion simulator, 61 layers"
    device, rows = load_device(device_file("bitfusion_isca_2018")), table("bitfusion_isca2018_16x32.csv")
    assert isinstance(device, BitFusion)
    counts = [device.counts(*bit_fusion_layer(row.network, row.layer)) for row in rows.itertuples()]
    computed = pd.Series([count.compute_cycles for count in counts])
    yield Figure(source, "rows with other compute cycles", int((computed != rows["compute_cycles"]).sum()), high=0)
    names = [name for name in rows if name.endswith(("_bits", "compute_cycles"))]
    given = device.cycles(Counts(**{name: rows[name] for name in names}))
    yield Figure(source, "cycles from given traffic, MAPE", _mape(given, rows["total_cycles"]), high=0.02)
    networks = rows.assign(modelled=given).groupby("network")[["modelled", "total_cycles"]].sum()
    worst = float((networks["modelled"] / networks["total_cycles"] - 1).abs().max())
    yield Figure(source, "worst network total from given traffic", worst, high=0.005)
    own = [device.cycles(count) for count in counts]
    yield Figure(source, "cycles with the model's own tiling, MAPE", _mape(own, rows["total_cycles"]), high=0.10)


def haq() -> Iterator[Figure]:
    """HAQ's look-up table, CVPR 2019."""
    source = "HAQ's table, MobileNetV2"
    device = load_device(device_file("haq_cvpr_2019"))
    assert isinstance(device, Analytic) and device.clock_hz is not None
    cells = table("haq_mobilenetv2_latency.csv").sort_values(["layer", "weight_bits", "activation_bits"])
    layers = [haq_layer(row) for row in cells.itertuples()]
    widths = [Precision(row.weight_bits, row.activation_bits) for row in cells.itertuples()]
    pairs = list(zip(layers, widths, strict=True))
    columns = {
        "cycles": cells["cycles"].to_numpy(),
        "modelled": np.array([device.layer_cost(*pair).latency_s * device.clock_hz * device.batch for pair in pairs]),
        "bops": np.array([bops(*pair) for pair in pairs]),
    }
    found = agreement(columns["modelled"], columns["cycles"])
    yield Figure(source, "3,392 cells, MAPE", found["mape"], high=0.08)
    yield Figure(source, "3,392 cells, Spearman", found["spearman"], low=0.99)
    policies = np.random.default_rng(0).integers(64, size=(500, 53))
    totals = {name: values.reshape(53, 64)[np.arange(53), policies].sum(axis=1) for name, values in columns.items()}
    yield Figure(source, "500 mixed policies, MAPE", _mape(totals["modelled"], totals["cycles"]), high=0.03)
    spearman = {name: agreement(totals[name], totals["cycles"])["spearman"] for name in ("modelled", "bops")}
    yield Figure(source, "500 mixed policies, Spearman", spearman["modelled"], low=0.99)
    yield Figure(source, "the same scored by BOPs, Spearman", spearman["bops"], low=0.4, high=0.6)


def microcontrollers() -> Iterator[Figure]:
    """MLPerf Tiny v1.1, four networks on three boards."""
    rows = table("mlperf_tiny_v1_1.csv")
    for board, name in BOARDS.items():
        paths = ["compute[0].efficiency", "overhead.layer_s"]
        yield _held_out(f"MLPerf Tiny, {board}", name, tiny(board), paths, 0.22)
        device, own = load_device(device_file(name)), rows[rows["board"] == board]
        assert isinstance(device, Analytic) and device.power is not None and device.power.active_w is not None
        error = (device.power.active_w * own["latency_ms"] * 1e3 / own["energy_uj"] - 1).abs().max()
        bound = inf if name == "stm32l4r5_xcubeai" else 0.05
        yield Figure(f"MLPerf Tiny, {board}", "energy from power and time, largest error", float(error), high=bound)


def t4_kernels() -> Iterator[Figure]:
    """HAWQ-V3's tuned kernels of ResNet18 at 4 and 8 bits, leaving one shape out."""
    paths = ["compute[0].efficiency", "compute[1].efficiency", "overhead.layer_s"]
    predicted = held_out(device_file("t4_roofline"), kernels(), paths)
    for bits, rows in (("4 and 8", predicted), ("4", predicted[::2]), ("8", predicted[1::2])):
        error = _mape(rows["modelled_s"], rows["measured_s"])
        yield Figure("HAWQ-V3 kernels, T4", f"{bits} bits, one shape left out, MAPE", error, high=0.20)


def macs() -> Iterator[Figure]:
    """Against half of what torch counts."""
    networks: dict[str, tuple[nn.Module, int]] = {
        "ResNet-18": (ResNet(18), 224),
        "MobileNetV2": (MobileNetV2(), 224),
        "Inception-v3": (InceptionV3(), 299),
    }
    for name, (module, side) in networks.items():
        image = torch.zeros(1, 3, side, side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.eval()(image)
        counted = sum(layer.macs for layer in hwsearch.capture(module, image).layers)
        yield Figure(
            "torch's FLOP counter", f"{name}: MACs over half of FLOPs", 2 * counted / counter.get_total_flops(), 1, 1
        )


def _held_out(source: str, name: str, measurements: list[Measurement], paths: list[str], high: float) -> Figure:
    predicted = held_out(device_file(name), measurements, paths)
    error = _mape(predicted["modelled_s"], predicted["measured_s"])
    return Figure(source, "one network left out, MAPE", error, high=high)


def _mape(modelled: object, measured: object) -> float:
    return agreement(modelled, measured)["mape"]  # type: ignore[arg-type]  # arrays and series
