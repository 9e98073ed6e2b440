"""Tables for the terminal, and the files, of runs priced on other devices."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hwsearch.figures import transfer_figure
from hwsearch.run_folder import make_run_dir, write_csv
from hwsearch.transfer import Transfer
from hwsearch.units import in_words, name_of, unit_of


def render_transfer(transfer: Transfer) -> RenderableType:
    """How each run's front fares on each device, and what is on the fronts of all of them."""
    heading = f"{name_of(transfer.y)} against {name_of(transfer.x)}, on other devices than were searched for"
    everywhere = transfer.on_every_front()
    parts: list[RenderableType] = [Text(heading, style="bold"), _fares_table(transfer)]
    parts += [Text("Hypervolume of a run's front, and its share of that of the best front from all candidates.")]
    parts += [Text(), Text("On the fronts of all devices", style="bold")]
    parts += [_everywhere_table(transfer, everywhere) if len(everywhere) else Text("No candidate is."), Text()]
    for device, point in transfer.reference_points.items():
        parts.append(Text(f"Reference point of the hypervolumes on {device}: {in_words(point)}."))
    return Group(*parts, *(Text(f"Note: {note}", style="yellow") for note in transfer.notes))


def write_transfer(transfer: Transfer, out_dir: Path) -> None:
    """Write ``transfer.csv``, ``transfer_summary.csv`` and ``transfer.png``, described in ``runs/README.md``.

    Args:
        transfer: What ``hwsearch.transfer.transfer_runs`` returned.
        out_dir: Created if missing; files of these names are replaced.
    """
    folder = make_run_dir(out_dir)
    write_csv(transfer.rows, folder / "transfer.csv")
    write_csv(transfer.summary, folder / "transfer_summary.csv")
    transfer_figure(transfer).savefig(folder / "transfer.png")


def _fares_table(transfer: Transfer) -> Table:
    """A row per run, a column per device."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("front of run", overflow="fold")
    for device in transfer.devices:
        table.add_column(f"on {device}", justify="right", overflow="fold")
    for number, (run, rows) in enumerate(transfer.summary.groupby("run", sort=False), start=1):
        searched = Text(f"{run}\n").append(str(rows["searched"].iloc[0]), style="dim")
        cells = [
            f"{row['hypervolume']:.4f}\n{row['share']:.0%}" if row["front_rows"] else "none of it\nruns there"
            for row in rows.to_dict("records")
        ]
        table.add_row(str(number), searched, *cells)
    best = transfer.summary.drop_duplicates("device")["device_hypervolume"]
    table.add_row("", "best front from all candidates", *(f"{value:.4f}" for value in best))
    return table


def _everywhere_table(transfer: Transfer, candidates: pd.DataFrame) -> Table:
    """A row per candidate, a column per device with its cost."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    units = {device: unit_of(transfer.x, float(candidates[device].max())) for device in transfer.devices}
    columns = ["run", "trial", "kind", "W bits", "A bits", "search top-1", "test top-1"]
    for name in [*columns, *(f"{device} / {unit}" for device, (_, unit) in units.items())]:
        table.add_column(name, justify="left" if name == "kind" else "right", overflow="fold")
    numbers = {run: str(number) for number, run in enumerate(dict.fromkeys(transfer.summary["run"]), start=1)}
    for row in candidates.to_dict("records"):
        bits = [f"{row[column]:.2f}" for column in ("weight_bits_mean", "activation_bits_mean")]
        judged = ["" if pd.isna(row[column]) else f"{row[column]:.2f} %" for column in ("search_top1", "test_top1")]
        costs = [f"{row[device] / divisor:.4g}" for device, (divisor, _) in units.items()]
        table.add_row(numbers[row["run"]], str(row["trial"]), str(row["kind"]), *bits, *judged, *costs)
    return table
