"""Bit Fusion: a systolic array whose 8-bit multipliers split into narrower ones (Sharma et al., ISCA 2018)."""

from dataclasses import replace
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.bit_fusion_tiling import Bulk, Counts, Work, tilings
from cost_models.cost import Cost
from cost_models.device_file import DeviceFile, Sourced
from cost_models.fields import DEVICE_FILE, Bits, Count, NonNegative, Positive
from cost_models.layer import BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec
from cost_models.support import require_supported

PICO = 1e-12


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Buffer(Sourced):
    """An on-chip buffer; half of it is usable, the other half is being filled or drained."""

    size_bytes: Count
    """All of it."""
    read_pj_per_bit: NonNegative
    """Picojoules per bit that the array reads."""
    write_pj_per_bit: NonNegative
    """Picojoules per bit that is written into it."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class BitFusion(DeviceFile):
    """The array, its buffers and its DRAM interface; latency = max(compute, traffic) + first load and last store.

    A fusion unit of ``max_lane_bits`` splits into ``floor(max/w) * floor(max/a)`` lanes, so 3 bits are computed as 4,
    and 5 to 7 bits as 8, while they are stored and moved as they are.

    A narrower precision is not always cheaper. Weight tiles are padded to whole rows of lanes, so a layer with few
    inputs per output may move more bits and take longer. And tiles are chosen for the fewest cycles, then for the least
    energy, as in the simulator, so a layer bound by compute may take more energy.

    Groups of a grouped convolution run one after the other, each with its own input and output channels: a column sums
    over one group only. A depthwise layer keeps one column busy, and its compute time hardly depends on its precision.

    ``Cost.breakdown``: ``compute_s``, ``weight_load_s``, ``activation_load_s``, ``store_s`` (outputs, and partial sums
    both ways) and ``overlap_s``; ``compute_j``, ``weight_buffer_j``, ``input_buffer_j``, ``output_buffer_j`` and
    ``dram_j``.

    Reference: formulas of the paper's simulator, github.com/hsharma35/bitfusion (2020-08-05).
    """

    rows: Count
    """Input channels in parallel."""
    columns: Count
    """Output channels in parallel."""
    clock_hz: Positive
    """Clock."""
    weight_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    """Bits that weights may be stored in."""
    activation_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    """Bits that inputs may be stored in."""
    output_bits: Bits
    """Bits of partial sums and outputs, in the buffer and in DRAM."""
    max_lane_bits: Bits
    """Operand bits of an unsplit fusion unit."""
    min_lane_bits: Bits
    """Operand bits of its narrowest lane."""
    im2col_channels: Annotated[int, Field(ge=0)]
    """A convolution with at most this many input channels per group is unrolled by the host: its windows, not its
    channels, fill the rows. The simulator does so for a network's first layer."""
    weight_buffer: Buffer
    """Buffer of weights."""
    input_buffer: Buffer
    """Buffer of inputs."""
    output_buffer: Buffer
    """Buffer of partial sums."""
    dram_bits_per_cycle: Count
    """Width of the DRAM interface, shared by loads and stores."""
    core_pj_per_cycle: NonNegative
    """Picojoules of the whole array per computing cycle."""
    dram_pj_per_bit: NonNegative
    """Picojoules per DRAM bit."""

    @model_validator(mode="after")
    def _operands_fit_lanes(self) -> Self:
        for field, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if max(bits) > self.max_lane_bits:
                raise ValueError(f"{field} holds {max(bits)}, more than max_lane_bits={self.max_lane_bits}")
        return self

    @property
    def additive(self) -> bool:
        """Always: the simulator adds up layers."""
        return True

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        """Every pair of stored widths, narrowest first."""
        return tuple(sorted({Precision(w, a) for w in self.weight_bits for a in self.activation_bits}))

    def compute_cycles(self, layer: LayerSpec, precision: Precision) -> int:
        """Computing cycles of a batch if no tile is ragged: the paper's throughput formula."""
        work = self._work(layer, precision)
        positions = work.out_size[0] * work.out_size[1]
        return int(work.groups * work.compute_cycles(self.batch, positions, work.in_channels, work.out_channels))

    def counts(self, layer: LayerSpec, precision: Precision) -> Counts:
        """Cycles and bits of a batch with the tiling that takes the fewest cycles, then the least energy.

        Raises:
            ValueError: If the device does not run ``precision``, or not even the smallest tile fits its buffers.
        """
        require_supported(self.name, layer, precision, self.precisions(layer))
        shape = replace(layer, name="", bias=False)
        if (shape, precision) not in self._found:
            self._found[shape, precision] = self._best_counts(shape, precision)
        best = self._found[shape, precision]
        if best is None:
            raise ValueError(
                f"Hardware '{self.name}' cannot hold the smallest tile of layer '{layer.name}' (kernel {layer.kernel}) "
                f"at {precision} in half of its buffers; enlarge weight_buffer, input_buffer or output_buffer."
            )
        return best

    def dram_bits(self, layer: LayerSpec, precision: Precision) -> int:
        """Bits read from and written to DRAM for a batch."""
        return int(self.counts(layer, precision).dram_bits)

    def cycles(self, counts: Counts) -> Bulk:
        """Cycles of a batch: what is not exposed overlaps with computing."""
        traffic = -(-(counts.dram_bits - counts.exposed_bits) // self.dram_bits_per_cycle)
        return np.maximum(counts.compute_cycles, traffic) + counts.exposed_cycles

    def energy_j(self, counts: Counts) -> dict[str, Bulk]:
        """Joules of a batch by part: array, buffers, DRAM."""
        buffers = {
            "weight_buffer_j": (self.weight_buffer, counts.wbuf_read_bits, counts.wbuf_write_bits),
            "input_buffer_j": (self.input_buffer, counts.ibuf_read_bits, counts.ibuf_write_bits),
            "output_buffer_j": (self.output_buffer, counts.obuf_read_bits, counts.obuf_write_bits),
        }
        picojoules = {
            "compute_j": counts.compute_cycles * self.core_pj_per_cycle,
            **{
                part: b.read_pj_per_bit * read + b.write_pj_per_bit * write
                for part, (b, read, write) in buffers.items()
            },
            "dram_j": counts.dram_bits * self.dram_pj_per_bit,
        }
        return {part: value * PICO for part, value in picojoules.items()}

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``.
        """
        counts = self.counts(layer, precision)
        transfers = {
            "weight_load_s": counts.wbuf_write_bits,
            "activation_load_s": counts.ibuf_write_bits,
            "store_s": counts.dram_bits - counts.wbuf_write_bits - counts.ibuf_write_bits,
        }
        cycles = {"compute_s": counts.compute_cycles}
        cycles |= {part: bits / self.dram_bits_per_cycle for part, bits in transfers.items()}
        total = self.cycles(counts)
        # the part that would have to shrink; the first load and the last store overlap with nothing
        computing = counts.compute_cycles >= total - counts.exposed_cycles
        bound_by = "compute_s" if computing else max(transfers, key=transfers.__getitem__)
        cycles["overlap_s"] = total - sum(cycles.values())
        seconds = {part: count / (self.clock_hz * self.batch) for part, count in cycles.items()}
        joules = {part: value / self.batch for part, value in self.energy_j(counts).items()}
        computed = Precision(self._lane_bits(precision.weight_bits), self._lane_bits(precision.activation_bits))
        return Cost(
            total / (self.clock_hz * self.batch),
            sum(joules.values()),
            seconds | joules,
            computed if computed != precision else None,
            bound_by.removesuffix("_s"),
        )

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """Nothing: the simulator adds up layers."""
        return Cost(0.0, 0.0)

    def _lanes(self, bits: int) -> int:
        """Lanes that an operand of a fusion unit splits into."""
        return self.max_lane_bits // max(bits, self.min_lane_bits)

    def _lane_bits(self, bits: int) -> int:
        """Width of those lanes."""
        return self.max_lane_bits // self._lanes(bits)

    def _work(self, layer: LayerSpec, precision: Precision) -> Work:
        lanes = self._lanes(precision.weight_bits) * self._lanes(precision.activation_bits)
        in_channels = layer.in_channels // layer.groups
        return Work(
            groups=layer.groups,
            batch=self.batch,
            in_channels=in_channels,
            out_channels=layer.out_channels // layer.groups,
            kernel=layer.kernel,
            stride=layer.stride,
            dilation=layer.dilation,
            out_size=layer.out_size,
            unrolled=layer.op == "conv2d" and in_channels <= self.im2col_channels,
            weight_bits=precision.weight_bits,
            activation_bits=precision.activation_bits,
            output_bits=self.output_bits,
            inputs_per_cycle=self.rows * lanes,
            columns=self.columns,
        )

    @cached_property
    def _found(self) -> dict[tuple[LayerSpec, Precision], Counts | None]:
        """Remembers the tiling of every shape: networks repeat their layers."""
        return {}

    def _best_counts(self, layer: LayerSpec, precision: Precision) -> Counts | None:
        capacity_bits = {
            "weight": self.weight_buffer.size_bytes * 8 // 2,
            "input": self.input_buffer.size_bytes * 8 // 2,
            "output": self.output_buffer.size_bytes * 8 // 2,
        }
        ways = tilings(self._work(layer, precision), capacity_bits, self.dram_bits_per_cycle)
        if ways is None:
            return None
        cycles = self.cycles(ways)
        fastest = ways.take(cycles == cycles.min())
        energy_j = sum(self.energy_j(fastest).values())
        return fastest.one(int(np.argmin(energy_j)))
