"""Activation ranges from a calibration set."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from hwsearch.graph import Network
from hwsearch.progress import track
from hwsearch.quantize.grid import ActivationGrid, activation_grid
from hwsearch.quantize.range import RangeEstimator

ACTIVATION_BITS = (2, 3, 4, 5, 6, 7, 8)

OTHER_BITS = 8
"""Width of tensors that no layer reads: residual sums, pooled values."""

COUNTABLE = 2**24
"""torch.histc counts in float32, which holds every integer up to here."""


@dataclass
class _Histogram:
    """Counts of one tensor's values between its smallest and largest, in memory that doesn't grow with the data."""

    bins: int
    lo: float = 0.0
    hi: float = 0.0
    finite: bool = True
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))

    def widen(self, values: Tensor) -> None:
        lo, hi = (float(bound) for bound in torch.aminmax(values))
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        self.finite &= isfinite(lo) and isfinite(hi)

    def add(self, values: Tensor) -> None:
        hi = self.hi if self.hi > self.lo else self.lo + 1.0
        for part in torch.split(values.float(), COUNTABLE):
            counts = torch.histc(part, self.bins, self.lo, hi).double()
            self.counts = counts if not len(self.counts) else self.counts + counts

    def centres(self) -> Tensor:
        """Bin centres ``[1, bins]``; those of the outermost bins are the extreme values themselves."""
        edges = torch.linspace(self.lo, self.hi, self.bins + 1, dtype=torch.float64)
        centres = (edges[:-1] + edges[1:]) / 2
        centres[0], centres[-1] = self.lo, self.hi
        return centres.unsqueeze(0)


ActivationRanges = Mapping[tuple[str, int], ActivationGrid]
"""Grid of every (tensor, bits), the tensor by the name of the graph node that produces it."""


def calibrate(
    network: Network,
    batches: Iterable[Any],
    estimator: RangeEstimator,
    bits: Sequence[int] = ACTIVATION_BITS,
    *,
    bins: int = 2048,
    device: str | torch.device = "cpu",
) -> dict[tuple[str, int], ActivationGrid]:
    """Estimate the range of every tensor that a layer or arithmetic reads, at every width.

    Args:
        network: The captured float network.
        batches: Calibration inputs ``[N, ...]``, or (inputs, labels) pairs whose labels are ignored; iterated twice.
        estimator: Range estimator, called once per tensor and width on the tensor's histogram.
        bits: Widths to estimate.
        bins: Histogram bins per tensor.
        device: Torch device that runs the network.

    Returns:
        The grid of each (tensor, bits).

    Raises:
        ValueError: If there are no calibration inputs, or a tensor is not finite.
    """
    graph = network.graph
    if torch.device(device).type != "cpu":
        graph = copy.deepcopy(graph).to(device)
    histograms = {read.tensor: _Histogram(bins) for read in network.reads}
    for description, step in (("calibrating ranges", _Histogram.widen), ("calibrating histograms", _Histogram.add)):
        seen = 0
        for batch in track(batches, description):
            inputs = batch if isinstance(batch, Tensor) else batch[0]
            if not len(inputs):
                continue
            _observe(
                graph,
                inputs.to(device),
                lambda name, values, step=step: step(histograms[name], values),
                set(histograms),
            )
            seen += len(inputs)
        if not seen:
            raise ValueError(
                "Calibration needs at least one batch of inputs; the calibration set is empty. (It is iterated twice: "
                "pass a list or a loader, not a generator.)"
            )
        broken = next((name for name, histogram in histograms.items() if not histogram.finite), None)
        if broken:
            raise ValueError(
                f"Tensor '{broken}' of the float network holds NaN or infinity on the calibration set, so it has no "
                "range. Check the weights and the inputs."
            )
    grids = {}
    for tensor, histogram in track(histograms.items(), "estimating activation ranges"):
        centres, counts = histogram.centres(), histogram.counts.unsqueeze(0)
        for width in bits:
            grids[tensor, width] = activation_grid(estimator(centres, width, counts), width)
    return grids


def _observe(graph: GraphModule, inputs: Tensor, see: Any, wanted: set[str]) -> None:
    class Observer(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n.name in wanted:
                see(n.name, value.detach().flatten())
            return value

    with torch.inference_mode():
        Observer(graph).run(inputs)


def ranges_table(network: Network, ranges: ActivationRanges) -> pd.DataFrame:
    """One row per (tensor, bits): readers, scale, zero_point and the interval they cover."""
    readers: dict[str, list[str]] = {}
    for read in network.reads:
        readers.setdefault(read.tensor, []).append(read.layer or read.node)
    rows = [
        {
            "tensor": tensor,
            "read_by": " ".join(readers[tensor]),
            "activation_bits": bits,
            "lo": -grid.scale * grid.zero_point,
            "hi": grid.scale * (grid.qmax - grid.zero_point),
            "scale": grid.scale,
            "zero_point": grid.zero_point,
        }
        for (tensor, bits), grid in ranges.items()
    ]
    return pd.DataFrame(rows)


def read_ranges(path: Path) -> dict[tuple[str, int], ActivationGrid]:
    """The grids of a file that :func:`ranges_table` was written to: exactly those, since numbers are read exactly."""
    table = pd.read_csv(path, dtype={"tensor": str}, keep_default_na=False)
    return {
        (str(row["tensor"]), int(bits)): ActivationGrid(float(row["scale"]), int(row["zero_point"]), 2 ** int(bits) - 1)
        for row in table.to_dict("records")
        for bits in [row["activation_bits"]]
    }
