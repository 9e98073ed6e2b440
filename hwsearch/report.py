"""Tables for the terminal, and the files of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwsearch.compare import Comparison
from hwsearch.figures import compare_figure
from hwsearch.pareto import ACCURACIES
from hwsearch.units import in_words, name_of, unit_of

COSTS = ("latency_s", "measured_latency_s", "energy_j", "size_bytes", "bops")
"""Of a Pareto table, in the order shown."""


def render_pareto(table: pd.DataFrame) -> Table:
    """The rows of ``pareto.csv`` with human units, cheapest first, the float network last.

    Args:
        table: Rows of ``pareto.csv``; costs that no row knows are left out.
    """
    quantized = table[table["kind"] != "float"]
    costs = [name for name in COSTS if quantized[name].notna().any()]
    ordered = pd.concat([quantized.sort_values(costs[:1], kind="stable"), table[table["kind"] == "float"]])
    rendered = Table(
        caption=_caption(table),
        caption_justify="left",
        caption_style="",
        box=None,
        header_style="bold",
        padding=(0, 1, 0, 0),
    )
    for name in ("trial", "kind", "", "W\nbits", "A\nbits", "test\ntop-1\n%", "95 %\ninterval"):
        rendered.add_column(name, justify="left" if name in ("kind", "") else "right", no_wrap=True)
    for name in costs:
        unit = unit_of(name, float(quantized[name].max()))[1]
        rendered.add_column(f"{name.split('_')[0]}\n{unit}", justify="right", no_wrap=True)
    for _, row in ordered.iterrows():
        cells = [_number(row["trial"], 0), str(row["kind"]), _front_mark(row)]
        cells += [_number(row["weight_bits_mean"], 2), _number(row["activation_bits_mean"], 2)]
        cells += [_number(row["test_top1"], 2), f"{row['test_top1_low']:.1f}-{row['test_top1_high']:.1f}"]
        cells += [_quantity(row[name], name, quantized) for name in costs]
        rendered.add_row(*cells, style=None if row["on_test_front"] else "dim")
    return rendered


def render(comparison: Comparison) -> RenderableType:
    """Summary, domination matrix, best row and notes of a comparison."""
    heading = f"{name_of(comparison.y)} against {name_of(comparison.x)}"
    heading += f", where {comparison.where}" if comparison.where else ""
    parts: list[RenderableType] = [Text(heading, style="bold"), _summary_table(comparison)]
    parts += [Text(), Text("Union front", style="bold"), _union_table(comparison)]
    if len(comparison.summary) > 1:
        title = Text("Share of the row's front that the column's front dominates", style="bold")
        parts += [Text(), title, _domination_table(comparison)]
    if comparison.best_by is not None:
        parts += [Text(), Text(_best_in_words(comparison))]
    parts += [Text(f"Reference point of the hypervolumes: {in_words(comparison.reference_point)}.")]
    return Group(*parts, *(Text(f"Note: {note}", style="yellow") for note in comparison.notes))


def write_comparison(comparison: Comparison, out_dir: Path | str) -> None:
    """Write ``compare.csv``, ``summary.csv``, ``domination.csv`` and ``compare.png``, described in ``runs/README.md``.

    Args:
        comparison: What ``hwsearch.compare.compare_runs`` returned.
        out_dir: Created if missing; files of these names are replaced.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    comparison.rows.to_csv(folder / "compare.csv", index=False)
    comparison.summary.to_csv(folder / "summary.csv", index=False)
    comparison.domination.to_csv(folder / "domination.csv")
    compare_figure(comparison).savefig(folder / "compare.png")


def _summary_table(comparison: Comparison) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "run", "rows", "front\npoints", "hyper-\nvolume", "share of\nunion front"):
        table.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    for number, row in enumerate(comparison.summary.to_dict("records"), start=1):
        described = Text(f"{row['run']}\n").append(str(row["label"]), style="dim")
        numbers = [f"{row['rows']}", f"{row['front_points']}", f"{row['hypervolume']:.4f}", f"{row['union_share']:.0%}"]
        table.add_row(str(number), described, *numbers)
    return table


def _union_table(comparison: Comparison) -> Table:
    """Distinct points of the union front, cheapest first, with the run that attains each (the first of several)."""
    axes = [comparison.x, comparison.y]
    front = comparison.rows[comparison.rows["on_union_front"]].drop_duplicates(axes).sort_values(axes)
    numbers = {str(row["run"]): number for number, row in enumerate(comparison.summary.to_dict("records"), start=1)}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "trial", "kind", "W bits", "A bits", *(name_of(axis) for axis in axes)):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for row in front.to_dict("records"):
        bits = [_number(row["weight_bits_mean"], 2), _number(row["activation_bits_mean"], 2)]
        values = [in_words({axis: float(row[axis])}).removeprefix(f"{name_of(axis)} ") for axis in axes]
        table.add_row(str(numbers[str(row["run"])]), _number(row["trial"], 0), str(row["kind"]), *bits, *values)
    return table


def _domination_table(comparison: Comparison) -> Table:
    """Runs by their number in the summary, since names would not fit side by side."""
    table = Table("front of", box=None, header_style="bold", pad_edge=False)
    for number in range(1, len(comparison.domination) + 1):
        table.add_column(f"by {number}", justify="right")
    for number, (_, row) in enumerate(comparison.domination.iterrows(), start=1):
        table.add_row(str(number), *("-" if pd.isna(share) else f"{share:.0%}" for share in row))
    return table


def _best_in_words(comparison: Comparison) -> str:
    column, best = str(comparison.best_by), comparison.best
    if best is None:
        return f"No best {name_of(column)}: uniform precision dominates every mixed row that is left."
    most = "Highest" if column in ACCURACIES else "Lowest"
    shown = dict.fromkeys(["test_top1", comparison.x, comparison.y, column])
    values = in_words({name: float(best[name]) for name in shown})
    bits = f"{best['weight_bits_mean']:.2f} weight and {best['activation_bits_mean']:.2f} activation bits"
    return (
        f"{most} {name_of(column)}: run '{best['run']}', trial {best['trial']} ({best['kind']}, mean {bits}): {values}."
    )


def _caption(table: pd.DataFrame) -> str:
    sources = " and ".join(sorted(set(table.loc[table["kind"] != "float", "cost_source"])))
    caption = f"Costs are {sources}, per image. *: non-dominated on the test split."
    if (table["on_front"] & ~table["on_test_front"] & ~table["dominated_by_uniform"]).any():
        caption += " s: on the search split only."
    if table["measured_latency_s"].notna().any():
        caption += " latency: the sum of the parts; measured: the whole compiled network."
    if table["dominated_by_uniform"].any():
        caption += " u: a uniform row dominates it on the test split."
    return caption


def _front_mark(row: pd.Series[Any]) -> str:
    if row["dominated_by_uniform"]:
        return "u"
    return "*" if row["on_test_front"] else "s" if row["on_front"] else ""


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _quantity(value: float, column: str, table: pd.DataFrame) -> str:
    divisor, _ = unit_of(column, float(table[column].max()))
    return "" if pd.isna(value) else f"{value / divisor:.4g}"
