"""Constants of a device file fitted to measured latencies: what is read, reported and written."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from cost_models import BitConfig, LayerSpec, NetworkSpec, Precision, load_device
from cost_models.agreement import agreement
from cost_models.calibrate import Measurement, fit, held_out, modelled, read_constant, write_constant
from cost_models.device_file import DeviceFile
from hwsearch.evaluate import read_precisions
from hwsearch.network_file import read_network
from hwsearch.run_folder import write_text

COLUMNS = {"network", "latency_s", "weight_bits", "activation_bits", "weight_format", "layer", "trial"}
REQUIRED = {"network", "latency_s"}
METRICS = ("mape", "within_5_percent", "within_10_percent", "bias", "spearman", "kendall")
DIGITS = 4
"""Of what is written into the file."""


@dataclass(frozen=True)
class Calibration:
    """A fit and how good it is.

    Attributes:
        device: The device's name.
        before: Path of each fitted field -> first guess.
        after: Path of each fitted field -> fitted constant, as it is written.
        data: What the constants were fitted to, in words.
        agreements: Metrics of :func:`cost_models.agreement.agreement` by how the latencies were modelled: with the
            ``first guesses``, ``fitted`` to all of them, and where there are several networks ``held out``.
    """

    device: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    data: str
    agreements: Mapping[str, Mapping[str, float]]


def read_measurements(path: Path) -> list[Measurement]:
    """Read measured latencies.

    Args:
        path: A CSV with the columns that ``hwsearch devices calibrate --help`` describes.

    Returns:
        A measurement per row. Its group is the first folder with the same network.

    Raises:
        FileNotFoundError: If the CSV, or a file of a folder that it names, does not exist.
        ValueError: If a column is unknown or missing, or a row says nothing or something impossible.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of measurements '{path}'.")
    try:
        table = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no CSV table: {error}.") from error
    if not REQUIRED <= set(table) <= COLUMNS or table.empty:
        raise ValueError(
            f"'{path}' has {len(table)} rows and the columns {list(table)}; required are {sorted(REQUIRED)}, "
            f"possible are {sorted(COLUMNS - REQUIRED)}."
        )
    networks = {folder: read_network(path.parent / folder) for folder in dict.fromkeys(table["network"])}
    measurements = []
    for number, row in enumerate(table.to_dict("records"), start=1):
        network = networks[row["network"]]
        group = next(folder for folder, known in networks.items() if known == network)
        try:
            subject, config = _measured(row, network, path.parent / row["network"])
            measurements.append(Measurement(group, subject, config, _positive(row["latency_s"])))
        except ValueError as error:
            raise ValueError(f"'{path}', row {number}: {error}") from error
    return measurements


def calibrate_file(file: Path, measurements: Sequence[Measurement], name: str, out: Path) -> Calibration:
    """Fit the fields that a device file names in ``calibration.fitted``, judge the fit, and write the file.

    Args:
        file: The device file.
        measurements: From :func:`read_measurements`.
        name: What the file says it was fitted to.
        out: Written whole or not at all; may be ``file``. Comments and order stay. ``validation`` is replaced: figures
            of other constants no longer hold.

    Raises:
        ValueError: If the file is wrong or leaves nothing open, or the measurements do not suffice.
    """
    device = load_device(file)
    if not isinstance(device, DeviceFile) or device.calibration is None:
        raise ValueError(f'{file} names no constants to fit; add calibration: {{fitted: ["compute[0].efficiency"]}}.')
    yaml, paths = _yaml(), device.calibration.fitted
    content = yaml.load(file.read_text(encoding="utf-8"))
    before = {path: read_constant(content, path) for path in paths}
    measured = [measurement.latency_s for measurement in measurements]
    agreements = {"first guesses": agreement(modelled(content, measurements).tolist(), measured)}
    fitted = fit(content, measurements, paths)
    agreements["fitted"] = agreement(modelled(fitted, measurements).tolist(), measured)
    if len({measurement.group for measurement in measurements}) > 1:
        predicted = held_out(content, measurements, paths)
        agreements["held out"] = agreement(predicted["modelled_s"].tolist(), measured)
    after = {path: float(f"{read_constant(fitted, path):.{DIGITS}g}") for path in paths}
    for path, value in after.items():
        write_constant(content, path, value)
    calibration = Calibration(device.name, before, after, _in_words(name, measurements), agreements)
    content["calibration"]["data"] = calibration.data
    content["validation"] = _validation(calibration)
    text = StringIO()
    yaml.dump(content, text)
    write_text(text.getvalue(), out)
    return calibration


def render_calibration(calibration: Calibration) -> RenderableType:
    """Constants before and after, and metrics of the errors side by side."""
    constants = _table("constant", "first guess", "fitted")
    for path, value in calibration.before.items():
        constants.add_row(path, f"{value:.{DIGITS}g}", f"{calibration.after[path]:.{DIGITS}g}")
    errors = _table("error of latencies", *calibration.agreements)
    for metric in METRICS:
        values = [found[metric] for found in calibration.agreements.values()]
        correlation = metric in ("spearman", "kendall")
        errors.add_row(
            metric.replace("_", " "), *(f"{value:.3f}" if correlation else f"{value:.1%}" for value in values)
        )
    notes = []
    if "held out" not in calibration.agreements:
        notes.append("All measurements are of one network: how well others are predicted is unknown.")
    parts: list[RenderableType] = [Text(f"{calibration.device}: {calibration.data}", style="bold"), constants, Text()]
    return Group(*parts, errors, *(Text(f"Note: {note}", style="yellow") for note in notes))


def _measured(
    row: Mapping[Hashable, str], network: NetworkSpec, folder: Path
) -> tuple[NetworkSpec | LayerSpec, BitConfig]:
    """What a row says was run, and its precisions."""
    layers = {layer.name: layer for layer in network.layers}
    bits = [row.get(column, "") for column in ("weight_bits", "activation_bits")]
    trial = row.get("trial", "")
    if (trial == "") == ("" in bits):
        raise ValueError("give either weight_bits and activation_bits, or a trial.")
    if trial:
        config: BitConfig = read_precisions(folder / "precisions.csv", _whole("trial", trial))
    else:
        weight_bits, activation_bits = _whole("weight_bits", bits[0]), _whole("activation_bits", bits[1])
        weight_format: Any = row.get("weight_format") or "uniform"  # any text; the device refuses what it does not run
        config = dict.fromkeys(layers, Precision(weight_bits, activation_bits, weight_format))
    layer = row.get("layer", "")
    if not layer:
        return network, config
    if layer not in layers:
        raise ValueError(f"network '{row['network']}' has no layer '{layer}'; it has {', '.join(layers)}.")
    return layers[layer], config


def _whole(column: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{column} is '{value}', not a whole number.")
    return int(value)


def _positive(latency_s: str) -> float:
    try:
        value = float(latency_s)
    except ValueError:
        value = nan
    if not 0 < value < inf:
        raise ValueError(f"latency_s is '{latency_s}', not a positive number of seconds.")
    return value


def _in_words(name: str, measurements: Sequence[Measurement]) -> str:
    networks = {measurement.group for measurement in measurements}
    plural = "" if len(networks) == 1 else "s"
    return f"{name}: {len(measurements)} latencies of {len(networks)} network{plural}"


def _validation(calibration: Calibration) -> list[CommentedMap]:
    """The metrics as entries of a device file, one a line; a correlation without a value is left out."""
    best = "held out" if "held out" in calibration.agreements else "fitted"
    data = calibration.data + (", leaving one network out" if best == "held out" else "")
    values = {metric: calibration.agreements[best][metric] for metric in METRICS}
    entries = [
        CommentedMap(data=data, metric=metric, value=float(f"{value:.3g}"), held_out=best == "held out")
        for metric, value in values.items()
        if not isnan(value)
    ]
    for entry in entries:
        entry.fa.set_flow_style()
    return entries


def _yaml() -> YAML:
    """Keeps comments, order, quotes and flow style."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
