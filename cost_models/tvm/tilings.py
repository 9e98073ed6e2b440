"""Which tilings of a kernel are worth timing."""

from itertools import product
from typing import Literal

from cost_models.tvm.kernels.depthwise import DepthwiseTiling
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Tiling
from cost_models.tvm.kernels.weights import WeightStorage
from cost_models.tvm.kernels.winograd import IN, OUT, WinogradTiling

COLUMNS = range(1, 29)
ROWS = (1, 2, 4)
BLOCKS = (1, 2, 3, 4, 6, 8, 12)
TILES = (1, 2, 3, 4)
"""Tiles of a Winograd convolution computed together."""
FEW_ROWS = 2
"""Rows of tiles whose transformed activations are soon used."""
MOST_MACS_IN_PLACE = (2**31 - 1) // (255 << 7)
"""Of an output whose weights lie in the highest bits of a byte: the sum of its activations is shifted as far."""
TRANSFORMED_BYTES = 1 << 18
"""Transformed activations that should stay in the L2 cache beside weights."""

IN_PLACE, SHIFTED = 1, 2
"""Instructions that unpack one vector of weights."""


def convolution_tilings(shape: Convolution, storage: WeightStorage, isa: Isa, *, limit: int) -> list[Tiling]:
    """Tilings of a convolution that fit the registers, those with the fewest other instructions first.

    Args:
        shape: Of the convolution.
        storage: Of its weights.
        isa: Whose registers they fill: with accumulators, and a vector of weights per block.
        limit: Tiles to return; each with several loop orders.
    """
    height, width = shape.out_size
    blocks = -(-shape.out_channels // shape.groups * shape.merged_groups // isa.lanes)
    in_place = height * width * shape.image.batch == 1 and shape.macs_per_output <= MOST_MACS_IN_PLACE
    shares = {1, storage.shares} if in_place else {1}
    tiles = [
        (rows, columns, block, share)
        for rows, columns, block, share in product(ROWS, COLUMNS, BLOCKS, sorted(shares))
        if rows <= height
        and columns <= width
        and block <= blocks
        and (rows * columns * share + 1) * block <= isa.registers
    ]

    def overhead(tile: tuple[int, int, int, int]) -> float:
        unpacking = 0 if storage.bits == 8 else SHIFTED if tile[3] == 1 else IN_PLACE
        return _overhead(tile[:3], (height, width, blocks), unpacking)

    ranked = sorted(tiles, key=overhead)[:limit]
    orders: tuple[Literal["channels", "pixels"], ...] = ("channels", "pixels")
    return [
        Tiling(rows, columns, block, order=order, in_place=share > 1)
        for (rows, columns, block, share), order in product(ranked, orders)
    ]


def bit_serial_tilings(
    shape: Convolution, weight_bits: int, activation_bits: int, isa: Isa, *, limit: int
) -> list[Tiling]:
    """Tilings of a bit-serial convolution, whose sums for every power of two have accumulators of their own."""
    powers = weight_bits + activation_bits - 1
    height, width = shape.out_size
    blocks = -(-shape.out_channels // isa.lanes)
    tiles = [
        (rows, columns, block)
        for rows, columns, block in product(ROWS, COLUMNS, BLOCKS)
        if rows <= height
        and columns <= width
        and block <= blocks
        and block * (rows * columns * powers + weight_bits) <= isa.registers
    ]
    ranked = sorted(tiles, key=lambda tile: _overhead(tile, (height, width, blocks), 0))
    return [Tiling(*tile, order="channels") for tile in ranked[:limit]]


def winograd_tilings(shape: Convolution, isa: Isa, *, limit: int) -> list[WinogradTiling]:
    """Tilings of a Winograd convolution whose sums fit the registers, those with the fewest loads first."""
    height, width = (-(-size // OUT) for size in shape.out_size)
    blocks = -(-shape.out_channels // isa.lanes)
    tiles = [
        (count, block)
        for count, block in product(TILES, BLOCKS)
        if block <= blocks and block * (count * IN + 1) <= isa.registers
    ]
    # a load of a vector takes as long as two of a word for all lanes
    ranked = sorted(tiles, key=lambda tile: ((2 * tile[1] + tile[0]) / (tile[0] * tile[1]), tile[1]))[:limit]
    row_bytes = width * IN * IN * shape.image.stored_channels * 2
    rows = {min(count, height) for count in (FEW_ROWS, max(1, TRANSFORMED_BYTES // row_bytes))}
    return [WinogradTiling(count, *tile) for tile, count in product(ranked, sorted(rows))]


def depthwise_tilings(shape: Convolution) -> list[DepthwiseTiling]:
    """Tilings of a depthwise convolution: as many rows as four interleaved ones serve, several widths."""
    orders: tuple[Literal["rows", "channels"], ...] = ("rows", "channels")
    rows = [count for count in (1, 2, 3) if count <= shape.out_size[0]]
    columns = sorted({min(count, shape.out_size[1]) for count in (2, 4, 7, 8)})
    return [DepthwiseTiling(*tile) for tile in product(rows, columns, orders)]


def _overhead(tile: tuple[int, int, int], extents: tuple[int, int, int], unpacking: int) -> float:
    """Loads and unpacking per dot product, averaged over whole and partial tiles."""
    total = 0.0
    for parts in product(*(_parts(extent, size) for extent, size in zip(extents, tile, strict=True))):
        (rows, _), (columns, _), (blocks, _) = parts
        share = parts[0][1] * parts[1][1] * parts[2][1]
        total += share * (rows * columns + blocks * (1 + unpacking)) / (rows * columns * blocks)
    return total


def _parts(extent: int, size: int) -> list[tuple[int, float]]:
    """Tile sizes that occur, and the share of the extent that each covers."""
    whole, rest = divmod(extent, size)
    return [(size, whole * size / extent)] * (whole > 0) + [(rest, rest / extent)] * (rest > 0)
