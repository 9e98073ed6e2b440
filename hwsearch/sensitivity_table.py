"""Sensitivities: what each layer's weights and activations lose at each width, by themselves.

A table with a row per (layer, operand, bits, weight_format): operand is ``weights`` or ``activations``, weight_format
is empty for activations, loss is the predicted increase of the network's loss, in any unit that adds up over layers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models import Precision

SENSITIVITIES = "sensitivity.csv"
"""Name of the table in a run folder."""
COLUMNS = ("layer", "operand", "bits", "weight_format", "loss")


def losses(table: pd.DataFrame, layers: Sequence[str], choices: Sequence[Precision]) -> NDArray[np.float64]:
    """Predicted loss of each choice of layers that decide together.

    What was measured may say by chance that more bits lose more; here they never do.

    Args:
        table: Sensitivities.
        layers: The layers; their losses add up.
        choices: Their precisions.

    Returns:
        By weights and by activations, ``[choices, 2]``.

    Raises:
        ValueError: If the table lacks a layer or a width.
    """
    own = table[table["layer"].isin(layers)]
    summed: dict[tuple[str, int, str], float] = {}
    counted: dict[tuple[str, int, str], int] = {}
    for operand, bits, weight_format, loss in zip(
        own["operand"], own["bits"], own["weight_format"], own["loss"], strict=True
    ):
        key = (operand, int(bits), weight_format)
        summed[key] = summed.get(key, 0.0) + max(float(loss), 0.0)
        counted[key] = counted.get(key, 0) + 1
    wanted = [(("weights", p.weight_bits, p.weight_format), ("activations", p.activation_bits, "")) for p in choices]
    for key in (key for pair in wanted for key in pair):
        if counted.get(key, 0) != len(layers):
            raise ValueError(
                f"There is no sensitivity of layers {list(layers)} for {key[0]} of {key[1]} bits {key[2]}."
            )
    return np.array([[_at_least(summed, key) for key in pair] for pair in wanted]).reshape(-1, 2)


def _at_least(summed: dict[tuple[str, int, str], float], key: tuple[str, int, str]) -> float:
    operand, bits, weight_format = key
    return max(
        loss
        for (kind, width, form), loss in summed.items()
        if (kind, form) == (operand, weight_format) and width >= bits
    )


def read_sensitivities(path: Path) -> pd.DataFrame:
    """Read a run folder's ``sensitivity.csv``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it lacks a column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There are no sensitivities '{path}'; search with sampler=chain, which stores them.")
    table = pd.read_csv(path, dtype={"layer": str, "operand": str, "weight_format": str}, keep_default_na=False)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"Sensitivities '{path}' lack the columns {missing}; they have {list(table.columns)}.")
    return table
