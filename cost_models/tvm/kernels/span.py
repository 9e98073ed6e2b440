"""Ranges cut into equal tiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.ir import Expr, loop

Value = TypeVar("Value")


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


def runs(values: Sequence[Value]) -> list[tuple[Value, Span]]:
    """Different values in a row, each with where its repetitions lie."""
    found, start = [], 0
    for value, equal in groupby(values):
        count = len(list(equal))
        found.append((value, Span(start, 1, count)))
        start += count
    return found


def pixels(image: Image, body: Callable[[Expr, Expr, Expr], None]) -> None:
    """Emit ``body(batch, y, x)`` for every pixel."""

    def row(batch: Expr, y: Expr) -> None:
        loop(image.width, partial(body, batch, y))

    loop(image.batch, lambda batch: loop(image.height, partial(row, batch)))


def vectors(image: Image, lanes: int, body: Callable[[Expr, Expr, Expr, Expr, int], None]) -> None:
    """Emit ``body(batch, y, x, channel, count)`` for every vector of channels of every pixel."""
    pixels(image, lambda batch, y, x: tiles(image.channels, lanes, partial(body, batch, y, x)))
