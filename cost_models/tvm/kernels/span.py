"""Ranges cut into equal tiles."""

from dataclasses import dataclass


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
