"""``hwsearch list``."""

from itertools import takewhile
from pathlib import Path

from rich.table import Table

GROUPS = {
    "models": "model",
    "devices": "hardware",
    "data": "data",
    "quantizers": "quantizer",
    "spaces": "space",
    "samplers": "sampler",
    "sensitivities": "sensitivity",
    "objectives": "objective",
    "experiments": "experiment",
}


def listing(group: str, config_dir: Path | None = None) -> Table:
    """Files of one configuration group with the comment that begins each.

    Raises:
        ValueError: If there is no such group, or ``config_dir`` is no folder.
    """
    from hwsearch.cli.hydra_app import conf_dir

    if group not in GROUPS:
        raise ValueError(f"There is no list of '{group}'; choose from {', '.join(GROUPS)}.")
    if config_dir is not None and not config_dir.is_dir():
        raise ValueError(f"--config-dir {config_dir} is not a folder.")
    folder = GROUPS[group]
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{folder}=", style="bold", no_wrap=True)
    table.add_column("what it is")
    for root in filter(None, (conf_dir(), config_dir)):
        for path in sorted((root / folder).glob("*.yaml")):
            table.add_row(path.stem, _first_comment(path))
    return table


def _first_comment(path: Path) -> str:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("# @package")]
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    text = comment.removeprefix("Source: ")
    return text if len(text) <= 160 else text[:159] + "…"
