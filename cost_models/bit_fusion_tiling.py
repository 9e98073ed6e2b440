"""Every way to cut a layer into tiles for Bit Fusion's three buffers, and what each way moves and computes.

The accounting is that of the paper's simulator (github.com/hsharma35/bitfusion): a tensor's block stays in its buffer
while inner loops reuse it, and grows over inner loops as long as it fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.int64]
Bulk: TypeAlias = Any
"""An int, or an int64 array ``[orders, tiles]`` (or ``[tiles]``) with an entry for each way to tile."""

# Loops over tiles, outermost first. Rows and columns of the output stay next to each other, which leaves 24 orders
# instead of 120: the 61 published layers cost the same to the cycle, 50 random others at most 0.7 % more.
ORDERS = tuple(
    tuple(loop for group in groups for loop in group)
    for groups in permutations((("batch",), ("height", "width"), ("in_channels",), ("out_channels",)))
)
INDEXED_BY = {
    "weight": {"in_channels", "out_channels"},
    "input": {"batch", "height", "width", "in_channels"},
    "output": {"batch", "height", "width", "out_channels"},
}


@dataclass(frozen=True)
class Counts:
    """What the array does for one layer and one batch.

    Attributes:
        compute_cycles: Cycles in which the array computes.
        dram_read_bits: Weights, inputs and partial sums loaded.
        dram_write_bits: Outputs and partial sums stored.
        wbuf_read_bits: Read from the weight buffer by the array.
        wbuf_write_bits: Written into the weight buffer from DRAM.
        ibuf_read_bits: Read from the input buffer by the array.
        ibuf_write_bits: Written into the input buffer from DRAM.
        obuf_read_bits: Read from the output buffer by the array and by DRAM stores.
        obuf_write_bits: Written into the output buffer by the array and by DRAM loads.
        exposed_cycles: First load and last store, which overlap with nothing.
        exposed_bits: DRAM bits moved in those.
    """

    compute_cycles: Bulk
    dram_read_bits: Bulk
    dram_write_bits: Bulk
    wbuf_read_bits: Bulk
    wbuf_write_bits: Bulk
    ibuf_read_bits: Bulk
    ibuf_write_bits: Bulk
    obuf_read_bits: Bulk
    obuf_write_bits: Bulk
    exposed_cycles: Bulk = 0
    exposed_bits: Bulk = 0

    @property
    def dram_bits(self) -> Bulk:
        """DRAM reads and writes."""
        return self.dram_read_bits + self.dram_write_bits

    def take(self, ways: NDArray[np.bool_]) -> Self:
        """The counts of the ways to tile that ``ways: [orders, tiles]`` selects, each ``[selected]``."""
        return type(self)(**{f.name: np.broadcast_to(getattr(self, f.name), ways.shape)[ways] for f in fields(self)})

    def one(self, index: int) -> Self:
        """The counts at ``index`` of fields ``[selected]``, as ints."""
        return type(self)(**{f.name: int(getattr(self, f.name)[index]) for f in fields(self)})


@dataclass(frozen=True)
class Work:
    """One group of a layer, as the array sees it.

    Attributes:
        groups: Groups, computed one after the other.
        batch: Images.
        in_channels: Input channels of one group.
        out_channels: Output channels of one group.
        kernel: (height, width).
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).
        out_size: Output (height, width).
        unrolled: Whether the host unrolls windows into vectors (im2col) before the array reads them.
        weight_bits: Stored bits per weight.
        activation_bits: Stored bits per input activation.
        output_bits: Bits per partial sum and output.
        inputs_per_cycle: Products that one column sums per cycle: rows times lanes of a fusion unit.
        columns: Output channels computed in parallel.
    """

    groups: int
    batch: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    out_size: tuple[int, int]
    unrolled: bool
    weight_bits: int
    activation_bits: int
    output_bits: int
    inputs_per_cycle: int
    columns: int

    def compute_cycles(self, batch: Bulk, positions: Bulk, in_channels: Bulk, out_channels: Bulk) -> Bulk:
        """Cycles for a tile of one group: formulas ``conv`` and ``im2col`` of the simulator."""
        taps = self.kernel[0] * self.kernel[1]
        if self.unrolled:
            steps = _ceil_div(taps * in_channels, self.inputs_per_cycle)
        else:
            steps = taps * _ceil_div(in_channels, self.inputs_per_cycle)
        return batch * positions * _ceil_div(out_channels, self.columns) * steps


def tilings(work: Work, capacity_bits: Mapping[str, int], dram_bits_per_cycle: int) -> Counts | None:
    """Counts of every combination of power-of-two tile sizes and order of the tile loops.

    Args:
        work: The layer.
        capacity_bits: Usable bits of the ``"weight"``, ``"input"`` and ``"output"`` buffer.
        dram_bits_per_cycle: Width of the DRAM interface.

    Returns:
        Counts for all groups, arrays ``[orders, tiles]`` or ``[tiles]``; None if not even the smallest tile fits.
    """
    tile, trips = _tiles(work)
    bits = _tile_bits(work, tile)
    fits = np.logical_and.reduce([bits[tensor] <= capacity_bits[tensor] for tensor in bits])
    if not fits.any():
        return None
    tile, trips, bits = ({k: v[fits] for k, v in table.items()} for table in (tile, trips, bits))

    taps = work.kernel[0] * work.kernel[1]
    positions = tile["height"] * tile["width"]
    repeats = work.groups * np.prod([trips[loop] for loop in ORDERS[0]], axis=0)
    sums = repeats * tile["batch"] * positions * tile["out_channels"]  # partial sums leaving the array
    macs = sums * taps * tile["in_channels"]
    streams = {tensor: _streams(bits[tensor], trips, INDEXED_BY[tensor], capacity_bits[tensor]) for tensor in bits}
    moved = {tensor: work.groups * stream[0] for tensor, stream in streams.items()}
    block = {tensor: stream[1] for tensor, stream in streams.items()}
    first_bits = block["weight"] + block["input"] + block["output"]
    obuf_bits = moved["output"] + sums * work.output_bits
    return Counts(
        compute_cycles=repeats
        * work.compute_cycles(tile["batch"], positions, tile["in_channels"], tile["out_channels"]),
        dram_read_bits=moved["weight"] + moved["input"] + moved["output"],
        dram_write_bits=moved["output"],
        wbuf_read_bits=macs * work.weight_bits,
        wbuf_write_bits=moved["weight"],
        ibuf_read_bits=macs * work.activation_bits,
        ibuf_write_bits=moved["input"],
        obuf_read_bits=obuf_bits,
        obuf_write_bits=obuf_bits,
        exposed_cycles=_ceil_div(first_bits, dram_bits_per_cycle) + _ceil_div(block["output"], dram_bits_per_cycle),
        exposed_bits=first_bits + block["output"],
    )


def _tiles(work: Work) -> tuple[dict[str, Array], dict[str, Array]]:
    """Sizes of every tile, and how often each loop runs with it; arrays ``[tiles]``."""
    height, width = work.out_size
    # Without im2col a tile holds whole passes over the columns.
    unit = 1 if work.unrolled else work.columns
    out_channels = np.minimum(unit * _powers_of_two(-(-work.out_channels // unit)), work.out_channels)
    axes = (
        _powers_of_two(work.batch),
        _powers_of_two(max(height, width)),
        _powers_of_two(work.in_channels),
        out_channels,
    )
    batch, side, in_channels, out_channels = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    tile = {
        "batch": batch,
        "height": np.minimum(side, height),
        "width": np.minimum(side, width),
        "in_channels": in_channels,
        "out_channels": out_channels,
    }
    trips = {
        "batch": _ceil_div(work.batch, batch),
        "height": _ceil_div(height, tile["height"]),
        "width": _ceil_div(width, tile["width"]),
        "in_channels": _ceil_div(work.in_channels, in_channels),
        "out_channels": _ceil_div(work.out_channels, out_channels),
    }
    return tile, trips


def _tile_bits(work: Work, tile: Mapping[str, Array]) -> dict[str, Array]:
    """Bits of each tensor's tile. Weights fill whole rows of the array and outputs whole passes over its columns."""
    taps = work.kernel[0] * work.kernel[1]
    positions = tile["height"] * tile["width"]
    rows = _ceil_div(taps * tile["in_channels"], work.inputs_per_cycle) * work.inputs_per_cycle
    if work.unrolled:
        window: Array = positions * taps
    else:
        window = np.ones_like(positions)
        for axis, side in enumerate(("height", "width")):
            reach = work.dilation[axis] * (work.kernel[axis] - 1) + 1
            window = window * (reach + (tile[side] - 1) * work.stride[axis])
    outputs = tile["out_channels"]
    if work.groups == 1:  # the outputs of consecutive groups lie side by side instead
        outputs = _ceil_div(outputs, work.columns) * work.columns
    return {
        "weight": rows * tile["out_channels"] * work.weight_bits,
        "input": window * tile["in_channels"] * tile["batch"] * work.activation_bits,
        "output": positions * outputs * tile["batch"] * work.output_bits,
    }


def _streams(
    tile_bits: Array, trips: Mapping[str, Array], indexed_by: set[str], capacity_bits: int
) -> tuple[Array, Array]:
    """For every order and tile: DRAM bits of one tensor, and bits of its largest block that stays in the buffer."""
    streams = [_stream(tile_bits, trips, order, indexed_by, capacity_bits) for order in ORDERS]
    return np.stack([moved for moved, _ in streams]), np.stack([block for _, block in streams])


def _stream(
    tile_bits: Array, trips: Mapping[str, Array], order: tuple[str, ...], indexed_by: set[str], capacity_bits: int
) -> tuple[Array, Array]:
    """The same for one order of the tile loops."""
    moved = block = tile_bits
    for loop in reversed(order):
        if loop in indexed_by:
            moved = moved * trips[loop]
            block = np.where(moved <= capacity_bits, moved, block)
        else:
            moved = np.where(moved <= capacity_bits, moved, moved * trips[loop])  # a block that stays is used again
    return moved, block


def _powers_of_two(limit: int) -> Array:
    """1, 2, 4, ... and ``limit`` itself."""
    return np.minimum(2 ** np.arange((limit - 1).bit_length() + 1, dtype=np.int64), limit)


def _ceil_div(a: Bulk, b: Bulk) -> Bulk:
    return -(-a // b)
