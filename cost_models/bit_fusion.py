"""Bit Fusion: a systolic array whose 8-bit multipliers split into narrower ones (Sharma et al., ISCA 2018)."""

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.bit_fusion_tiling import Bulk, Counts, Work, tilings
from cost_models.cost import Cost
from cost_models.fields import DEVICE_FILE, Bits, Count, NonNegative, Positive
from cost_models.layer import BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec
from cost_models.support import require_supported

PICO = 1e-12


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Buffer:
    """An on-chip buffer; half of it is usable, the other half is being filled or drained."""

    size_bytes: Count
    read_pj_per_bit: NonNegative
    write_pj_per_bit: NonNegative


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class BitFusion:
    """The array, its buffers and its DRAM interface; latency = max(compute, traffic) + first load and last store.

    A fusion unit of ``max_lane_bits`` splits into ``floor(max/w) * floor(max/a)`` lanes, so 3 bits are computed as 4,
    and 5 to 7 bits as 8, while they are stored and moved as they are.

    A narrower precision is not always cheaper. Weight tiles are padded to whole rows of lanes, so a layer with few
    inputs per output may move more bits and take longer. And tiles are chosen for the fewest cycles, then for the least
    energy, as in the simulator, so a layer bound by compute may take more energy.

    Groups of a grouped convolution run one after the other, each with its own input and output channels: a column sums
    over one group only. A depthwise layer keeps one column busy, and its compute time hardly depends on its precision.

    ``Cost.breakdown``: ``compute_s`` and ``traffic_s``, which overlap; ``exposed_s``, first load and last store;
    ``compute_j``, ``sram_j``, ``dram_j``.

    Attributes:
        name: Device and configuration.
        batch: Images per inference.
        rows: Input channels in parallel.
        columns: Output channels in parallel.
        clock_hz: Clock.
        weight_bits: Bits that weights may be stored in.
        activation_bits: Bits that inputs may be stored in.
        output_bits: Bits of partial sums and outputs, in the buffer and in DRAM.
        max_lane_bits: Operand bits of an unsplit fusion unit.
        min_lane_bits: Operand bits of its narrowest lane.
        im2col_channels: A convolution with at most this many input channels per group is unrolled by the host:
            its windows, not its channels, fill the rows. The simulator does so for a network's first layer.
        weight_buffer: Buffer of weights.
        input_buffer: Buffer of inputs.
        output_buffer: Buffer of partial sums.
        dram_bits_per_cycle: Width of the DRAM interface, shared by loads and stores.
        core_pj_per_cycle: Picojoules of the whole array per computing cycle.
        dram_pj_per_bit: Picojoules per DRAM bit.
        warnings: What a reader of the results must know.

    Reference: formulas of the paper's simulator, github.com/hsharma35/bitfusion (2020-08-05).
    """

    name: str
    batch: Count
    rows: Count
    columns: Count
    clock_hz: Positive
    weight_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    activation_bits: Annotated[tuple[Bits, ...], Field(min_length=1)]
    output_bits: Bits
    max_lane_bits: Bits
    min_lane_bits: Bits
    im2col_channels: Annotated[int, Field(ge=0)]
    weight_buffer: Buffer
    input_buffer: Buffer
    output_buffer: Buffer
    dram_bits_per_cycle: Count
    core_pj_per_cycle: NonNegative
    dram_pj_per_bit: NonNegative
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _operands_fit_lanes(self) -> Self:
        for field, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if max(bits) > self.max_lane_bits:
                raise ValueError(f"{field} holds {max(bits)}, more than max_lane_bits={self.max_lane_bits}")
        return self

    @property
    def cost_source(self) -> Literal["modelled", "measured"]:
        """Always modelled."""
        return "modelled"

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
        best = _best_counts(self, replace(layer, name="", bias=False), precision)
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
        buffers = (
            (self.weight_buffer, counts.wbuf_read_bits, counts.wbuf_write_bits),
            (self.input_buffer, counts.ibuf_read_bits, counts.ibuf_write_bits),
            (self.output_buffer, counts.obuf_read_bits, counts.obuf_write_bits),
        )
        sram_pj = sum(buf.read_pj_per_bit * read + buf.write_pj_per_bit * write for buf, read, write in buffers)
        return {
            "compute_j": counts.compute_cycles * self.core_pj_per_cycle * PICO,
            "sram_j": sram_pj * PICO,
            "dram_j": counts.dram_bits * self.dram_pj_per_bit * PICO,
        }

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``.
        """
        counts = self.counts(layer, precision)
        per_image_s = 1 / (self.clock_hz * self.batch)
        times = {
            "compute_s": counts.compute_cycles * per_image_s,
            "traffic_s": (counts.dram_bits - counts.exposed_bits) / self.dram_bits_per_cycle * per_image_s,
            "exposed_s": counts.exposed_cycles * per_image_s,
        }
        energy = {part: joules / self.batch for part, joules in self.energy_j(counts).items()}
        computed_as = Precision(self._lane_bits(precision.weight_bits), self._lane_bits(precision.activation_bits))
        return Cost(
            float(self.cycles(counts)) * per_image_s,
            sum(energy.values()),
            times | energy,
            computed_as if computed_as != precision else None,
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


@lru_cache(maxsize=2**16)
def _best_counts(device: BitFusion, layer: LayerSpec, precision: Precision) -> Counts | None:
    """Remembered by shape: networks repeat their layers."""
    capacity_bits = {
        "weight": device.weight_buffer.size_bytes * 8 // 2,
        "input": device.input_buffer.size_bytes * 8 // 2,
        "output": device.output_buffer.size_bytes * 8 // 2,
    }
    ways = tilings(device._work(layer, precision), capacity_bits, device.dram_bits_per_cycle)
    if ways is None:
        return None
    cycles = device.cycles(ways)
    fastest = ways.take(cycles == cycles.min())
    energy_j = sum(device.energy_j(fastest).values())
    return fastest.one(int(np.argmin(energy_j)))
