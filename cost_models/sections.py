"""Sections of an analytic device file: compute rates, memories, overheads, power, conversions."""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.device_file import Sourced
from cost_models.fields import DEVICE_FILE, Bits, Formula, NonNegative, Positive, Share, SomeBits, listed
from cost_models.formula import evaluate

Op: TypeAlias = Literal["conv2d", "linear", "depthwise"]
SomeOps = Annotated[tuple[Op, ...], Field(min_length=1), BeforeValidator(listed, Op | list[Op])]


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Rate(Sourced):
    """Which precisions some layers may have, and how fast these are computed."""

    weight_bits: SomeBits
    """Bits that weights may be stored in."""
    activation_bits: SomeBits
    """Bits that inputs may be stored in; every pair with ``weight_bits`` is allowed."""
    weight_format: Literal["uniform", "codebook"] = "uniform"
    """Uniform levels, or a codebook."""
    ops: SomeOps = ("conv2d", "linear", "depthwise")
    """Layers that the entry holds for; ``conv2d`` excludes depthwise convolutions. The first entry that fits counts."""
    kernels: tuple[tuple[int, int], ...] | None = None
    """Kernels (height, width) that it holds for; every one if left out."""
    macs_per_s: Formula | None = None
    """Peak MACs per second, dense."""
    macs_per_cycle: Formula | None = None
    """Peak MACs per cycle of the whole device."""
    cycles: Formula | None = None
    """Cycles of a layer for a whole batch."""
    computed_as: tuple[Bits, Bits] | None = None
    """(weight_bits, activation_bits) of the entry that does the work: these pairs are only stored narrower."""
    efficiency: Share = 1.0
    """Share of the peak that kernels reach."""
    mac_pj: Formula | None = None
    """Picojoules per MAC."""

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Every (weight_bits, activation_bits)."""
        return tuple(product(self.weight_bits, self.activation_bits))

    @model_validator(mode="after")
    def _one_law(self) -> Self:
        laws = ("macs_per_s", "macs_per_cycle", "cycles", "computed_as")
        given = [law for law in laws if getattr(self, law) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(laws)}; found {given or 'none'}")
        if self.computed_as is not None:
            if self.mac_pj is not None or self.efficiency != 1.0:
                raise ValueError("computed_as takes efficiency and mac_pj from the entry that it names; remove them")
            for pair in self.pairs:
                if any(wide < stored for wide, stored in zip(self.computed_as, pair, strict=True)):
                    raise ValueError(f"{list(pair)} cannot be computed_as the narrower {list(self.computed_as)}")
        return self

    def seconds(self, values: Mapping[str, float], clock_hz: float | None) -> float:
        """Time to compute a layer for a batch.

        Args:
            values: Of the names in a formula, with the bits that are computed with.
            clock_hz: Of the device; needed where the entry counts cycles.

        Raises:
            ValueError: If a formula has no value, or a rate is not above 0.
        """
        macs = values["batch"] * values["macs"]
        if self.macs_per_s is not None:
            return macs / (_rate("macs_per_s", self.macs_per_s, values) * self.efficiency)
        assert clock_hz is not None  # checked when the device file was read
        if self.macs_per_cycle is not None:
            cycles = macs / _rate("macs_per_cycle", self.macs_per_cycle, values)
        else:
            assert self.cycles is not None  # likewise
            cycles = evaluate(self.cycles, values)
        return cycles / (clock_hz * self.efficiency)

    def fits(self, op: Op, kernel: tuple[int, int]) -> bool:
        """Whether the entry holds for a layer."""
        return op in self.ops and (self.kernels is None or kernel in self.kernels)


def _rate(field: str, formula: Formula, values: Mapping[str, float]) -> float:
    rate = evaluate(formula, values)
    if rate <= 0:
        raise ValueError(f"{field} is {rate:g} ({formula}), not above 0")
    return rate


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Memory(Sourced):
    """A memory or a bus: what passes through it for a layer and a batch, how fast, at what energy.

    By default every tensor passes once. Loads and stores share the bandwidth.
    """

    name: str
    """Shown in the energy by level."""
    weights: Formula = "weights * weight_bits"
    """Bits of weights that are read."""
    inputs: Formula = "batch * inputs * activation_bits"
    """Bits of input activations that are read."""
    outputs: Formula = "batch * outputs * output_bits"
    """Bits of outputs and partial sums that are written."""
    bytes_per_s: Positive | None = None
    """Bandwidth; None if it never limits."""
    read_pj_per_bit: NonNegative = 0.0
    """Picojoules per bit read."""
    write_pj_per_bit: NonNegative = 0.0
    """Picojoules per bit written."""
    resident_bytes: Positive | None = None
    """Weights of a network that stay behind this bus: only what exceeds these bytes passes, in every inference."""
    capacity_bytes: Positive | None = None
    """What a network may need of this memory, all weights and the live activations; above, it does not run."""

    def bits(self, values: Mapping[str, float]) -> tuple[float, float, float]:
        """Bits of weights, inputs and outputs that pass for a layer and a batch."""
        weights = 0.0 if self.resident_bytes else evaluate(self.weights, values)
        return weights, evaluate(self.inputs, values), evaluate(self.outputs, values)

    def seconds(self, bits: float) -> float:
        """Time that so many bits take."""
        return bits / 8 / self.bytes_per_s if self.bytes_per_s else 0.0


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Overhead(Sourced):
    """Time that no layer's work explains."""

    layer_s: NonNegative = 0.0
    """Seconds per layer and inference, e.g. the launch of a kernel."""
    operator_s: NonNegative = 0.0
    """Seconds per operator that is no layer, and inference."""
    between_layers_s: NonNegative = 0.0
    """Seconds per layer of a whole network and inference, which a kernel by itself does not take: requantization and
    changes of layout that run as kernels of their own."""
    inference_s: NonNegative = 0.0
    """Seconds per inference."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Power(Sourced):
    """Power that no single MAC or bit explains."""

    static_w: NonNegative = 0.0
    """Watts at all times, in addition to picojoules per MAC and bit."""
    active_w: Positive | None = None
    """Watts while the device runs, instead of picojoules: energy is power times latency."""


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Conversion(Sourced):
    """Tensors that several layers read at different widths: written at the widest, converted to each other one.

    Where a file leaves it out, conversions are free, or a part of ``overhead.between_layers_s``.
    """

    values_per_s: Positive
    """Values converted per second."""
