"""A device described by numbers and formulas: compute per precision, traffic through memories, overheads, power."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import inf, prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.cost import Cost
from cost_models.device_file import DeviceFile
from cost_models.fields import DEVICE_FILE, Bits, Positive
from cost_models.formula import evaluate, shape_values
from cost_models.layer import FLOAT_BITS, BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec, OperatorSpec
from cost_models.sections import Conversion, Memory, Op, Overhead, Power, Rate
from cost_models.support import require_supported
from cost_models.tensors import converted_values, peak_bytes

PICO = 1e-12
TRANSFERS = ("weight_load_s", "activation_load_s", "store_s")
Moved = list[tuple[float, float, float]]
"""Bits of weights, inputs and outputs that pass each memory for a batch."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Analytic(DeviceFile):
    """Latency = the longest of compute and memories, or their sum, + overhead; energy by MACs and bits, or by power.

    ``Cost.breakdown``: ``compute_s``, ``weight_load_s``, ``activation_load_s``, ``store_s``, ``overhead_s``, and
    ``overlap_s``, the time that they share, negative; they sum to the latency. ``compute_j``, the energy of each
    memory by its name, and ``static_j``, or ``active_j`` alone; they sum to the energy.
    """

    compute: Annotated[tuple[Rate, ...], Field(min_length=1)]
    """Precisions and their speed; the first entry that fits a layer and a precision counts."""
    clock_hz: Positive | None = None
    """Clock that ``cycles`` and ``macs_per_cycle`` count."""
    memory: tuple[Memory, ...] = ()
    """Memories and buses, the outermost first."""
    output_bits: Bits
    """Bits of a layer's outputs where they are written."""
    overlap: Literal["max", "sum"]
    """Whether memories work while the device computes, or before and after."""
    overhead: Overhead | None = None
    """Time per layer, operator and inference."""
    power: Power | None = None
    """Power at all times, or while the device runs."""
    operators: Literal["by_bytes", "free"] = "by_bytes"
    """Additions, pooling and what else is no layer: its tensors pass the first memory once, or cost nothing.
    Products of activations take as long as a linear layer."""
    operator_bits: Bits = 8
    """Bits of the tensors that these read and write."""
    conversion: Conversion | None = None
    """How tensors that are read at several widths are priced."""
    monotone: bool = False
    """The claim that fewer bits never cost more; a test holds the file to it."""

    @model_validator(mode="after")
    def _entries_agree(self) -> Self:
        seen: dict[tuple[Op, str, tuple[int, int]], int] = {}
        for index, rate in enumerate(self.compute):
            if self.clock_hz is None and (rate.cycles is not None or rate.macs_per_cycle is not None):
                raise ValueError(f"compute[{index}] counts cycles; give clock_hz")
            for op, pair in product(rate.ops, rate.pairs):
                first = seen.setdefault((op, rate.weight_format, pair), index)
                if first != index and self.compute[first].kernels is None:
                    raise ValueError(f"compute[{index}] gives {list(pair)} for {op} again, after compute[{first}]")
                if rate.computed_as is not None:
                    self._check_computed_as(index, op)
        return self

    def _check_computed_as(self, index: int, op: Op) -> None:
        pairs = {pair for rate in self.compute if op in rate.ops and rate.computed_as is None for pair in rate.pairs}
        wanted = self.compute[index].computed_as
        if wanted not in pairs:
            raise ValueError(
                f"compute[{index}] is computed_as {list(wanted or ())}, which no entry computes for {op}; "
                f"choose from {sorted(map(list, pairs))}"
            )

    @model_validator(mode="after")
    def _memories_have_names(self) -> Self:
        names = [level.name for level in self.memory]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"memory[{index}].name: '{name}' is taken by memory[{names.index(name)}]")
        return self

    @model_validator(mode="after")
    def _energy_has_one_form(self) -> Self:
        own = [rate.mac_pj is not None for rate in self.compute if rate.computed_as is None]
        per_bit = any(level.read_pj_per_bit or level.write_pj_per_bit for level in self.memory)
        power = self.power or Power(source=self.source)
        if any(own) and not all(own):
            raise ValueError("compute: give mac_pj for every entry, or for none")
        if power.active_w is not None and (any(own) or per_bit or power.static_w):
            raise ValueError("power.active_w excludes static_w, mac_pj and picojoules per bit; keep one form of energy")
        if (per_bit or power.static_w) and not any(own):
            raise ValueError("static_w and picojoules per bit alone give no energy; add mac_pj, or use power.active_w")
        return self

    @property
    def additive(self) -> bool:
        """Unless residency, capacity or conversions depend on the configuration."""
        return self.conversion is None and not any(
            level.resident_bytes or level.capacity_bytes for level in self.memory
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes, a line for each estimate, and whether operators are left out."""
        timed = (self.memory and self.memory[0].bytes_per_s) or (self.overhead and self.overhead.operator_s)
        if timed and self.operators == "by_bytes":
            return super().warnings
        return *super().warnings, "Additions, pooling and other operators between layers cost no time here."

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        """Every allowed precision, narrowest first."""
        return tuple(self._entries(layer))

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``, or a formula has no value for it.
        """
        entries = self._entries(layer)
        if precision not in entries:
            require_supported(self.name, layer, precision, tuple(entries))
        rate, computed = entries[precision]
        try:
            seconds, joules, bound_by = self._layer(layer, precision, rate, computed)
        except ValueError as error:
            raise ValueError(
                f"Hardware '{self.name}' has no cost for layer '{layer.name}' at {precision}: {error}."
            ) from error
        return self._cost(seconds, joules, computed if computed != precision else None, bound_by)

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """Other operators, overhead, weights that do not stay resident, conversions; infinite if it does not fit."""
        overhead = self.overhead or Overhead(source=self.source)
        operators = network.operators if self.operators == "by_bytes" else ()
        parts = [self._operator(operator) for operator in operators]
        streamed: Moved = [(self._streamed_bits(level, network, config), 0.0, 0.0) for level in self.memory]
        stream_s = sum(level.seconds(bits) for level, (bits, *_) in zip(self.memory, streamed, strict=True))
        seconds = {
            "operators_s": sum(sum(seconds.values()) for seconds, _ in parts),
            "weight_load_s": stream_s / self.batch,
            "overhead_s": (overhead.inference_s + len(network.layers) * overhead.between_layers_s) / self.batch,
        }
        if self.conversion is not None:
            converted = converted_values(network, config, self.operator_bits)
            seconds["conversion_s"] = converted / self.conversion.values_per_s
        excess_bytes = {level.name: self._excess_bytes(level, network, config) for level in self.memory}
        lacking = {f"{name}_excess_bytes": excess for name, excess in excess_bytes.items() if excess > 0}
        if lacking:
            seconds["does_not_fit_s"] = inf
        joules = [self._joules(0.0, streamed), *(joules for _, joules in parts)]
        cost = self._cost(seconds, {part: sum(each[part] for each in joules) for part in joules[0]})
        return replace(cost, breakdown={**cost.breakdown, **lacking})

    def _cost(
        self,
        seconds: Mapping[str, float],
        joules: Mapping[str, float],
        computed_as: Precision | None = None,
        bound_by: str | None = None,
    ) -> Cost:
        """Adds the power's part to the energy, or drops an energy that is not known."""
        latency_s = sum(seconds.values())
        power = self.power or Power(source=self.source)
        if power.active_w is not None:
            joules = {"active_j": power.active_w * latency_s}
        elif all(rate.mac_pj is None for rate in self.compute):
            return Cost(latency_s, None, seconds, computed_as, bound_by)
        elif power.static_w:
            joules = {**joules, "static_j": power.static_w * latency_s}
        return Cost(latency_s, sum(joules.values()), {**seconds, **joules}, computed_as, bound_by)

    def _layer(
        self, layer: LayerSpec, precision: Precision, rate: Rate, computed: Precision
    ) -> tuple[dict[str, float], dict[str, float], str]:
        """Seconds and joules per image by part, and the part that bounds the latency."""
        values = shape_values(layer) | _bits(computed)
        values["batch"] = self.batch
        values["output_bits"] = FLOAT_BITS if precision.activation_bits == FLOAT_BITS else self.output_bits
        compute_s = rate.seconds(values, self.clock_hz) / self.batch
        compute_j = layer.macs * evaluate(rate.mac_pj or 0.0, values) * PICO
        values |= _bits(precision)
        moved = [level.bits(values) for level in self.memory]
        seconds, bound_by = self._times(compute_s, moved, self.overhead.layer_s if self.overhead else 0.0)
        return seconds, self._joules(compute_j, moved), bound_by

    def _operator(self, operator: OperatorSpec) -> tuple[dict[str, float], dict[str, float]]:
        """The same of an operator that is no layer."""
        if operator.op == "matmul":
            product = _as_linear(operator)
            entries, precision = self._entries(product), Precision(self.operator_bits, self.operator_bits)
            if precision in entries:
                return self._layer(product, precision, *entries[precision])[:2]
        bits = self.batch * self.operator_bits
        moved = [(0.0, 0.0, 0.0) for _ in self.memory]
        moved[:1] = [(0.0, float(bits * operator.in_count), float(bits * operator.out_count))][: len(moved)]
        seconds, _ = self._times(0.0, moved, self.overhead.operator_s if self.overhead else 0.0)
        return seconds, self._joules(0.0, moved)

    def _times(self, compute_s: float, moved: Moved, overhead_s: float) -> tuple[dict[str, float], str]:
        loads = [
            [level.seconds(bits) / self.batch for bits in passing]
            for level, passing in zip(self.memory, moved, strict=True)
        ]
        parts = {"compute_s": compute_s} | {
            name: sum(load[index] for load in loads) for index, name in enumerate(TRANSFERS)
        }
        together = sum(parts.values())
        busy_s = max([compute_s, *map(sum, loads)]) if self.overlap == "max" else together
        rivals = TRANSFERS if self.overlap == "max" else tuple(parts)
        bound_by = "compute_s" if busy_s == compute_s else max(rivals, key=parts.__getitem__)
        overhead_s /= self.batch
        if overhead_s > busy_s:
            bound_by = "overhead_s"
        parts |= {"overhead_s": overhead_s, "overlap_s": busy_s - together}
        return parts, bound_by.removesuffix("_s")

    def _joules(self, compute_j: float, moved: Moved) -> dict[str, float]:
        joules = {"compute_j": compute_j}
        for level, (weights, inputs, outputs) in zip(self.memory, moved, strict=True):
            picojoules = (weights + inputs) * level.read_pj_per_bit + outputs * level.write_pj_per_bit
            joules[f"{level.name}_j"] = picojoules * PICO / self.batch
        return joules

    def _streamed_bits(self, level: Memory, network: NetworkSpec, config: BitConfig) -> float:
        """Bits of weights that pass a bus in every inference because they do not fit behind it."""
        if level.resident_bytes is None:
            return 0.0
        return max(0.0, _weight_bits(network, config) - 8 * level.resident_bytes)

    def _excess_bytes(self, level: Memory, network: NetworkSpec, config: BitConfig) -> float:
        """What a network needs of a memory beyond what there is."""
        if level.capacity_bytes is None:
            return 0.0
        weights = 0.0 if level.weights == 0 else _weight_bits(network, config) / 8
        activations = 0.0 if level.inputs == 0 else self.batch * peak_bytes(network, config, self.operator_bits)
        return max(0.0, weights + activations - level.capacity_bytes)

    @cached_property
    def _found(self) -> dict[tuple[Op, tuple[int, int]], dict[Precision, tuple[Rate, Precision]]]:
        """Remembers :meth:`_entries`."""
        return {}

    def _entries(self, layer: LayerSpec) -> dict[Precision, tuple[Rate, Precision]]:
        """For each precision of a layer, the entry that does the work and the precision that it computes with."""
        op: Op = "depthwise" if layer.depthwise else layer.op
        if (op, layer.kernel) not in self._found:
            self._found[op, layer.kernel] = _find_entries(
                [rate for rate in self.compute if rate.fits(op, layer.kernel)]
            )
        return self._found[op, layer.kernel]


def _find_entries(fitting: Sequence[Rate]) -> dict[Precision, tuple[Rate, Precision]]:
    workers = [rate for rate in fitting if rate.computed_as is None]
    entries: dict[Precision, tuple[Rate, Precision]] = {}
    for rate in fitting:
        worker = rate if rate in workers else next((w for w in workers if rate.computed_as in w.pairs), None)
        for pair in rate.pairs if worker else ():
            assert worker is not None
            stored = Precision(*pair, rate.weight_format)
            computed = Precision(*rate.computed_as, worker.weight_format) if rate.computed_as else stored
            entries.setdefault(stored, (worker, computed))
    return dict(sorted(entries.items()))


def _bits(precision: Precision) -> dict[str, float]:
    return {"weight_bits": precision.weight_bits, "activation_bits": precision.activation_bits}


def _weight_bits(network: NetworkSpec, config: BitConfig) -> int:
    return sum(layer.weight_count * config[layer.name].weight_bits for layer in network.layers)


def _as_linear(matmul: OperatorSpec) -> LayerSpec:
    """A linear layer with the MACs of a product of activations."""
    rows = prod(matmul.out_size)
    inner = matmul.in_counts[0] // rows
    return LayerSpec(matmul.name, "linear", inner, matmul.channels, in_size=(rows, 1), out_size=(rows, 1), bias=False)
