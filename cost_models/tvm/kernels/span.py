"""Ranges cut into equal tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.ir import Expr, loop


@dataclass(frozen=True)
class Span:
    """A loop over equal tiles of a range.

    Attributes:
        start: First index.
        size: Indices per tile.
        count: Tiles.
    """

    start: int
    size: int
    count: int


def spans(extent: int, size: int) -> list[Span]:
    """Whole tiles, then one smaller tile for the rest."""
    whole, rest = divmod(extent, size)
    parts = [Span(0, size, whole)] if whole else []
    return [*parts, Span(whole * size, rest, 1)] if rest else parts


def tiles(extent: int, size: int, body: Callable[[Expr, int], None]) -> None:
    """Emit ``body(start, size)`` for every tile of a range."""
    for span in spans(extent, size):
        loop(span.count, partial(_tile, span, body))


def _tile(span: Span, body: Callable[[Expr, int], None], index: Expr) -> None:
    body(span.start + index * span.size, span.size)


def vectors(image: Image, lanes: int, body: Callable[[Expr, Expr, Expr, Expr, int], None]) -> None:
    """Emit ``body(batch, y, x, channel, count)`` for every vector of channels of every pixel."""

    def one(batch: Expr, y: Expr, x: Expr) -> None:
        tiles(image.channels, lanes, partial(body, batch, y, x))

    def row(batch: Expr, y: Expr) -> None:
        loop(image.width, partial(one, batch, y))

    loop(image.batch, lambda batch: loop(image.height, partial(row, batch)))
