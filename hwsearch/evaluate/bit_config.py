"""Checks and files of per-layer precisions."""

import difflib
from collections.abc import Sequence
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
    """Read a configuration from a CSV with columns layer, weight_bits, activation_bits and, for several, trial.

    Args:
        path: The file, e.g. ``precisions.csv`` of a run folder.
        trial: Which trial to take where the file holds several.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If columns are missing, or ``trial`` does not single out one configuration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no precision file '{path}'; give a CSV, or a shorthand such as W4A8.")
    table = pd.read_csv(path)
    wanted = ["layer", "weight_bits", "activation_bits"]
    missing = [column for column in wanted if column not in table]
    if missing:
        raise ValueError(f"Precision file '{path}' lacks the columns {missing}; it has {list(table.columns)}.")
    if "trial" in table:
        trials = sorted(table["trial"].unique())
        if trial is None and len(trials) > 1:
            raise ValueError(
                f"Precision file '{path}' holds {len(trials)} trials; choose one with trial=N, e.g. trial={trials[0]}."
            )
        if trial is not None and trial not in trials:
            raise ValueError(f"Precision file '{path}' has no trial {trial}; it has {trials[:20]}.")
        table = table[table["trial"] == (trials[0] if trial is None else trial)]
    if table["layer"].duplicated().any():
        raise ValueError(
            f"Precision file '{path}' names layer '{table['layer'][table['layer'].duplicated()].iloc[0]}' twice."
        )
    return {
        str(row.layer): Precision(int(row.weight_bits), int(row.activation_bits))  # type: ignore[arg-type]  # a CSV cell
        for row in table.itertuples()
    }
