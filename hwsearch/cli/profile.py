"""``hwsearch profile``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from rich.console import Console

from cost_models import Measuring, Precision
from hwsearch.cli.hardware import load_hardware, notes
from hwsearch.cli.schema import ProfileConfig
from hwsearch.cli.setup import load_network
from hwsearch.costs import cost_table, pricing
from hwsearch.network_file import NETWORK_FILE, network_content
from hwsearch.profile import render_profile, uniform_costs
from hwsearch.run_folder import layers_table, versions, write_csv, write_json, write_yaml


def profile_command(config: ProfileConfig, run_dir: Path) -> None:
    """Price, or measure, every layer at every precision; print a table and write the files."""
    shown = [Precision.parse(text) for text in config.shown]
    hardware = load_hardware(config.hardware, config.quantizer)
    network = load_network(config.model)
    costs = cost_table(network.layers, hardware)
    uniform = uniform_costs(costs, pricing(costs, network.spec, hardware))
    records = hardware.measurements(network.spec) if isinstance(hardware, Measuring) else []
    measured = pd.DataFrame(records).convert_dtypes()  # whole numbers stay so beside empty cells
    known = notes(hardware, config.quantizer, uniform)
    write_yaml(config.model_dump(), run_dir / "config.yaml")
    write_csv(layers_table(network.layers), run_dir / "layers.csv")
    write_json(network_content(network.spec), run_dir / NETWORK_FILE)
    write_csv(costs.reset_index(), run_dir / "cost_table.csv")
    if not measured.empty:
        write_csv(measured, run_dir / "measurements.csv")
    result = {
        "schema": "hwsearch.profile/1",
        "model": config.model.name,
        "quantizer": config.quantizer.name,
        "hardware": hardware.name,
        "cost_source": hardware.cost_source,
        "batch": hardware.batch,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "uniform": {str(precision): _known(values) for precision, values in uniform.items()},
        "warnings": known,
        "versions": versions(),
    }
    write_json(result, run_dir / "profile.json")
    console = Console()
    console.print(f"{config.model.name} on {hardware.name}, per image at batch {hardware.batch}", style="bold")
    console.print(render_profile(network.layers, costs, uniform, shown, _spreads(measured)))
    for note in known:
        console.print(f"Note on {hardware.name}: {note}", style="yellow", highlight=False)
    console.print(f"Tables: {run_dir}", highlight=False, soft_wrap=True)


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if pd.isna(value) else value for name, value in values.items()}


def _spreads(measured: pd.DataFrame) -> dict[str, float]:
    """Largest spread of the kernels measured for each layer, as a share."""
    spreads: dict[str, float] = {}
    for record in measured.to_dict("records"):
        for name in str(record["used_by"]).split():
            spreads[name] = max(spreads.get(name, 0.0), float(record["spread"]))
    return spreads
