"""How a column's values are shown to a reader: a name and a unit that keeps the numbers short."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = {
    "top1": "top-1",
    "search_top1": "search top-1",
    "test_top1": "test top-1",
    "kl": "KL divergence from float",
    "agreement": "images classified as by float",
    "latency_s": "latency per image",
    "energy_j": "energy per image",
    "size_bytes": "storage size",
    "bops": "bit operations per image",
}
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
# Largest unit first; 1 KB = 1000 bytes. The last one takes whatever is smaller.
_UNITS = {
    "latency_s": _SECONDS,
    "measured_latency_s": _SECONDS,
    "energy_j": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ")),
    "size_bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
    "bops": ((1e12, "TBOPs"), (1e9, "GBOPs"), (1e6, "MBOPs"), (1e3, "kBOPs"), (1.0, "BOPs")),
}


def name_of(column: str) -> str:
    """A column's name in words; a column without one keeps its own."""
    return _NAMES.get(column, column)


def unit_of(column: str, largest: float) -> tuple[float, str]:
    """The unit for a column whose largest value is ``largest``.

    Args:
        column: A column of a run folder's tables; accuracies are in percent.
        largest: In the column's own unit (seconds, joules, bytes, bit operations).

    Returns:
        What to divide by, and the unit's name.
    """
    if column not in _UNITS:
        return 1.0, "%" if column.endswith(("top1", "agreement")) else "nats" if column == "kl" else ""
    return next((unit for unit in _UNITS[column] if largest >= unit[0]), _UNITS[column][-1])


def in_words(point: Mapping[str, float]) -> str:
    """A point of the objective space in words: ``top-1 81.3 %, latency per image 1.23 ms``."""
    words = []
    for column, value in point.items():
        divisor, unit = unit_of(column, value)
        number = f"{value:.2f}" if unit == "%" else f"{value / divisor:.4g}"
        words.append(f"{name_of(column)} {number} {unit}".rstrip())
    return ", ".join(words)
