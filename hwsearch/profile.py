"""What a network costs on a device at each precision: totals, and the table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import nan

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cost_models import LayerSpec, Precision
from hwsearch.costs import KEY, Pricing
from hwsearch.units import unit_of


def uniform_costs(costs: pd.DataFrame, price: Pricing) -> dict[Precision, dict[str, float]]:
    """Costs of a network with one precision in every layer.

    Args:
        costs: From :func:`hwsearch.costs.cost_table`.
        price: From :func:`hwsearch.costs.pricing`.

    Returns:
        For each precision that every layer runs at, widest first: ``latency_s``, ``energy_j``, ``size_bytes`` and
        ``bops`` of the network, and ``operators_s``, the part of its latency that is not its layers'.
    """
    layers = [layer.name for layer in price.network.layers]
    uniform = {}
    for precision, latencies in sorted(_latencies(costs).items(), reverse=True):
        if len(latencies) == len(layers):
            config = dict.fromkeys(layers, precision)
            operators_s = price.device.network_cost(price.network, config).latency_s
            uniform[precision] = price(config) | {"operators_s": nan if operators_s is None else operators_s}
    return uniform


def render_profile(
    layers: Sequence[LayerSpec],
    costs: pd.DataFrame,
    uniform: Mapping[Precision, Mapping[str, float]],
    shown: Sequence[Precision],
    spreads: Mapping[str, float],
) -> RenderableType:
    """Latency of each layer and of the network at a few precisions, and which of them run as wider ones.

    Args:
        layers: The network's layers.
        costs: From :func:`hwsearch.costs.cost_table`.
        uniform: From :func:`uniform_costs`.
        shown: Columns; those that no layer runs at are left out.
        spreads: Largest spread of each layer's measured latencies, as a share; empty where costs are modelled.
    """
    latencies = _latencies(costs)
    columns = [precision for precision in shown if precision in latencies] or list(uniform)
    largest = max(value for precision in columns for value in latencies[precision].values())
    divisor, unit = unit_of("latency_s", largest)

    def cells(values: Iterable[float | None]) -> list[str]:
        return ["" if value is None else f"{value / divisor:.2f}" for value in values]

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(f"latency / {unit}", no_wrap=True)
    for name in [*map(str, columns), *(["spread"] if spreads else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for layer in layers:
        spread = [f"{spreads[layer.name]:.1%}"] if spreads else []
        table.add_row(layer.name, *cells(latencies[precision].get(layer.name) for precision in columns), *spread)
    for name, part in (("other operators", "operators_s"), ("network", "latency_s")):
        table.add_row(name, *cells(uniform.get(precision, {}).get(part) for precision in columns), style="bold")
    return Group(table, *(Text(line) for line in _widened(costs, columns)))


def _latencies(costs: pd.DataFrame) -> dict[Precision, dict[str, float]]:
    """Known latencies of each precision's layers, in seconds."""
    latencies: dict[Precision, dict[str, float]] = {}
    for row in costs["latency_s"].dropna().reset_index().to_dict("records"):
        precision = Precision(*(row[column] for column in KEY[1:]))
        latencies.setdefault(precision, {})[str(row["layer"])] = float(row["latency_s"])
    return latencies


def _widened(costs: pd.DataFrame, columns: Sequence[Precision]) -> list[str]:
    """``W4A8: stored 4-bit, computed 8-bit in 20 layers`` for each precision that is stored or computed as another."""
    bits = costs[["stored_weight_bits", "computed_weight_bits", "computed_activation_bits"]].dropna().astype(int)
    lines = []
    for precision in columns:
        key = (precision.weight_bits, precision.activation_bits, precision.weight_format)
        kernels = Counter(bits.xs(key, level=tuple(KEY[1:])).itertuples(index=False, name=None))
        del kernels[precision.weight_bits, precision.weight_bits, precision.activation_bits]
        parts = [
            f"stored {stored}-bit, computed {_bits(*computed)} in {count} layer{'s' * (count > 1)}"
            for (stored, *computed), count in kernels.most_common()
        ]
        lines += [f"{precision}: {'; '.join(parts)}"] if parts else []
    return lines


def _bits(weight_bits: int, activation_bits: int) -> str:
    return f"{weight_bits}-bit" if weight_bits == activation_bits else str(Precision(weight_bits, activation_bits))
