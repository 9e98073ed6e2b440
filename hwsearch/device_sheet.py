"""A device as tables that people can read, under the names that its file gives to things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from math import floor, log10
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cost_models import CostModel, LayerSpec, Measuring, Precision
from cost_models.device_file import DeviceFile, Sourced

LAYERS = (
    LayerSpec("3x3", "conv2d", 64, 64, (3, 3), padding=(1, 1), in_size=(56, 56), out_size=(56, 56)),
    LayerSpec("1x1", "conv2d", 128, 128, in_size=(28, 28), out_size=(28, 28)),
    LayerSpec("depthwise", "conv2d", 128, 128, (3, 3), padding=(1, 1), groups=128, in_size=(28, 28), out_size=(28, 28)),
    LayerSpec("linear", "linear", 1024, 1000),
)
"""What effective rates are shown for: convolutions of 64 channels, 56x56, and of 128, 28x28; 1024 to 1000 features."""

PREFIXES = {4: "T", 3: "G", 2: "M", 1: "k", 0: "", -1: "m", -2: "µ", -3: "n"}
UNITS = {
    **{"macs_per_s": "MAC/s", "values_per_s": "values/s", "bytes_per_s": "B/s"},
    **{"bytes": "B", "hz": "Hz", "s": "s", "w": "W"},
}
"""By the end of a field's name; the first that fits counts."""


def render_device(device: CostModel) -> RenderableType:
    """Identity, constants, rates, memories, sources, validation figures and notes.

    Args:
        device: What ``cost_models.load_device`` returned.
    """
    about = (type(device).__doc__ or "").strip().partition("\n")[0]
    parts: list[RenderableType] = [Text(device.name, style="bold")]
    if isinstance(device, DeviceFile):
        parts.append(Text(f"{device.chip}; {device.runtime}"))
    parts += [
        Text(f"Costs are {device.cost_source}, per image at batch {device.batch}."),
        Text(f"{type(device).__name__}: {about}", style="dim"),
    ]
    parts += _titled("Constants", _constants(device))
    for name, entries in _lists(device):
        parts += _titled(f"{name[:1].upper()}{name[1:]}", _entries(entries))
    if not isinstance(device, Measuring):
        parts += _titled("GMAC/s at some layers, and what bounds them", _effective_rates(device))
    if isinstance(device, DeviceFile):
        parts += _titled("Sources", _sources(device))
        parts += _titled("Agreement with figures", _validation(device))
        if device.calibration is not None:
            fitted = ", ".join(device.calibration.fitted)
            parts.append(Text(f"Fitted: {fitted}; to {device.calibration.data or 'nothing yet'}."))
    return Group(*parts, *(Text(f"Note: {warning}", style="yellow") for warning in device.warnings))


def quantity(field: str, value: float) -> str:
    """A number in the unit that its field's name ends in: 3.2e11 of ``bytes_per_s`` is ``320 GB/s``."""
    unit = next((unit for end, unit in UNITS.items() if f"_{field}".endswith(f"_{end}")), "")
    if not unit or not value:
        return f"{value:.4g} {unit}".rstrip()
    power = max(min(floor(log10(abs(value)) / 3), max(PREFIXES)), min(PREFIXES))
    return f"{value / 1000.0**power:.4g} {PREFIXES[power]}{unit}"


def _titled(title: str, table: Table) -> list[RenderableType]:
    return [Text(), Text(title, style="bold"), table] if table.row_count else []


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")  # long names break between words
    return table


def _own_fields(device: CostModel) -> Iterator[tuple[Field[Any], Any]]:
    """What a kind of device adds to the fields that every file has."""
    shared = {field.name for field in fields(DeviceFile)}
    own: tuple[Field[Any], ...] = fields(device) if is_dataclass(device) else ()
    for field in own:
        value = getattr(device, field.name)
        if field.name not in shared and value is not None:
            yield field, value


def _lists(device: CostModel) -> Iterator[tuple[str, Sequence[Sourced]]]:
    """Sections that a file has several of: compute, memory."""
    for field, value in _own_fields(device):
        if isinstance(value, tuple) and value and isinstance(value[0], Sourced):
            yield field.name, value


def _constants(device: CostModel) -> Table:
    """Single values, and those of sections that there is one of."""
    table = _table("field", "value", "meaning", "source")
    lists = {name for name, _ in _lists(device)}
    source = ", ".join(device.source) if isinstance(device, DeviceFile) else ""
    for field, value in _own_fields(device):
        if is_dataclass(value):
            for inner in _given(value):
                words, keys = _words(inner.name, getattr(value, inner.name)), getattr(value, "source", ())
                table.add_row(f"{field.name}.{inner.name}", words, _meaning(value, inner), ", ".join(keys))
        elif field.name not in lists and value != ():
            table.add_row(field.name, _words(field.name, value), _meaning(device, field), source)
    return table


def _entries(entries: Sequence[Sourced]) -> Table:
    """A row per entry, a column per field that any entry gives."""
    given = {field.name for entry in entries for field in _given(entry)}
    columns = [field.name for field in fields(entries[0]) if field.name in given] + ["source"]
    table = _table(*columns)
    for entry in entries:
        table.add_row(*(_words(column, getattr(entry, column)) for column in columns))
    return table


def _given(section: Any) -> list[Field[Any]]:
    """Fields that differ from their defaults."""
    return [
        field
        for field in fields(section)
        if field.name != "source" and (field.default is MISSING or getattr(section, field.name) != field.default)
    ]


def _words(field: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return " ".join(str(value).split())
    if isinstance(value, int | float):
        return quantity(field, value)
    if isinstance(value, tuple):
        run = len(value) > 2 and all(isinstance(v, int) for v in value) and all(b == a + 1 for a, b in pairwise(value))
        pairs = ["x".join(map(str, item)) if isinstance(item, tuple) else _words("", item) for item in value]
        return f"{value[0]} to {value[-1]}" if run else ", ".join(pairs)
    return str(value)


def _meaning(section: object, field: Field[Any]) -> str:
    # pydantic reads the docstrings of a class's own attributes, not of those that it inherits
    own = (getattr(kind, "__pydantic_fields__", {}).get(field.name) for kind in type(section).__mro__)
    description = next((info.description for info in own if info and info.description), "")
    return " ".join(description.replace("``", "").split())


def _effective_rates(device: CostModel) -> Table:
    """Uniform precisions and those with the widest activations."""
    choices = {layer: set(device.precisions(layer)) for layer in LAYERS}
    widest = max((p.activation_bits for found in choices.values() for p in found), default=0)
    shown = sorted(
        {p for found in choices.values() for p in found if p.activation_bits in (p.weight_bits, widest)}, reverse=True
    )
    table = _table("", *(layer.name for layer in LAYERS))
    for precision in shown:
        cells = [_rate(device, layer, precision) if precision in choices[layer] else "" for layer in LAYERS]
        table.add_row(str(precision), *cells)
    return table


def _rate(device: CostModel, layer: LayerSpec, precision: Precision) -> str:
    cost = device.layer_cost(layer, precision)
    if not cost.latency_s:
        return ""
    rate = layer.macs / cost.latency_s / 1e9
    digits = f"{rate:.0f}" if rate >= 1000 else f"{rate:.4g}"
    return f"{digits} {cost.bound_by or ''}".rstrip()


def _sources(device: DeviceFile) -> Table:
    table = _table("key", "kind", "uncertainty", "what")
    for key, source in device.sources.items():
        uncertainty = "" if source.uncertainty is None else f"±{source.uncertainty:.0%}"
        table.add_row(key, source.kind, uncertainty, f"{source.cite}{f' {source.url}' if source.url else ''}")
    return table


def _validation(device: DeviceFile) -> Table:
    table = _table("figures", "metric", "value", "held out")
    for entry in device.validation:
        table.add_row(entry.data, entry.metric, f"{entry.value:.4g}", "yes" if entry.held_out else "no")
    return table
