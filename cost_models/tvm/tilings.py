"""Which tilings of a kernel are worth timing."""

from collections.abc import Iterable
from itertools import product

from cost_models.tvm.kernels.convolution import Convolution, Tiling
from cost_models.tvm.kernels.isa import Isa

COLUMNS = range(1, 17)
ROWS = (1, 2, 4)
BLOCKS = (1, 2, 3, 4, 6, 8, 12, 16)


def convolution_tilings(shape: Convolution, isa: Isa, steps: int, *, limit: int) -> list[Tiling]:
    """Tilings of a convolution that fit the registers, those that read least from the cache first.

    Args:
        shape: Of the convolution.
        isa: Whose registers they fill.
        steps: Packed steps per run, which ``unroll`` divides.
        limit: How many to return.
    """
    height, width = shape.out_size
    blocks = -(-shape.out_channels // shape.groups * shape.merged_groups // isa.lanes)
    tiles = [
        (rows, columns, block)
        for rows, columns, block in product(ROWS, COLUMNS, BLOCKS)
        if rows <= height and columns <= width and block <= blocks and rows * columns * block <= isa.registers
    ]
    ranked = sorted(tiles, key=lambda tile: _loads(tile, (height, width, blocks)))
    return [
        Tiling(*tile, unroll=unroll, order=order)
        for tile in ranked[:limit]
        for unroll in (1, 2)
        if steps % unroll == 0
        for order in ("channels", "pixels")
    ]


def _loads(tile: tuple[int, int, int], extents: tuple[int, int, int]) -> float:
    """Loads per dot product, averaged over whole and partial tiles, with a floor for what hides behind the arithmetic."""
    return sum(
        share * (rows * columns + blocks) / (rows * columns * blocks)
        for (rows, row_share), (columns, column_share), (blocks, block_share) in product(
            *(_parts(extent, size) for extent, size in zip(extents, tile, strict=True))
        )
        for share in (row_share * column_share * block_share,)
    )


def _parts(extent: int, size: int) -> Iterable[tuple[int, float]]:
    """Tile sizes that occur and the share of the extent that each covers."""
    whole, rest = divmod(extent, size)
    return [(size, whole * size / extent)] + ([(rest, rest / extent)] if rest else [])
