"""A device whose costs are a table: one row per shape and precision, measured or computed elsewhere."""

from collections.abc import Mapping
from functools import cached_property
from math import inf, isnan
from pathlib import Path
from typing import Literal, Self, TypeAlias

import pandas as pd
from pydantic import model_validator
from pydantic.dataclasses import dataclass

from cost_models.cost import Cost
from cost_models.device_file import DeviceFile
from cost_models.fields import DEVICE_FILE
from cost_models.layer import BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec
from cost_models.sections import Overhead
from cost_models.support import require_supported

Shape: TypeAlias = tuple[int | str, ...]

PRECISION = ("weight_bits", "activation_bits", "weight_format")
COSTS = ("latency_s", "energy_j")
SHAPE = (
    *("op", "in_channels", "out_channels", "groups", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("in_h", "in_w", "out_h", "out_w"),
)
"""Columns that say which layers a row is for."""
WORDS = {"op": ("conv2d", "linear"), "weight_format": ("uniform", "codebook")}
"""What the columns without numbers may hold."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Lookup(DeviceFile):
    """Costs by look-up: a layer has the precisions that the table holds for its shape, and no others.

    The CSV file (lines from ``#`` on are comments) has the columns ``weight_bits``, ``activation_bits``, ``latency_s``
    (seconds per image), optionally ``weight_format`` and ``energy_j``, and those of :data:`SHAPE` that tell its rows
    apart.
    """

    path: Path
    """The CSV file, absolute or from the working directory."""
    origin: Literal["measured", "modelled"]
    """Whether the rows were measured."""
    overhead: Overhead | None = None
    """Time per layer, operator and inference that the rows leave out."""

    @model_validator(mode="after")
    def _table_is_sound(self) -> Self:
        if not self.path.is_file():
            raise ValueError(f"path: there is no file '{self.path}'")
        try:
            columns = list(self._table.columns)
        except ValueError as error:  # of pandas: no table, or none of text
            raise ValueError(f"path: '{self.path}' is no CSV table: {error}") from error
        required = {*PRECISION[:2], COSTS[0]}
        unknown, missing = set(columns) - {*SHAPE, *PRECISION, *COSTS}, required - set(columns)
        if unknown or missing:
            raise ValueError(
                f"path: '{self.path}' has columns {columns}; required are {sorted(required)}, possible are "
                f"{[*SHAPE, PRECISION[2], COSTS[1]]}"
            )
        keys = [column for column in columns if column not in COSTS]
        twice = self._table[self._table.duplicated(keys)]
        if len(twice):
            raise ValueError(f"path: '{self.path}' gives {twice.iloc[0][keys].to_dict()} twice")
        for column in columns:
            if column in WORDS:
                self._check_words(column)
            else:
                self._check_numbers(column)
        return self

    def _check_words(self, column: str) -> None:
        unknown = self._table[column][~self._table[column].isin(WORDS[column])]
        if len(unknown):
            raise ValueError(f"path: '{self.path}' holds {column}={unknown.iloc[0]}; choose from {list(WORDS[column])}")

    def _check_numbers(self, column: str) -> None:
        """Refuse what is no cost, or no whole number of bits, channels or pixels; an energy may be unknown."""
        numbers = pd.to_numeric(self._table[column], errors="coerce")
        sound = (numbers > 0) & (numbers < inf)
        if column not in COSTS:
            sound &= numbers == numbers.round()
        elif column == "energy_j":
            sound |= self._table[column].isna()
        if not sound.all():
            kind = "positive number" if column in COSTS else "positive whole number"
            raise ValueError(
                f"path: '{self.path}' holds {column}={self._table[column][~sound].iloc[0]}, which is no {kind}"
            )

    @property
    def cost_source(self) -> Literal["measured", "modelled"]:
        """Where the rows come from."""
        return self.origin

    @property
    def additive(self) -> bool:
        """Always: all that a network adds is an overhead."""
        return True

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        """Precisions with a row for the layer's shape, narrowest first."""
        return tuple(self._costs.get(self._shape(layer), {}))

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """The row's cost, and the overhead per layer.

        Raises:
            ValueError: If the table has no row for ``layer`` at ``precision``.
        """
        require_supported(self.name, layer, precision, self.precisions(layer))
        latency_s, energy_j = self._costs[self._shape(layer)][precision]
        overhead_s = self._overhead.layer_s / self.batch
        return Cost(
            latency_s + overhead_s,
            None if isnan(energy_j) else energy_j,
            {"kernel_s": latency_s, "overhead_s": overhead_s} | ({} if isnan(energy_j) else {"kernel_j": energy_j}),
            bound_by="kernel" if latency_s >= overhead_s else "overhead",
        )

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """Overheads per operator, between layers and per inference; the table knows no energy of these."""
        overhead = self._overhead
        between_s = len(network.layers) * overhead.between_layers_s + len(network.operators) * overhead.operator_s
        seconds = (between_s + overhead.inference_s) / self.batch
        return Cost(seconds, 0.0 if "energy_j" in self._table else None, {"overhead_s": seconds})

    @property
    def _overhead(self) -> Overhead:
        return self.overhead or Overhead(source=self.source)

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.read_csv(self.path, comment="#")

    @cached_property
    def _costs(self) -> Mapping[Shape, Mapping[Precision, tuple[float, float]]]:
        costs: dict[Shape, dict[Precision, tuple[float, float]]] = {}
        for row in self._table.to_dict("records"):
            shape = tuple(row[column] for column in SHAPE if column in row)
            bits = int(row["weight_bits"]), int(row["activation_bits"])
            precision = Precision(*bits, row.get("weight_format", "uniform"))
            costs.setdefault(shape, {})[precision] = row["latency_s"], row.get("energy_j", float("nan"))
        return {shape: dict(sorted(found.items())) for shape, found in costs.items()}

    def _shape(self, layer: LayerSpec) -> Shape:
        """What the table tells layers apart by."""
        own = (
            *(layer.op, layer.in_channels, layer.out_channels, layer.groups, *layer.kernel, *layer.stride),
            *(*layer.in_size, *layer.out_size),
        )
        return tuple(value for column, value in zip(SHAPE, own, strict=True) if column in self._table)
