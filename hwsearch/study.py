"""The table of a study: accuracy of quantizers at several precisions, one row per network and quantizer."""

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

ROW = ["model", "float", "quantizer", "granularity"]
"""What a row of the table is told apart by; ``float`` is the top-1 of the network itself."""


def study_table(results: pd.DataFrame) -> pd.DataFrame:
    """Top-1 in percent: a row per network and quantizer, a column per precision, in their order of appearance.

    Args:
        results: Columns ``ROW``, ``precision`` and ``top1``, one row per judged configuration.
    """
    return results.pivot_table("top1", ROW, "precision", sort=False)


def markdown(table: pd.DataFrame) -> str:
    """GitHub's markdown of :func:`study_table`."""
    rules = ["---:" if name == "float" else "---" for name in ROW] + ["---:"] * len(table.columns)
    lines = [[*ROW, *table.columns], rules, *_cells(table)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def render(table: pd.DataFrame, title: str) -> Table:
    """:func:`study_table` for the terminal, with a rule between networks."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in (*ROW, *table.columns):
        shown.add_column(name, justify="left" if name in ROW and name != "float" else "right", no_wrap=True)
    rows = list(_cells(table))
    for row, after in zip(rows, [*rows[1:], rows[-1]], strict=True):
        shown.add_row(*row, end_section=row[0] != after[0])
    return shown


def _cells(table: pd.DataFrame) -> Iterator[list[str]]:
    """Rows as text, percentages with two decimals."""
    for row in table.reset_index().to_dict("records"):
        yield [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()]
