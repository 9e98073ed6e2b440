"""A device described by its compute rates per precision and its memory bandwidth."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from cost_models.cost import Cost
from cost_models.fields import DEVICE_FILE, Bits, Count, NonNegative, Positive
from cost_models.layer import FLOAT_BITS, BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec
from cost_models.support import require_supported

Op = Literal["conv2d", "linear", "depthwise"]

PICO = 1e-12


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Rate:
    """How fast one (weight, activation) pair is computed.

    Attributes:
        weight_bits: Stored bits per weight.
        activation_bits: Stored bits per input activation.
        macs_per_s: Peak MACs per second, dense.
        efficiency: Share of the peak that kernels reach.
        mac_pj: Picojoules per MAC.
        computed_as: ``(weight_bits, activation_bits)`` of the rate that does the work, instead of an own rate:
            the pair is only stored narrower.
        ops: Layers that the rate holds for; ``"conv2d"`` excludes depthwise convolutions.
    """

    weight_bits: Bits
    activation_bits: Bits
    macs_per_s: Positive | None = None
    efficiency: Annotated[float, Field(gt=0, le=1)] = 1.0
    mac_pj: NonNegative | None = None
    computed_as: tuple[Bits, Bits] | None = None
    ops: Annotated[tuple[Op, ...], Field(min_length=1)] = ("conv2d", "linear", "depthwise")

    @property
    def pair(self) -> tuple[int, int]:
        """``(weight_bits, activation_bits)``."""
        return self.weight_bits, self.activation_bits

    @model_validator(mode="after")
    def _own_rate_or_another(self) -> Self:
        if (self.macs_per_s is None) == (self.computed_as is None):
            raise ValueError(f"{list(self.pair)} needs either macs_per_s or computed_as, and not both")
        if self.computed_as is not None:
            if self.mac_pj is not None or self.efficiency != 1.0:
                raise ValueError(f"{list(self.pair)} takes efficiency and mac_pj from computed_as; remove its own")
            if any(wide < stored for wide, stored in zip(self.computed_as, self.pair, strict=True)):
                raise ValueError(f"{list(self.pair)} cannot be computed_as the narrower {list(self.computed_as)}")
        return self


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class Roofline:
    """Latency of a layer = max (or sum) of compute and memory time, plus an overhead.

    Memory traffic counts each tensor once: packed weights once per batch, inputs and outputs per image.
    Every cost is per image: an inference of ``batch`` images divided by ``batch``.

    ``Cost.breakdown``: ``compute_s``, ``traffic_s`` (they overlap if ``overlap`` is ``"max"``), ``overhead_s``, and
    where energy is known ``compute_j``, ``memory_j`` and ``static_j``, or ``active_j``.

    Attributes:
        name: Device, runtime and version.
        batch: Images per inference.
        rates: One entry per supported pair (and op); a (32, 32) entry gives the float network a cost.
        memory_bytes_per_s: Memory bandwidth.
        output_bits: Width at which a layer's outputs are stored; a float layer's are float.
        overlap: Whether memory transfers hide behind compute (``"max"``) or not (``"sum"``).
        memory_pj_per_bit: Picojoules per bit moved; with ``Rate.mac_pj`` it gives energy.
        layer_overhead_s: Seconds per layer and inference, e.g. a kernel launch.
        inference_overhead_s: Seconds per inference.
        static_w: Watts drawn at all times, in addition to ``mac_pj`` and ``memory_pj_per_bit``.
        active_w: Watts drawn while the device runs, instead of all of the above: energy = active_w * latency.
        warnings: What a reader of the results must know.
    """

    name: str
    batch: Count
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    memory_bytes_per_s: Positive
    output_bits: Bits
    overlap: Literal["max", "sum"]
    memory_pj_per_bit: NonNegative | None = None
    layer_overhead_s: NonNegative = 0.0
    inference_overhead_s: NonNegative = 0.0
    static_w: NonNegative = 0.0
    active_w: Positive | None = None
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rates_are_consistent(self) -> Self:
        seen: dict[tuple[Op, tuple[int, int]], Rate] = {}
        for rate in self.rates:
            for op in rate.ops:
                if (op, rate.pair) in seen:
                    raise ValueError(f"rates holds {list(rate.pair)} twice for {op}")
                seen[op, rate.pair] = rate
        for (op, pair), rate in seen.items():
            if rate.computed_as is None:
                continue
            target = seen.get((op, rate.computed_as))
            if target is None or target.computed_as is not None:
                own = sorted(list(p) for (o, p), r in seen.items() if o == op and r.computed_as is None)
                raise ValueError(
                    f"rates: {list(pair)} is computed_as {list(rate.computed_as)}, which has no macs_per_s for {op}; "
                    f"choose from {own}"
                )
        return self

    @model_validator(mode="after")
    def _energy_has_one_form(self) -> Self:
        per_mac = any(rate.mac_pj is not None for rate in self.rates)
        if self.active_w is not None and (per_mac or self.memory_pj_per_bit is not None or self.static_w):
            raise ValueError("active_w excludes mac_pj, memory_pj_per_bit and static_w; keep one form of energy")
        if self.active_w is None and per_mac != (self.memory_pj_per_bit is not None):
            raise ValueError("energy needs both rates' mac_pj and memory_pj_per_bit; give both, or neither")
        if self.static_w and not per_mac:
            raise ValueError("static_w alone gives no energy; add mac_pj and memory_pj_per_bit, or use active_w")
        return self

    @property
    def cost_source(self) -> Literal["modelled", "measured"]:
        """Always modelled."""
        return "modelled"

    @property
    def additive(self) -> bool:
        """Always: all that a network adds is an overhead."""
        return True

    def precisions(self, layer: LayerSpec) -> tuple[Precision, ...]:
        """Pairs with a rate for the layer's op, narrowest first."""
        return tuple(sorted(Precision(*rate.pair) for rate in self.rates if _kind(layer) in rate.ops))

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``.
        """
        require_supported(self.name, layer, precision, self.precisions(layer))
        stored = self._rate(layer, (precision.weight_bits, precision.activation_bits))
        rate = stored if stored.computed_as is None else self._rate(layer, stored.computed_as)
        assert rate.macs_per_s is not None  # checked when the device file was read
        traffic_bytes = self._traffic_bytes(layer, precision)
        times = {
            "compute_s": layer.macs / (rate.macs_per_s * rate.efficiency),
            "traffic_s": traffic_bytes / self.memory_bytes_per_s,
            "overhead_s": self.layer_overhead_s / self.batch,
        }
        busy = (times["compute_s"], times["traffic_s"])
        latency_s = (max(busy) if self.overlap == "max" else sum(busy)) + times["overhead_s"]
        energy = self._energy(layer, rate, traffic_bytes, latency_s)
        computed_as = Precision(*rate.pair)
        return Cost(
            latency_s,
            None if energy is None else sum(energy.values()),
            times | (energy or {}),
            computed_as if computed_as != precision else None,
        )

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """The overhead per inference, and the energy drawn during it."""
        latency_s = self.inference_overhead_s / self.batch
        if self.active_w is not None:
            return Cost(latency_s, self.active_w * latency_s)
        return Cost(latency_s, None if self.memory_pj_per_bit is None else self.static_w * latency_s)

    def _rate(self, layer: LayerSpec, pair: tuple[int, int]) -> Rate:
        return next(rate for rate in self.rates if rate.pair == pair and _kind(layer) in rate.ops)

    def _traffic_bytes(self, layer: LayerSpec, precision: Precision) -> float:
        """Bytes per image; each image carries its share of the weights."""
        output_bits = FLOAT_BITS if precision.activation_bits == FLOAT_BITS else self.output_bits
        images = _packed(layer.in_count, precision.activation_bits) + _packed(layer.out_count, output_bits)
        return images + _packed(layer.weight_count, precision.weight_bits) / self.batch

    def _energy(self, layer: LayerSpec, rate: Rate, traffic_bytes: float, latency_s: float) -> dict[str, float] | None:
        """Parts in joules per image, or None if unknown."""
        if self.active_w is not None:
            return {"active_j": self.active_w * latency_s}
        if rate.mac_pj is None or self.memory_pj_per_bit is None:
            return None
        return {
            "compute_j": layer.macs * rate.mac_pj * PICO,
            "memory_j": 8 * traffic_bytes * self.memory_pj_per_bit * PICO,
            "static_j": self.static_w * latency_s,
        }


def _kind(layer: LayerSpec) -> Op:
    return "depthwise" if layer.depthwise else layer.op


def _packed(count: int, bits: int) -> int:
    """Bytes of ``count`` packed values."""
    return -(-count * bits // 8)
