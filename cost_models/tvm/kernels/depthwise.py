"""Depthwise convolution by dot products of four bytes: four rows of one channel at a time.

Four rows of the input are interleaved, so that each int32 lane holds four vertical neighbours of one channel. Such a
column serves every output whose window it is in: the horizontal neighbours, and, with rows of zero weights in other
places, up to as many output rows as fit. Weights are bytes, whatever their bits.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, Literal

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.interleave import QUARTERS, channel_order, interleave
from cost_models.tvm.kernels.interleaved_writer import InterleavedWriter
from cost_models.tvm.kernels.ir import Expr, Kernel, loop, ramp, register, store, widened
from cost_models.tvm.kernels.isa import LANES, Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.span import Span, spans
from cost_models.tvm.kernels.weights import DOT
from cost_models.tvm.kernels.writer import pixel

WIDTHS = (4, 8, LANES)
"""Lanes of the vectors that an instruction set may have."""


@dataclass(frozen=True)
class DepthwiseTiling:
    """Knobs of a depthwise kernel.

    Attributes:
        rows: Output rows of a tile.
        columns: Output columns of a tile.
        order: Whether the ``"channels"`` or the ``"rows"`` are the outermost loop.
    """

    rows: int = 1
    columns: int = 4
    order: Literal["channels", "rows"] = "rows"


@dataclass(frozen=True)
class _Block:
    """Adjacent channels that four vectors hold, and their weights; ``repeats`` of them follow one another."""

    channel: int
    weights: int
    lanes: int
    count: int
    repeats: int


@dataclass(frozen=True)
class _Product:
    """A dot product of each window: output row of the tile, four input rows, and the kernel row that each meets."""

    row: int
    group: int
    taps: tuple[int | None, ...]


@dataclass(frozen=True)
class DepthwiseKernel:
    """A depthwise convolution compiled for one instruction set and tiling.

    Parameters of the function: input, weights, then those of the epilogue.
    """

    shape: Convolution
    epilogue: Epilogue
    isa: Isa
    tiling: DepthwiseTiling = DepthwiseTiling()

    def __post_init__(self) -> None:
        shape = self.shape
        if not shape.groups == shape.image.channels == shape.out_channels:
            raise ValueError(
                f"A depthwise convolution has as many groups as input and output channels; got groups={shape.groups}, "
                f"in_channels={shape.image.channels}, out_channels={shape.out_channels}."
            )

    @cached_property
    def _groups(self) -> list[list[int]]:
        """Input rows under a tile, counted from its first, by fours."""
        (kh, _), stride, dilation = self.shape.kernel, self.shape.stride[0], self.shape.dilation[0]
        rows = sorted({y * stride + i * dilation for y in range(self.tiling.rows) for i in range(kh)})
        return [rows[i : i + DOT] for i in range(0, len(rows), DOT)]

    @cached_property
    def _products(self) -> list[_Product]:
        """Dot products of which some tap is not zero."""
        every = [
            _Product(y, g, tuple(self._tap(y, row) for row in group))
            for y in range(self.tiling.rows)
            for g, group in enumerate(self._groups)
        ]
        return [dots for dots in every if any(tap is not None for tap in dots.taps)]

    def _tap(self, y: int, row: int) -> int | None:
        """Kernel row by which output row ``y`` of a tile multiplies input row ``row``."""
        tap, between = divmod(row - y * self.shape.stride[0], self.shape.dilation[0])
        return None if between or not 0 <= tap < self.shape.kernel[0] else tap

    @property
    def _steps(self) -> int:
        """Weight vectors of one quarter of a block."""
        return len(self._products) * self.shape.kernel[1]

    @cached_property
    def _blocks(self) -> list[_Block]:
        """Blocks of whole vectors; the rest in the narrowest vectors that hold it."""
        channels, width = self.shape.image.stored_channels, QUARTERS * self.isa.lanes
        whole, rest = divmod(channels, width)
        blocks = [_Block(0, 0, self.isa.lanes, width, whole)] if whole else []
        if rest:
            lanes = next(lanes for lanes in WIDTHS if rest <= QUARTERS * lanes)
            blocks.append(_Block(whole * width, whole * width * self._steps, lanes, rest, 1))
        return blocks

    @property
    def _weight_count(self) -> int:
        """Weights in groups of four."""
        last = self._blocks[-1]
        return last.weights + last.repeats * QUARTERS * last.lanes * self._steps

    @property
    def alignment(self) -> int:
        """Power of two by which sums are scaled before they are requantized."""
        return 0

    @property
    def activation_offset(self) -> int:
        """What is taken off each activation."""
        return self.isa.activation_offset

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [
            ("input", "uint8", self.shape.image.size_bytes),
            ("weights", "int32", self._weight_count),
            *self.epilogue.pointers(),
        ]

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.int32]:
        """Weights in the order that the kernel reads them.

        Args:
            codes: ``[C, kh, kw, 1]``.

        Returns:
            Flat; read as (block, dot product, kernel column, quarter, lane, byte).
        """
        last = self._blocks[-1]
        channels = last.channel + last.repeats * QUARTERS * last.lanes
        taps = np.zeros((len(self._products), self.shape.kernel[1], channels, DOT), np.int8)
        for p, dots in enumerate(self._products):
            for byte, tap in enumerate(dots.taps):
                if tap is not None:
                    taps[p, :, : len(codes), byte] = codes[:, tap, :, 0].T
        packed = [
            taps[:, :, block.channel + repeat * QUARTERS * block.lanes + channel_order(block.lanes)].ravel()
            for block in self._blocks
            for repeat in range(block.repeats)
        ]
        return np.concatenate(packed).view(np.int32)

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as buffers:
            _Body(self, buffers).emit()
        return kernel.function


@dataclass(frozen=True)
class _Tile:
    """Where one tile lies: image, first row and column; its block's first channel and weights."""

    batch: Expr
    y: Expr
    x: Expr
    channel: Expr
    weights: Expr


class _Body:
    """Emits the loops of a kernel."""

    def __init__(self, kernel: DepthwiseKernel, buffers: list[Any]) -> None:
        self.kernel = kernel
        self._input, self._weights, *rest = buffers
        self._writers = {block.lanes: InterleavedWriter(kernel.epilogue, block.lanes, rest) for block in kernel._blocks}

    def emit(self) -> None:
        """Everything."""
        kernel = self.kernel
        self._writers[kernel._blocks[0].lanes].write_rings()
        rows = spans(kernel.shape.out_size[0], kernel.tiling.rows)

        def image(batch: Expr) -> None:
            if kernel.tiling.order == "channels":
                for block in kernel._blocks:
                    loop(block.repeats, partial(self._all_rows, batch, block, rows))
            else:
                for span in rows:
                    loop(span.count, partial(self._all_blocks, batch, span))

        loop(kernel.shape.image.batch, image)

    def _all_rows(self, batch: Expr, block: _Block, rows: list[Span], repeat: Expr) -> None:
        for span in rows:
            loop(span.count, partial(self._row, batch, block, span, repeat))

    def _all_blocks(self, batch: Expr, rows: Span, index: Expr) -> None:
        for block in self.kernel._blocks:
            loop(block.repeats, partial(self._row, batch, block, rows, index=index))

    def _row(self, batch: Expr, block: _Block, rows: Span, repeat: Expr, index: Expr) -> None:
        """All tiles of a row of tiles."""
        width = QUARTERS * block.lanes
        channel = block.channel + repeat * width
        weights = block.weights + repeat * width * self.kernel._steps
        y = rows.start + index * rows.size

        def tile(columns: Span, x: Expr) -> None:
            at = _Tile(batch, y, columns.start + x * columns.size, channel, weights)
            self._tile(at, block, rows.size, columns.size)

        for columns in spans(self.kernel.shape.out_size[1], self.kernel.tiling.columns):
            loop(columns.count, partial(tile, columns))

    def _tile(self, at: _Tile, block: _Block, rows: int, columns: int) -> None:
        """Walk over the input columns under a tile; write an output as soon as its last column is done."""
        shape, writer = self.kernel.shape, self._writers[block.lanes]
        kw = shape.kernel[1]
        reads = [(x * shape.stride[1] + tap * shape.dilation[1], x, tap) for x in range(columns) for tap in range(kw)]
        sums: dict[tuple[int, int], list[Any]] = {}
        for column in sorted({column for column, _, _ in reads}):
            readers = [(x, tap) for read, x, tap in reads if read == column]
            for y, (x, tap) in product(range(rows), readers):
                if tap == 0:
                    sums[y, x] = _registers(writer.biases(at.channel), block.lanes)
            self._column(at, block, rows, column, readers, sums)
            for y, (x, tap) in product(range(rows), readers):
                if tap == kw - 1:
                    values = [total[ramp(0, block.lanes)] for total in sums[y, x]]
                    writer.write_all(values, at.batch, at.y + y, at.x + x, at.channel, block.count)

    def _column(
        self,
        at: _Tile,
        block: _Block,
        rows: int,
        column: int,
        readers: list[tuple[int, int]],
        sums: dict[tuple[int, int], list[Any]],
    ) -> None:
        """Add what one input column gives to every window that it is in."""
        kernel, lanes = self.kernel, block.lanes
        isa = replace(kernel.isa, lanes=lanes)
        for g in range(len(kernel._groups)):
            products = [(i, dots) for i, dots in enumerate(kernel._products) if dots.group == g and dots.row < rows]
            if not products:
                continue
            activations = _registers(self._interleaved(at, block, column, [dots for _, dots in products]), lanes)
            for (i, dots), (x, tap) in product(products, readers):
                first = at.weights + (i * kernel.shape.kernel[1] + tap) * QUARTERS * lanes
                for q, total in enumerate(sums[dots.row, x]):
                    weights = self._weights[ramp(first + q * lanes, lanes)]
                    store(total, isa.dot(total[ramp(0, lanes)], activations[q][ramp(0, lanes)], weights), 0, lanes)

    def _interleaved(self, at: _Tile, block: _Block, column: int, products: list[_Product]) -> list[Expr]:
        """Rows of one group of one column; those that no product uses are replaced by one that is used."""
        rows = self.kernel._groups[products[0].group]
        used = [row for i, row in enumerate(rows) if any(dots.taps[i] is not None for dots in products)]
        chosen = [row if row in used else used[0] for row in rows]
        chosen += used[:1] * (DOT - len(rows))
        return interleave([self._activations(at, block, row, column) for row in chosen], block.lanes)

    def _activations(self, at: _Tile, block: _Block, row: int, column: int) -> Expr:
        """Channels of one input pixel, counted from the tile's first."""
        shape = self.kernel.shape
        y = at.y * shape.stride[0] + row - shape.padding[0]
        x = at.x * shape.stride[1] + column - shape.padding[1]
        vector = self._input[ramp(pixel(shape.image, at.batch, y, x) + at.channel, block.count)]
        return widened(vector, block.count, QUARTERS * block.lanes)


def _registers(values: list[Expr], lanes: int) -> list[Any]:
    registers = [register(lanes) for _ in values]
    for each, value in zip(registers, values, strict=True):
        store(each, value, 0, lanes)
    return registers
