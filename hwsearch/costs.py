"""Every (layer, precision) costed once, and whole configurations priced by looking costs up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models import FLOAT, BitConfig, Cost, CostModel, LayerSpec, NetworkSpec, Precision, bops, size_bytes
from hwsearch.pareto import COSTS
from hwsearch.progress import track

KEY = ["layer", "weight_bits", "activation_bits", "weight_format"]
"""Index of a cost table."""


def cost_table(layers: Sequence[LayerSpec], device: CostModel) -> pd.DataFrame:
    """Cost of every layer at every precision that the device runs, and at float.

    Args:
        layers: Quantizable layers of a captured network.
        device: The target.

    Returns:
        Indexed by (layer, weight_bits, activation_bits, weight_format): ``latency_s`` and ``energy_j`` per image,
        ``size_bytes``, ``bops``, the bits that are stored and computed with, ``bound_by``, ``cost_source``, and the
        model's breakdown. Float costs are NaN unless the device runs floats.
    """
    rows = [
        _row(layer, precision, device)
        for layer in track(layers, "pricing layers")
        for precision in sorted({*device.precisions(layer), FLOAT})
    ]
    return pd.DataFrame(rows).set_index(KEY)


def _row(layer: LayerSpec, precision: Precision, device: CostModel) -> dict[str, object]:
    runs = precision in device.precisions(layer)
    cost = device.layer_cost(layer, precision) if runs else Cost(None, None)
    computed = cost.computed_as or precision
    return {
        "layer": layer.name,
        "weight_bits": precision.weight_bits,
        "activation_bits": precision.activation_bits,
        "weight_format": precision.weight_format,
        "latency_s": _number(cost.latency_s),
        "energy_j": _number(cost.energy_j),
        "size_bytes": size_bytes(layer, precision),
        "bops": bops(layer, precision),
        "stored_weight_bits": (cost.stored_weight_bits or precision.weight_bits) if runs else None,
        "computed_weight_bits": computed.weight_bits if runs else None,
        "computed_activation_bits": computed.activation_bits if runs else None,
        "bound_by": cost.bound_by,
        "cost_source": device.cost_source,
        **cost.breakdown,
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def check_fits(network: NetworkSpec, device: CostModel, config: BitConfig) -> None:
    """Refuse a network that the device can't hold.

    Args:
        network: The network.
        device: The device.
        config: Its narrowest configuration.

    Raises:
        ValueError: If its latency is infinite; it names the memories that are too small.
    """
    cost = device.network_cost(network, config)
    if cost.latency_s == inf:
        lacking = {name: value for name, value in cost.breakdown.items() if name.endswith("_excess_bytes")}
        details = [
            f"{value:,.0f} bytes more of {name.removesuffix('_excess_bytes')}" for name, value in lacking.items()
        ]
        needs = f"it needs {' and '.join(details)}" if details else "it does not fit on the chip"
        raise ValueError(f"Hardware '{device.name}' cannot run the network even at its narrowest precisions: {needs}.")


def pricing(table: pd.DataFrame, network: NetworkSpec, device: CostModel) -> "Pricing":
    """Price of a whole configuration: its layers' rows, plus what the network adds beyond their sum.

    Args:
        table: From :func:`cost_table`.
        network: The network whose layers it was made from.
        device: The device it was made for.
    """
    keys = [(layer, Precision(*precision)) for layer, *precision in table.index]
    return Pricing(network, device, keys, table[list(COSTS)].to_numpy(dtype=float))


@dataclass(frozen=True)
class Pricing:
    """Prices of whole configurations, one by one or many at once.

    Attributes:
        network: The network.
        device: The device.
        keys: Layer and precision of each row of the cost table.
        costs: latency_s and energy_j per image, size_bytes and bops of each row, ``[rows, 4]``.
    """

    network: NetworkSpec
    device: CostModel
    keys: Sequence[tuple[str, Precision]]
    costs: NDArray[np.float64]

    def __call__(self, config: BitConfig) -> dict[str, float]:
        """latency_s and energy_j per image, size_bytes and bops; NaN where the device does not know.

        Raises:
            ValueError: If the table lacks a precision.
        """
        rows = [self.row(layer, precision) for layer, precision in config.items()]
        total = self.costs[rows].sum(axis=0) + self._extra(config)
        return dict(zip(COSTS, total.tolist(), strict=True))

    def row(self, layer: str, precision: Precision) -> int:
        """Number of the cost table's row.

        Raises:
            ValueError: If the table lacks it.
        """
        if (layer, precision) not in self._rows:
            raise ValueError(f"Hardware '{self.device.name}' has no cost for layer '{layer}' at {precision}.")
        return self._rows[layer, precision]

    def many(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Prices of many candidates.

        Args:
            rows: A row number for each layer of each candidate, ``[candidates, layers]``.

        Returns:
            A row per candidate with the columns that a single price has.
        """
        alike = rows[:1] if self.device.additive else rows
        extra = [self._extra(dict(self.keys[row] for row in candidate)) for candidate in alike.tolist()]
        total = sum(self.costs[column] for column in rows.T) + np.reshape(extra, (-1, len(COSTS)))
        return pd.DataFrame(total, columns=list(COSTS))

    @cached_property
    def _rows(self) -> Mapping[tuple[str, Precision], int]:
        return {key: row for row, key in enumerate(self.keys)}

    def _extra(self, config: BitConfig) -> NDArray[np.float64]:
        """What the network adds, ``[4]``."""
        cost = self.device.network_cost(self.network, config)
        return np.array([_number(cost.latency_s), _number(cost.energy_j), 0, 0])
