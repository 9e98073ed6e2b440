"""Every (layer, precision) costed once, and whole configurations priced by looking costs up."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from cost_models import FLOAT, BitConfig, Cost, CostModel, LayerSpec, Precision, bops, size_bytes
from hwsearch.pareto import COSTS
from hwsearch.progress import track

Price = Callable[[BitConfig], Mapping[str, float]]
"""Costs of a configuration by name; NaN where the device does not know."""


def cost_table(layers: Sequence[LayerSpec], device: CostModel) -> pd.DataFrame:
    """Cost of every layer at every precision that the device runs, and at float.

    Args:
        layers: Quantizable layers of a captured network.
        device: The target.

    Returns:
        Indexed by (layer, weight_bits, activation_bits): ``weight_format``, ``latency_s`` and ``energy_j`` per image,
        ``size_bytes``, ``bops``, the bits that are computed with, ``cost_source``, and the model's breakdown. Float
        costs are NaN unless the device runs floats.
    """
    rows = [
        _row(layer, precision, device)
        for layer in track(layers, "pricing layers")
        for precision in sorted({*device.precisions(layer), FLOAT})
    ]
    return pd.DataFrame(rows).set_index(["layer", "weight_bits", "activation_bits"])


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
        "computed_weight_bits": computed.weight_bits if runs else None,
        "computed_activation_bits": computed.activation_bits if runs else None,
        "cost_source": device.cost_source,
        **cost.breakdown,
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def pricing(table: pd.DataFrame, layers: Sequence[LayerSpec], device: CostModel) -> Price:
    """Price of a whole configuration: its layers' rows, plus what the network adds beyond their sum.

    Args:
        table: From :func:`cost_table`.
        layers: The layers it was made from.
        device: The device it was made for.

    Returns:
        A function from a configuration to its latency_s and energy_j per image, size_bytes and bops. It raises
        ValueError for a precision that the table lacks.
    """
    columns = ["layer", "weight_bits", "activation_bits", "weight_format", *COSTS]
    rows = {
        (layer, Precision(weight_bits, activation_bits, weight_format)): tuple(values)
        for layer, weight_bits, activation_bits, weight_format, *values in table.reset_index()[columns].to_numpy()
    }

    def price(config: BitConfig) -> dict[str, float]:
        keys = list(config.items())
        unknown = next((key for key in keys if key not in rows), None)
        if unknown:
            raise ValueError(
                f"Hardware '{device.name}' has no cost for layer '{unknown[0]}' at {unknown[1]} with "
                f"weight_format='{unknown[1].weight_format}'."
            )
        sums = [sum(column) for column in zip(*(rows[key] for key in keys), strict=True)]
        extra = device.network_cost(layers, config)
        extras = (_number(extra.latency_s), _number(extra.energy_j), 0.0, 0.0)
        return {name: float(total + more) for name, total, more in zip(COSTS, sums, extras, strict=True)}

    return price
