"""``hwsearch compare``."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cost_models import load_device
from hwsearch.cli.devices import device_path
from hwsearch.cli.run_config import read_run_config
from hwsearch.compare import Run, compare_runs, load_run
from hwsearch.report import render, write_comparison
from hwsearch.transfer import transfer_runs
from hwsearch.transfer_report import render_transfer, write_transfer


def compare_command(
    runs: Sequence[str],
    x: str,
    y: str | None,
    where: str | None,
    best: str | None,
    on: Sequence[str],
    config_dir: Path | None,
    out: Path | None,
) -> None:
    """Compare runs as they are, or priced on other devices; print tables, and write them where asked to."""
    loaded = [load_run(run) for run in runs if not run.startswith("run_dir=")]
    out = out or next((Path(run.removeprefix("run_dir=")) for run in runs if run.startswith("run_dir=")), None)
    if on:
        if best:
            raise ValueError("--best names a row of the runs as they are; leave it out with --on.")
        _transfer(loaded, x, y or "search_top1", where, [device_path(name, config_dir) for name in on], out)
    else:
        comparison = compare_runs(loaded, x=x, y=y or "test_top1", where=where, best=best)
        Console().print(render(comparison))
        if out:
            write_comparison(comparison, out)
    if out:
        Console().print(f"Tables and figure: {out}", highlight=False, soft_wrap=True)


def _transfer(
    runs: Sequence[Run], x: str, y: str, where: str | None, devices: Sequence[Path], out: Path | None
) -> None:
    codebook_bits = [read_run_config(run.path).quantizer.codebook_bits for run in runs]
    loaded = [load_device(path) for path in devices]
    result = transfer_runs(runs, loaded, x=x, y=y, where=where, codebook_bits=codebook_bits)
    Console().print(render_transfer(result), highlight=False)
    if out:
        write_transfer(result, out)
