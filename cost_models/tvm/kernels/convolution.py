"""Convolution by dot products of four bytes; a linear layer is a 1x1 convolution.

A tile of ``rows x columns`` pixels times ``blocks`` vectors of output channels is kept in registers, while the kernel
walks over *runs* of activations that are contiguous in memory: whole kernel rows ``[kw, C]`` of an undilated
convolution, or single pixels. Packed weights are unpacked in registers, once for all pixels of the tile.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.ir import Expr, Kernel, bits, int32, loop, ramp, register, splat, store
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Blocks, Tile, Tiling, tile_loops
from cost_models.tvm.kernels.weights import DOT, WeightStorage
from cost_models.tvm.kernels.writer import Writer, pixel

Registers = dict[tuple[int, int, int, int], Any]
"""Accumulators of a tile by (row, column, block, share of a packed byte)."""

Sums = dict[tuple[int, int], Any]
"""Sums of the activations of a tile's pixels by (row, column), where shares count from the lowest code."""

TABLE = 64
"""Bytes of a codebook's table: its levels, repeated to fill the widest vector."""


@dataclass(frozen=True)
class ConvolutionKernel:
    """A convolution compiled for one instruction set, weight storage and tiling.

    Parameters of the function: input, weights, [table], then those of the epilogue.
    """

    shape: Convolution
    storage: WeightStorage
    epilogue: Epilogue
    isa: Isa
    tiling: Tiling

    def __post_init__(self) -> None:
        if self._run_dots % self.storage.groups:
            raise ValueError(
                f"Runs of {DOT * self._run_dots} weights do not hold whole steps of {DOT * self.storage.groups} "
                f"packed in {self.storage.bits} bits; store them wider."
            )
        if self._steps % self.tiling.unroll:
            raise ValueError(f"unroll={self.tiling.unroll} does not divide the {self._steps} steps of a run.")
        if self.tiling.in_place and self.storage.shares == 1:
            raise ValueError(f"in_place needs uniform weights of 2 or 4 bits, not {self.storage}.")
        filled = self.shape.image.channels == self.shape.image.stored_channels and self.shape.merged_groups == 1
        if not filled and (self.storage.format == "codebook" or self.storage.bits == 1):
            raise ValueError(f"{self.storage} has no zero to fill up groups of {DOT} channels with; store them wider.")

    @property
    def _groups(self) -> int:
        return self.shape.groups // self.shape.merged_groups

    @property
    def _group_in(self) -> int:
        """Stored input channels of one (merged) group."""
        return self.shape.image.stored_channels // self._groups

    @property
    def _group_out(self) -> int:
        return self.shape.out_channels // self._groups

    @property
    def _whole_rows(self) -> bool:
        """Whether a kernel row is contiguous in memory."""
        return self._groups == 1 and self.shape.dilation[1] == 1

    @property
    def _runs(self) -> list[tuple[int, int]]:
        """First tap (row, column) of each run."""
        kh, kw = self.shape.kernel
        return [(i, j) for i in range(kh) for j in range(1 if self._whole_rows else kw)]

    @property
    def _run_dots(self) -> int:
        """Dot products per run."""
        return self._group_in * (self.shape.kernel[1] if self._whole_rows else 1) // DOT

    @property
    def _steps(self) -> int:
        """Packed steps per run."""
        return self._run_dots // self.storage.groups

    @property
    def _block_vectors(self) -> int:
        """Packed vectors of one block of output channels."""
        return len(self._runs) * self._steps * self.storage.vectors

    @property
    def _blocks(self) -> Blocks:
        """Output channels of one group."""
        return Blocks(self._group_out, self.isa.lanes, self.tiling.blocks)

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights."""
        return self._groups * self._blocks.count * self._block_vectors * self.isa.lanes * DOT

    @property
    def alignment(self) -> int:
        """Power of two by which sums are scaled before they are requantized."""
        return self.storage.alignment

    @property
    def activation_offset(self) -> int:
        """What is taken off each activation."""
        return self.isa.activation_offset

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        table = [("table", "int8", TABLE)] if self.storage.format == "codebook" else []
        return [
            ("input", "uint8", self.shape.image.size_bytes),
            ("weights", "int32", self.weight_bytes // DOT),
            *table,
            *self.epilogue.pointers(),
        ]

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.int32]:
        """Weights in the order that the kernel reads them.

        Args:
            codes: ``[O, kh, kw, C / groups]``: what the storage packs; for a codebook, indices.

        Returns:
            Flat; read as (group, superblock of channels, step, block, packed vector, lane, byte).

        Raises:
            ValueError: If a code does not fit the storage.
        """
        dense = self._merged(codes)  # [groups, group_out, kh, kw, group_in]
        lanes, blocks, dots = self.isa.lanes, self._blocks.count, self.storage.groups
        padded = np.full((self._groups, blocks * lanes, *dense.shape[2:]), 1 if self.storage.bits == 1 else 0, np.int8)
        padded[:, : self._group_out] = dense
        # [groups, blocks, lanes, runs * steps, dots, 4] -> [groups, blocks, runs * steps, dots, lanes, 4]
        grouped = padded.reshape(self._groups, blocks, lanes, len(self._runs) * self._steps, dots, DOT)
        packed = self.storage.pack(grouped.transpose(0, 1, 3, 4, 2, 5), in_place=self.tiling.in_place)
        superblocks = [packed[:, some].swapaxes(1, 2).reshape(self._groups, -1) for some in self._blocks.superblocks]
        return np.concatenate(superblocks, axis=1).reshape(-1).view(np.int32)

    def pack_table(self, levels: NDArray[np.int8]) -> NDArray[np.int8]:
        """A codebook's levels ``[<= 2**bits]`` as the kernel reads them."""
        table = np.zeros(2**self.storage.bits, np.int8)
        table[: len(levels)] = levels
        return np.resize(table, TABLE)

    def _merged(self, codes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Groups side by side as blocks of a block-diagonal weight, input channels padded to the stored ones."""
        merged, (kh, kw) = self.shape.merged_groups, self.shape.kernel
        out, inside = self.shape.out_channels // self.shape.groups, self.shape.image.channels // self.shape.groups
        blocks = codes.reshape(self._groups, merged, out, kh, kw, inside)
        dense = np.zeros((self._groups, merged, out, kh, kw, self._group_in), np.int8)
        for i in range(merged):
            dense[:, i, ..., i * inside : (i + 1) * inside] = blocks[:, i]
        return dense.reshape(self._groups, merged * out, kh, kw, self._group_in)

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as buffers:
            _Body(self, buffers).emit()
        return kernel.function


@dataclass(frozen=True)
class _Place:
    """A tile of one group of one image."""

    batch: Expr
    group: Expr
    tile: Tile


class _Body:
    """Emits the loops of a kernel."""

    def __init__(self, kernel: ConvolutionKernel, buffers: list[Any]) -> None:
        self.kernel = kernel
        self._input, self._weights, *rest = buffers
        self._table_buffer = rest.pop(0) if kernel.storage.format == "codebook" else None
        self._writer = Writer(kernel.epilogue, kernel.isa.lanes, rest)

    def emit(self) -> None:
        """Everything."""
        self._writer.write_rings()
        kernel = self.kernel

        def image(group: Expr, batch: Expr) -> None:
            tile_loops(
                kernel.shape.out_size,
                kernel._blocks,
                kernel.tiling,
                lambda tile: self._tile(_Place(batch, group, tile)),
            )

        loop(kernel._groups, lambda group: loop(kernel.shape.image.batch, partial(image, group)))

    def _tile(self, at: _Place) -> None:
        """Accumulate, requantize and store one tile."""
        kernel, tile, lanes = self.kernel, at.tile, self.kernel.isa.lanes
        shares = kernel.storage.shares if kernel.tiling.in_place else 1
        pixels = list(product(range(tile.rows), range(tile.columns)))
        registers = {(*yx, j, i): register(lanes) for yx, j, i in product(pixels, range(tile.blocks), range(shares))}
        sums = {yx: register(lanes) for yx in pixels if shares > 1}
        channel = at.group * kernel._group_out + tile.block * lanes
        zero = splat(int32(0), lanes)
        for (_, _, j, share), accumulator in registers.items():
            store(accumulator, self._writer.bias(channel + j * lanes) if share == shares - 1 else zero, 0, lanes)
        for accumulator in sums.values():
            store(accumulator, zero, 0, lanes)
        self._accumulate(at, registers, sums)
        for (y, x), j in product(pixels, range(tile.blocks)):
            parts = [registers[y, x, j, share][ramp(0, lanes)] for share in range(shares)]
            total = self._combined(parts, sums[y, x][ramp(0, lanes)]) if sums else parts[0]
            count = kernel._blocks.channels_in(tile.block + j)
            self._writer.write(total, at.batch, tile.y + y, tile.x + x, channel + j * lanes, count)

    def _combined(self, parts: list[Expr], total: Expr) -> Expr:
        """Accumulators of all shares, aligned, less what all but the top one count too much: 2**7 times ``total``."""
        lanes, width = self.kernel.isa.lanes, self.kernel.storage.bits
        value = parts[-1] - (total << splat(int32(7), lanes))
        for share, part in enumerate(parts[:-1]):
            value = value + (part << splat(int32(8 - width * (share + 1)), lanes))
        return value

    def _accumulate(self, at: _Place, registers: Registers, sums: Sums) -> None:
        """Walk over all runs."""
        kernel, unroll = self.kernel, self.kernel.tiling.unroll
        kh, kw = kernel.shape.kernel

        def steps(tap: tuple[Expr, Expr], first: Expr) -> None:
            for u in range(unroll):
                self._step(at, registers, sums, tap, first * unroll + u)

        def run(i: Expr, j: Expr) -> None:
            loop(kernel._steps // unroll, partial(steps, (i, j)))

        loop(kh, lambda i: loop(1 if kernel._whole_rows else kw, partial(run, i)))

    def _step(self, at: _Place, registers: Registers, sums: Sums, tap: tuple[Expr, Expr], step: Expr) -> None:
        """One packed step of every block against every pixel."""
        isa, storage = self.kernel.isa, self.kernel.storage
        packed = self._packed(at, tap, step)
        for group in range(storage.groups):
            share = group % storage.shares if sums else 0
            weights = [
                storage.unpack_in_place(vectors, group, isa)
                if sums
                else storage.unpack(vectors, group, isa, self._table())
                for vectors in packed
            ]
            for y, x in sorted({(y, x) for y, x, _, _ in registers}):
                start = self._activation(at, y, x, tap) + (step * storage.groups + group) * DOT
                activations = splat(bits("int32", self._input[ramp(start, DOT)]), isa.lanes)
                for j in range(at.tile.blocks):
                    self._add(registers[y, x, j, share], activations, weights[j])
                if sums and share < storage.shares - 1:
                    self._add(sums[y, x], activations, splat(int32(0x01010101), isa.lanes))

    def _add(self, accumulator: Any, activations: Expr, weights: Expr) -> None:
        isa = self.kernel.isa
        store(accumulator, isa.dot(accumulator[ramp(0, isa.lanes)], activations, weights), 0, isa.lanes)

    def _packed(self, at: _Place, tap: tuple[Expr, Expr], step: Expr) -> list[list[Expr]]:
        """Packed vectors of each block's step."""
        kernel, vectors, blocks = self.kernel, self.kernel.storage.vectors, at.tile.blocks
        columns = 1 if kernel._whole_rows else kernel.shape.kernel[1]
        run = tap[0] * columns + tap[1]
        superblock = (at.group * kernel._blocks.count + at.tile.block) * kernel._block_vectors
        first = superblock + (run * kernel._steps + step) * blocks * vectors
        lanes = kernel.isa.lanes
        return [
            [self._weights[ramp((first + j * vectors + v) * lanes, lanes)] for v in range(vectors)]
            for j in range(blocks)
        ]

    def _activation(self, at: _Place, y: int, x: int, tap: tuple[Expr, Expr]) -> Expr:
        """Index of the first activation of a run."""
        shape = self.kernel.shape
        row = (at.tile.y + y) * shape.stride[0] + tap[0] * shape.dilation[0] - shape.padding[0]
        column = (at.tile.x + x) * shape.stride[1] + tap[1] * shape.dilation[1] - shape.padding[1]
        return pixel(shape.image, at.batch, row, column) + at.group * self.kernel._group_in

    def _table(self) -> Expr:
        """The codebook, as :meth:`Isa.look_up` takes it."""
        if self._table_buffer is None or self.kernel.isa.name == "portable":
            return self._table_buffer
        return self._table_buffer[ramp(0, DOT * self.kernel.isa.lanes)]
