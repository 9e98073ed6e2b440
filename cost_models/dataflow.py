"""An FPGA on which every layer is a unit of its own, folded so that all of them share the fabric (FINN)."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import inf, prod
from typing import Literal, TypeAlias

from pydantic.dataclasses import dataclass

from cost_models.cost import Cost
from cost_models.device_file import DeviceFile
from cost_models.fields import DEVICE_FILE, Bits, Count, Positive, Share, SomeBits
from cost_models.finn import MatrixVectorUnit
from cost_models.layer import BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec
from cost_models.support import require_supported

Frontier: TypeAlias = Sequence[tuple[int, MatrixVectorUnit]]
"""Cycles in rising order, each with the smallest unit that takes at most so many."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Dataflow(DeviceFile):
    """All layers compute at once, each on a unit of its own; latency is the interval between two images.

    The interval is that of the slowest unit once the units are folded: the shortest one at which they all fit. Bits
    change no unit's cycles, but its area, hence how far the network can be unfolded.

    A layer's own cost is its share of the interval if folding were continuous: MACs times LUTs per MAC and cycle, over
    the LUTs of the fabric (or DSP slices, where these multiply). What whole foldings need beyond that is the network's
    cost; it is infinite for a network that does not fit even where it is folded most.

    Reference: the estimates of :mod:`cost_models.finn`.
    """

    clock_hz: Positive
    """Clock of the fabric."""
    luts: Count
    """Look-up tables."""
    bram18: Count
    """Block RAMs of 18 Kbit."""
    dsps: Count
    """DSP slices."""
    usable: Share
    """Share of each resource that layers may take."""
    weight_bits: SomeBits
    """Bits that weights may have."""
    activation_bits: SomeBits
    """Bits that inputs may have; every pair with ``weight_bits`` is allowed."""
    multipliers: Literal["lut", "dsp"] = "lut"
    """What multiplies."""
    threshold_bits: Bits | None = None
    """Bits of the outputs that thresholds within the units produce; None leaves thresholds out."""

    @property
    def additive(self) -> bool:
        """Never: the layers share the fabric."""
        return False

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        """Every pair of widths, narrowest first."""
        return self._precisions

    @cached_property
    def _precisions(self) -> tuple[Precision, ...]:
        return tuple(sorted({Precision(*pair) for pair in product(self.weight_bits, self.activation_bits)}))

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """The layer's share of the interval between two images.

        Raises:
            ValueError: If the device does not run ``precision``.
        """
        require_supported(self.name, layer, precision, self.precisions(layer))
        unit = self._unit(layer, precision, pe=1, simd=1, distributed=False)
        share = max(unit.luts_per_mac / self.luts, unit.dsps / self.dsps) / self.usable
        seconds = layer.macs * share / self.clock_hz
        return Cost(seconds, None, {"compute_s": seconds}, bound_by="compute")

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """What whole foldings take beyond the layers' shares."""
        if any(config[layer.name] not in self.precisions(layer) for layer in network.layers):
            return Cost(None, None)
        units = self.folding(network, config)
        cycles = max((unit.cycles for unit in units.values()), default=0) if units is not None else inf
        shares = sum(self.layer_cost(layer, config[layer.name]).latency_s or 0.0 for layer in network.layers)
        rest = cycles / self.clock_hz - shares
        return Cost(rest, None, {"folding_s": rest})

    def folding(self, network: NetworkSpec, config: BitConfig) -> Mapping[str, MatrixVectorUnit] | None:
        """The unit of each layer at the shortest interval for which all fit, or None if they never fit.

        Raises:
            ValueError: If the device does not run a layer at its precision.
        """
        ways = {}
        for layer in network.layers:
            require_supported(self.name, layer, config[layer.name], self.precisions(layer))
            ways[layer.name] = self._foldings(layer, config[layer.name])
        intervals = sorted({cycles for block, _ in ways.values() for cycles, _ in block})
        fastest, slowest, best = 0, len(intervals), None
        while fastest < slowest:  # a longer interval only adds foldings to choose from
            middle = (fastest + slowest) // 2
            found = self._fit(ways, intervals[middle])
            if found is None:
                fastest = middle + 1
            else:
                best, slowest = found, middle
        return best

    def _fit(self, ways: Mapping[str, tuple[Frontier, Frontier]], cycles: int) -> Mapping[str, MatrixVectorUnit] | None:
        """The smallest units that take at most ``cycles``; weights move to LUTs where block RAM does not suffice."""
        units: dict[str, MatrixVectorUnit] = {}
        lutrams: dict[str, MatrixVectorUnit] = {}
        for name, frontiers in ways.items():
            block, lutram = (_within(frontier, cycles) for frontier in frontiers)
            if block is None or lutram is None:
                return None
            units[name], lutrams[name] = block, lutram
        spare = self.usable * self.bram18 - sum(unit.bram18 for unit in units.values())
        for name in sorted(units, key=lambda name: (lutrams[name].luts - units[name].luts) / units[name].bram18):
            if spare >= 0:
                break
            spare += units[name].bram18
            units[name] = lutrams[name]
        luts, dsps = (sum(getattr(unit, resource) for unit in units.values()) for resource in ("luts", "dsps"))
        return units if spare >= 0 and luts <= self.usable * self.luts and dsps <= self.usable * self.dsps else None

    @cached_property
    def _found(self) -> dict[tuple[LayerSpec, Precision], tuple[Frontier, Frontier]]:
        """Remembers the foldings of every shape: networks repeat their layers."""
        return {}

    def _foldings(self, layer: LayerSpec, precision: Precision) -> tuple[Frontier, Frontier]:
        """Units with weights in block RAM, and in LUTs."""
        shape = replace(layer, name="", bias=False)
        if (shape, precision) not in self._found:
            self._found[shape, precision] = (
                self._frontier(shape, precision, distributed=False),
                self._frontier(shape, precision, distributed=True),
            )
        return self._found[shape, precision]

    def _frontier(self, layer: LayerSpec, precision: Precision, *, distributed: bool) -> Frontier:
        whole = self._unit(layer, precision, pe=1, simd=1, distributed=distributed)
        folded = product(_divisors(whole.rows), _divisors(whole.columns))
        units = [replace(whole, pe=pe, simd=simd) for pe, simd in folded]
        frontier: list[tuple[int, MatrixVectorUnit]] = []
        for unit in sorted(units, key=lambda unit: (unit.cycles, unit.dsps, unit.luts)):
            if not frontier or (unit.dsps, unit.luts) < (frontier[-1][1].dsps, frontier[-1][1].luts):
                frontier.append((unit.cycles, unit))
        return frontier

    def _unit(
        self, layer: LayerSpec, precision: Precision, *, pe: int, simd: int, distributed: bool
    ) -> MatrixVectorUnit:
        return MatrixVectorUnit(
            columns=prod(layer.kernel) * layer.in_channels // layer.groups,
            rows=layer.out_channels,
            vectors=prod(layer.out_size),
            weight_bits=precision.weight_bits,
            activation_bits=precision.activation_bits,
            pe=pe,
            simd=simd,
            threshold_bits=self.threshold_bits,
            dsp=self.multipliers == "dsp",
            distributed=distributed,
        )


def _within(frontier: Frontier, cycles: int) -> MatrixVectorUnit | None:
    """The smallest unit that takes at most ``cycles``."""
    index = bisect_right(frontier, cycles, key=lambda way: way[0])
    return frontier[index - 1][1] if index else None


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
