"""Exact 3x3 convolution in a quarter of the products: Winograd's F(4x4, 3x3) in integers.

Four outputs in a row of a one-dimensional convolution of six inputs ``d`` by three weights ``g`` are
``A' [(G g) * (B' d)] / 24``, with ``G`` below, ``B'`` in ``_input_transform`` and ``A'`` in ``_output_transform``; so a
tile of 4x4 outputs takes 36 products instead of 144. Scaled so, every transform has whole coefficients, and transformed
weights and activations fit in int16. All that follows is computed modulo 2**32, where dividing by 24**2 = 9 * 64 is
exact: multiply by the inverse of 9, then shift by 6 bits. That gives the sum modulo 2**26, which is enough where it
lies between -2**25 and 2**25, whatever overflowed before.

Products of int16 take twice the time of those of bytes, so that half the time is left, plus the transforms'.

Reference: Lavin and Gray 2016, arXiv:1509.09308, section 4.3, for points 0, 1, -1, 2 and -2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.ir import (
    SCRATCH,
    Expr,
    Kernel,
    bits,
    cast,
    int32,
    loop,
    ramp,
    register,
    splat,
    store,
    wrapped,
)
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.span import Span, tiles
from cost_models.tvm.kernels.tiling import Blocks
from cost_models.tvm.kernels.writer import Writer, pixel

OUT, IN = 4, 6
"""Outputs of a tile, and inputs under it, in each direction."""

G = np.array([(6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 12)])
"""Transforms weights. Its last row is half of 24, and the last column of ``A'`` twice 1, to stay within int16."""

OFFSET = 128
"""Taken off each activation, so that sums have either sign and the least magnitude."""
OFFSET_TRANSFORMED = 36 * OFFSET
"""What the offset becomes: all columns of ``B`` but the second sum to zero, and that one to -6."""

STORED_BITS = 16 * IN * IN // 9
"""Memory per weight: each 3x3 kernel becomes 36 int16."""

INVERSE_OF_9 = pow(9, -1, 2**32)
SHIFT = 6
SUM_LIMIT = 2 ** (31 - SHIFT)
"""What sums stay below in magnitude: shifted so far up, they still have their sign."""
MOST_CHANNELS = (SUM_LIMIT - 1) // (9 * 128 * OFFSET)
"""Input channels whose sum of nine products each, of -128 by -128, stays below."""


@dataclass(frozen=True)
class WinogradTiling:
    """Knobs of a Winograd kernel.

    Attributes:
        rows: Rows of tiles that are transformed before their products are formed.
        tiles: Tiles whose products are formed together.
        blocks: Vectors of output channels formed together.
    """

    rows: int = 1
    tiles: int = 4
    blocks: int = 1


@dataclass(frozen=True)
class WinogradKernel:
    """A 3x3 convolution compiled for one instruction set and tiling.

    Parameters of the function: input, weights, scratch, then those of the epilogue.

    Attributes:
        shape: Ungrouped, 3x3, of stride 1.
        epilogue: What is done with the sums.
        isa: Whose vectors are used.
        tiling: Knobs.
    """

    shape: Convolution
    epilogue: Epilogue
    isa: Isa
    tiling: WinogradTiling = WinogradTiling()

    def __post_init__(self) -> None:
        shape = self.shape
        if (shape.kernel, shape.stride, shape.dilation, shape.groups) != ((3, 3), (1, 1), (1, 1), 1):
            raise ValueError(f"The Winograd kernel computes ungrouped 3x3 convolutions of stride 1, not {shape}.")
        if any(size % OUT for size in shape.out_size):
            raise ValueError(
                f"The Winograd kernel computes outputs whose sides are multiples of 4, not {shape.out_size}."
            )
        if shape.image.channels > MOST_CHANNELS:
            raise ValueError(
                f"The Winograd kernel's sums are exact for at most {MOST_CHANNELS} input channels, "
                f"not {shape.image.channels}."
            )

    @property
    def _words(self) -> int:
        """Pairs of input channels."""
        return self.shape.image.stored_channels // 2

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.shape.out_channels, self.isa.lanes, self.tiling.blocks)

    @property
    def _grid(self) -> tuple[int, int]:
        """Tiles of an image, (vertical, horizontal)."""
        height, width = self.shape.out_size
        return height // OUT, width // OUT

    @property
    def _transformed(self) -> int:
        """int32 words of the transformed input of a group of tile rows."""
        return min(self.tiling.rows, self._grid[0]) * self._grid[1] * IN * IN * self._words

    @property
    def _block_vectors(self) -> int:
        """Weight vectors of one block of output channels."""
        return IN * IN * self._words

    @property
    def alignment(self) -> int:
        """Power of two by which sums are scaled before they are requantized."""
        return 0

    @property
    def activation_offset(self) -> int:
        """What is taken off each activation."""
        return OFFSET

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        halves = self.tiling.tiles * self.tiling.blocks * IN * OUT * self.isa.lanes
        return [
            ("input", "uint8", self.shape.image.size_bytes),
            ("weights", "int32", self._blocks.count * self._block_vectors * self.isa.lanes),
            (SCRATCH, "int32", self._transformed + halves),
            *self.epilogue.pointers(),
        ]

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.int32]:
        """Transformed weights in the order that the kernel reads them.

        Args:
            codes: ``[O, 3, 3, C]``.

        Returns:
            Flat; read as (superblock of channels, row of positions, pair of input channels, position, block, lane,
            channel of the pair), where the last are int16.
        """
        out_channels, _, _, channels = codes.shape
        lanes, blocks = self.isa.lanes, self._blocks.count
        dense = np.zeros((blocks * lanes, IN, IN, 2 * self._words), np.int16)
        dense[:out_channels, ..., :channels] = np.einsum("iy,jx,oyxc->oijc", G, G, codes.astype(np.int64))
        # [blocks * lanes, IN, IN, 2 * words] -> [blocks, IN, words, IN, lanes, 2]
        ordered = dense.reshape(blocks, lanes, IN, IN, self._words, 2).transpose(0, 2, 4, 3, 1, 5)
        superblocks = [np.moveaxis(ordered[some], 0, 3).ravel() for some in self._blocks.superblocks]
        return np.concatenate(superblocks).view(np.int32)

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as buffers:
            _Body(self, buffers).emit()
        return kernel.function


class _Body:
    """Emits the loops of a kernel."""

    def __init__(self, kernel: WinogradKernel, buffers: list[Any]) -> None:
        self.kernel = kernel
        self._input, self._weights, self._scratch, *rest = buffers
        self._writer = Writer(kernel.epilogue, kernel.isa.lanes, rest)

    def emit(self) -> None:
        """Everything."""
        self._writer.write_rings()
        rows = self.kernel._grid[0]
        loop(self.kernel.shape.image.batch, lambda n: tiles(rows, self.kernel.tiling.rows, partial(self._rows, n)))

    def _rows(self, batch: Expr, first: Expr, rows: int) -> None:
        """All outputs of some rows of tiles: transform their input, then go over all blocks of output channels."""
        kernel, count = self.kernel, rows * self.kernel._grid[1]
        loop(count, lambda tile: self._transform(batch, first, tile))

        def superblock(blocks: Span, index: Expr) -> None:
            start = blocks.start + index * blocks.size
            tiles(
                count, kernel.tiling.tiles, lambda tile, some: self._tiles(batch, first, tile, some, start, blocks.size)
            )

        for blocks in kernel._blocks.spans:
            loop(blocks.count, partial(superblock, blocks))

    def _place(self, first: Expr, tile: Expr) -> tuple[Expr, Expr]:
        """First output row and column of a tile, counted from the group's first row of tiles."""
        columns = self.kernel._grid[1]
        return (first + tile // columns) * OUT, tile % columns * OUT

    def _transform(self, batch: Expr, first: Expr, tile: Expr) -> None:
        """Transformed activations under a tile, int16 ``[IN, IN, C]``."""
        image, (top, left) = self.kernel.shape.image, self.kernel.shape.padding
        y, x = self._place(first, tile)
        start = pixel(image, batch, y - top, x - left)
        row_bytes = image.stored[2] * image.stored_channels

        def channels(channel: Expr, count: int) -> None:
            dtype = f"int16x{count}"

            def activations(i: int, j: int) -> Expr:
                at = start + i * row_bytes + j * image.stored_channels + channel
                return _held(cast(dtype, self._input[ramp(at, count)]), count, "int16")

            columns = [_input_transform([activations(i, j) for i in range(IN)], count) for j in range(IN)]
            rows = [_input_transform([column[i] for column in columns], count) for i in range(IN)]
            rows[1][1] = rows[1][1] - splat(T.int16(OFFSET_TRANSFORMED), count)
            for i, j in product(range(IN), range(IN)):
                at = ((tile * IN + i) * IN + j) * self.kernel._words + channel // 2
                store(self._scratch, bits(f"int32x{count // 2}", rows[i][j]), at, count // 2)

        tiles(image.stored_channels, 2 * self.kernel.isa.lanes, channels)

    def _tiles(self, batch: Expr, first: Expr, tile: Expr, count: int, block: Expr, blocks: int) -> None:
        """Outputs of some tiles for some blocks of output channels."""
        loop(IN, lambda i: self._products(tile, count, block, blocks, i))
        for t, b in product(range(count), range(blocks)):
            y, x = self._place(first, tile + t)
            self._outputs(t * blocks + b, batch, y, x, block + b)

    def _products(self, tile: Expr, count: int, block: Expr, blocks: int, i: Expr) -> None:
        """Sums over input channels for one row of positions, transformed to four columns of outputs."""
        kernel, lanes, words = self.kernel, self.kernel.isa.lanes, self.kernel._words
        places = list(product(range(count), range(blocks), range(IN)))
        sums = {place: register(lanes) for place in places}
        for total in sums.values():
            store(total, splat(int32(0), lanes), 0, lanes)
        weights_row = block * kernel._block_vectors + i * words * IN * blocks
        activations_row = ((tile * IN + i) * IN) * words

        def pair(word: Expr) -> None:
            for j in range(IN):
                start = weights_row + (word * IN + j) * blocks
                weights = [self._weights[ramp((start + b) * lanes, lanes)] for b in range(blocks)]
                for t in range(count):
                    activations = splat(self._scratch[activations_row + (t * IN * IN + j) * words + word], lanes)
                    for b in range(blocks):
                        total = sums[t, b, j]
                        store(total, kernel.isa.dot_pairs(total[ramp(0, lanes)], activations, weights[b]), 0, lanes)

        loop(words, pair)
        for t, b in product(range(count), range(blocks)):
            halves = _output_transform([sums[t, b, j][ramp(0, lanes)] for j in range(IN)], lanes)
            for x, half in enumerate(halves):
                store(self._scratch, half, self._half(t * blocks + b, i, x), lanes)

    def _half(self, slot: int, i: Expr, x: int) -> Expr:
        """Index of a vector that is transformed in one direction only."""
        return self.kernel._transformed + ((slot * IN + i) * OUT + x) * self.kernel.isa.lanes

    def _outputs(self, slot: int, batch: Expr, y: Expr, x: Expr, block: Expr) -> None:
        """Transform the other direction, divide, requantize and store a tile's 4x4 outputs."""
        lanes, channel = self.kernel.isa.lanes, block * self.kernel.isa.lanes
        count = self.kernel._blocks.channels_in(block)
        for column in range(OUT):
            halves = [_held(self._scratch[ramp(self._half(slot, i, column), lanes)], lanes) for i in range(IN)]
            for row, total in enumerate(_output_transform(halves, lanes)):
                scaled = wrapped("mul", total, splat(int32(INVERSE_OF_9), lanes), lanes)
                value = (scaled >> splat(int32(SHIFT), lanes)) + self._writer.bias(channel)
                self._writer.write(_held(value, lanes), batch, y + row, x + column, channel, count)


def _held(value: Expr, lanes: int, dtype: str = "int32") -> Expr:
    """A vector computed once and used several times."""
    held = register(lanes, dtype)
    store(held, value, 0, lanes)
    return held[ramp(0, lanes)]


def _input_transform(d: Sequence[Expr], lanes: int) -> list[Expr]:
    """``B' d`` of six int16 vectors."""
    one, two = splat(T.int16(1), lanes), splat(T.int16(2), lanes)
    even, odd = d[4] - (d[2] << two), d[3] - (d[1] << two)
    near, far = _held(d[4] - d[2], lanes, "int16"), _held((d[3] - d[1]) << one, lanes, "int16")
    even, odd = _held(even, lanes, "int16"), _held(odd, lanes, "int16")
    every = [
        ((d[0] - d[2]) << two) + near,
        even + odd,
        even - odd,
        near + far,
        near - far,
        d[5] - d[3] - (far << one),
    ]
    return [_held(value, lanes, "int16") for value in every]


def _output_transform(m: Sequence[Expr], lanes: int) -> list[Expr]:
    """``A' m`` of six int32 vectors, modulo 2**32."""

    def add(a: Expr, b: Expr) -> Expr:
        return _held(wrapped("add", a, b, lanes), lanes)

    def subtract(a: Expr, b: Expr) -> Expr:
        return _held(wrapped("sub", a, b, lanes), lanes)

    near, near_difference = add(m[1], m[2]), subtract(m[1], m[2])
    far, far_difference = add(m[3], m[4]), subtract(m[3], m[4])

    def times(value: Expr, power: int) -> Expr:
        return value << splat(int32(power), lanes)

    return [
        add(add(m[0], near), far),
        add(near_difference, times(far_difference, 1)),
        add(near, times(far, 2)),
        add(add(near_difference, times(far_difference, 3)), times(m[5], 1)),
    ]
