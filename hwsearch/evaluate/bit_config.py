"""Checks and files of per-layer precisions."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cost_models import BitConfig, Precision


def check_config(config: BitConfig, layers: Sequence[str]) -> None:
    """Require a precision for each layer and for nothing else.

    Raises:
        ValueError: Names the layers that are missing or unknown.
    """
    unknown = [name for name in config if name not in set(layers)]
    if unknown:
        close = difflib.get_close_matches(unknown[0], layers, n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else f" It has {', '.join(layers)}."
        raise ValueError(f"The network has no layer '{unknown[0]}'.{hint}")
    missing = [name for name in layers if name not in config]
    if missing:
        raise ValueError(
            f"The configuration gives no precision for {len(missing)} of {len(layers)} layers: {missing[:5]}."
        )


def read_precisions(path: Path, trial: int | None = None) -> dict[str, Precision]:
    """Read a configuration from a CSV with columns layer, weight_bits, activation_bits and, where given, weight_format.

    A column ``trial`` tells several configurations apart.

    Args:
        path: The file, e.g. ``precisions.csv`` of a run folder.
        trial: Which trial to take where the file holds several.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no such table, or ``trial`` does not single out one configuration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no precision file '{path}'; give a CSV, or a shorthand such as W4A8.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # '1.10' and 'null' are names of layers, too
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"Precision file '{path}' is no CSV table: {error}.") from error
    wanted = ["layer", "weight_bits", "activation_bits"]
    missing = [column for column in wanted if column not in table]
    if missing:
        raise ValueError(f"Precision file '{path}' lacks the columns {missing}; it has {list(table.columns)}.")
    if trial is not None and "trial" not in table:
        raise ValueError(
            f"Precision file '{path}' holds one configuration and no column trial; leave out trial={trial}."
        )
    if "trial" in table:
        trials = sorted(set(table["trial"]), key=lambda number: (len(number), number))
        if trial is None and len(trials) > 1:
            raise ValueError(
                f"Precision file '{path}' holds {len(trials)} trials; choose one with trial=N, e.g. trial={trials[0]}."
            )
        if trial is not None and str(trial) not in trials:
            raise ValueError(f"Precision file '{path}' has no trial {trial}; it has {', '.join(trials[:20])}.")
        table = table[table["trial"] == (trials[0] if trial is None else str(trial))]
    if table["layer"].duplicated().any():
        raise ValueError(
            f"Precision file '{path}' names layer '{table['layer'][table['layer'].duplicated()].iloc[0]}' twice."
        )
    return {row["layer"]: _precision(row, path) for row in table.to_dict("records")}


def _precision(row: Mapping[Hashable, str], path: Path) -> Precision:
    try:
        bits = [float(row[column]) for column in ("weight_bits", "activation_bits")]
        weight_bits, activation_bits = (int(value) for value in bits)
        if bits != [weight_bits, activation_bits]:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"Precision file '{path}' gives layer '{row['layer']}' weight_bits='{row['weight_bits']}' and "
            f"activation_bits='{row['activation_bits']}'; they must be whole numbers."
        ) from error
    return Precision(weight_bits, activation_bits, row.get("weight_format") or "uniform")  # type: ignore[arg-type]  # any text
