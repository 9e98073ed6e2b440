"""How the outputs of a convolution are cut into tiles, and the loops over these."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from cost_models.tvm.kernels.ir import Expr, loop
from cost_models.tvm.kernels.span import Span, spans


@dataclass(frozen=True)
class Tiling:
    """Knobs of a convolution kernel.

    Attributes:
        rows: Output rows of a tile.
        columns: Output columns of a tile.
        blocks: Vectors of output channels of a tile.
        unroll: Packed steps per iteration of the innermost loop.
        order: Whether ``"channels"`` or ``"pixels"`` are the outer loop: what is reused from the cache is the weights
            of a block in the first case, the activations of a tile in the second.
        in_place: Whether the 4- or 2-bit weights of a byte have accumulators of their own, and are not shifted: pays
            where a tile has few pixels.
    """

    rows: int = 1
    columns: int = 8
    blocks: int = 1
    unroll: int = 1
    order: Literal["channels", "pixels"] = "channels"
    in_place: bool = False


@dataclass(frozen=True)
class Tile:
    """Where a tile lies: its first row, column and block of output channels; its size."""

    y: Expr
    x: Expr
    block: Expr
    rows: int
    columns: int
    blocks: int


@dataclass(frozen=True)
class Blocks:
    """Output channels in vectors, and these in superblocks that a tile computes together.

    Attributes:
        channels: Output channels.
        lanes: Channels per vector.
        size: Vectors of a superblock; the last has the rest.
    """

    channels: int
    lanes: int
    size: int

    @property
    def count(self) -> int:
        """Vectors."""
        return -(-self.channels // self.lanes)

    @property
    def spans(self) -> list[Span]:
        """Superblocks; one that ends within a vector is in no loop, so that its place is known while code is built."""
        parts = spans(self.count, self.size)
        last = parts[-1]
        if self.channels % self.lanes and last.count > 1:
            end = last.start + (last.count - 1) * last.size
            parts[-1:] = [Span(last.start, last.size, last.count - 1), Span(end, last.size, 1)]
        return parts

    @property
    def superblocks(self) -> Iterator[slice]:
        """Vectors of each superblock."""
        for span in self.spans:
            for first in range(span.start, span.start + span.count * span.size, span.size):
                yield slice(first, first + span.size)

    def channels_in(self, block: Expr) -> int:
        """Channels that a vector holds."""
        return min(self.lanes, self.channels - block * self.lanes) if isinstance(block, int) else self.lanes


def tile_loops(out_size: tuple[int, int], blocks: Blocks, tiling: Tiling, body: Callable[[Tile], None]) -> None:
    """Emit ``body`` for every tile of one image."""
    for superblocks in blocks.spans:
        for rows in spans(out_size[0], tiling.rows):
            for columns in spans(out_size[1], tiling.columns):
                _tiles(superblocks, rows, columns, tiling.order, body)


def _tiles(blocks: Span, rows: Span, columns: Span, order: str, body: Callable[[Tile], None]) -> None:
    """All tiles of one size."""

    def tile(block: Expr, y: Expr, x: Expr) -> None:
        first = rows.start + y * rows.size, columns.start + x * columns.size, blocks.start + block * blocks.size
        body(Tile(*first, rows.size, columns.size, blocks.size))

    if order == "channels":
        loop(blocks.count, lambda block: loop(rows.count, lambda y: loop(columns.count, lambda x: tile(block, y, x))))
    else:
        loop(rows.count, lambda y: loop(columns.count, lambda x: loop(blocks.count, lambda block: tile(block, y, x))))
