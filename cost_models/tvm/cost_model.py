"""A CPU whose costs are measured: every shape of a layer once, on kernels that TVM compiles."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from platformdirs import user_cache_path
from pydantic import Field
from pydantic.dataclasses import dataclass

from cost_models.cost import Cost
from cost_models.fields import DEVICE_FILE, Bits, Count, Positive
from cost_models.layer import BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec, OperatorSpec
from cost_models.support import require_supported
from cost_models.tvm.cache import Cache
from cost_models.tvm.integer import Requantization
from cost_models.tvm.kernels import Convolution, Epilogue
from cost_models.tvm.measure import Measurement, Procedure
from cost_models.tvm.operators import fused_layer, operator_kernel
from cost_models.tvm.program import Kernel
from cost_models.tvm.records import Record, layer_records, operator_record
from cost_models.tvm.rpc import RemoteRunner, tracker_address
from cost_models.tvm.runner import LocalRunner, Runner
from cost_models.tvm.shapes import convolution
from cost_models.tvm.target import require_runs_here, resolve
from cost_models.tvm.tuner import Timed, Tuner, fastest_of
from cost_models.tvm.variants import BYTE, Variant

Format = Literal["uniform", "codebook"]


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class MeasuredDevice:
    """Latency of a network = sum of its layers' and other operators' measured latencies.

    A layer's latency at a precision is that of the fastest kernel that computes it exactly, in a wider container if
    that is faster; so it never rises when bits of one format fall. Energy is what the machine counts,
    else power times latency, where the power is known. Not counted is the further output that a layer writes where its
    result is read at several widths; the latency of the whole network, measured, has it.
    """

    name: str
    """Device, runtime and version."""
    target: str | dict[str, Any] = "host"
    """``"host"``, or what TVM calls the target, e.g. ``{kind: llvm, mcpu: cortex-a76}``."""
    batch: Count = 1
    """Images per inference."""
    requantization: Requantization = "float32"
    """``"float32"`` scales, or ``"fixed_point"`` for CPUs without floats."""
    weight_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] = (2, 3, 4, 5, 6, 7, 8)
    """Widths that kernels are measured for."""
    activation_bits: Annotated[tuple[Bits, ...], Field(min_length=1)] = (2, 3, 4, 5, 6, 7, 8)
    """Widths of a layer's input."""
    weight_formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("uniform",)
    """Uniform weights, and perhaps codebooks."""
    codebook_bits: tuple[Bits, ...] = ()
    """Widths at which the quantizer's ``uniform`` weights are codebooks, too, which kernels for these compute."""
    excluded_methods: tuple[Literal["bit_serial", "winograd"], ...] = ()
    """Kernels not to use. Those of ``winograd`` store 64 bits for each weight, whatever its own."""
    procedure: Procedure = Procedure()
    """How often and how long kernels are timed."""
    search_s: Positive = 5.0
    """Seconds of search over a kernel's knobs."""
    tiles: Count = 6
    """Knobs to try."""
    cache_dir: str | None = None
    """Folder of measurements and compiled kernels; None: the user's cache folder."""
    power_w: Positive | None = None
    """Watts while the device computes, for machines that count no energy; None: it is unknown there."""
    power_source: str | None = None
    """Where ``power_w`` is from; required with it."""

    def __post_init__(self) -> None:
        if (self.power_w is None) != (self.power_source is None):
            raise ValueError("power_w needs power_source, where it was read or measured; give both, or neither")
        resolve(self.target)  # refuses a wrong one before any work

    @property
    def cost_source(self) -> Literal["modelled", "measured"]:
        """Always measured."""
        return "measured"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the power is from."""
        if self.power_w is None:
            return ()
        return (f"Energy is {self.power_w:g} W ({self.power_source}) times latency, unless the CPU counts it.",)

    def storing(self, codebook_bits: Collection[int]) -> Self:
        """The device when ``uniform`` weights of these widths are stored as codebooks and computed as such."""
        return replace(self, codebook_bits=tuple(codebook_bits))

    @property
    def additive(self) -> bool:
        """Other operators run at 8 bits whatever the configuration."""
        return True

    @property
    @abstractmethod
    def runner(self) -> Runner:
        """The machine."""

    @cached_property
    def tuner(self) -> Tuner:
        """Finds and measures kernels on the machine."""
        folder = Path(self.cache_dir).expanduser() if self.cache_dir else user_cache_path("hwsearch") / "kernels"
        excluded = frozenset(self.excluded_methods)
        return Tuner(self.runner, Cache(folder), self.procedure, self.search_s, self.tiles, excluded)

    def precisions(self, layer: LayerSpec) -> Sequence[Precision]:
        """All pairs of widths in all formats, narrowest first."""
        every = product(self.weight_bits, self.activation_bits, self.weight_formats)
        return sorted(Precision(*fields) for fields in every)

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``; measured when its shape is first asked for.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``.
        """
        require_supported(self.name, layer, precision, self.precisions(layer))
        timed = self._timed(layer)
        best = fastest_of(timed, self._as_stored(precision))
        computed_as = best.computed_as if best.computed_as != precision else None
        cost = self._cost(timed[best].measurement)
        return Cost(cost.latency_s, cost.energy_j, computed_as=computed_as, stored_weight_bits=best.stored_weight_bits)

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """Poolings, sums and the other operators between layers.

        Raises:
            ValueError: If no kernel computes an operator; it names the operator.
        """
        costs = [self._operator_cost(operator, network) for operator in network.operators]
        latencies, energies = [cost.latency_s for cost in costs], [cost.energy_j for cost in costs]
        return Cost(_sum(latencies), _sum(energies))

    def measurements(self, network: NetworkSpec) -> list[Record]:
        """Every kernel measured for the network's layers and operators, per call: ``batch`` images.

        Raises:
            ValueError: If no kernel computes an operator; it names the operator.
        """
        alike: dict[Hashable, list[LayerSpec]] = {}
        for layer in network.layers:
            alike.setdefault(self._shape(layer), []).append(layer)
        records = [
            record
            for layers in alike.values()
            for record in layer_records([layer.name for layer in layers], self._timed(layers[0]), self.runner)
        ]
        for operator in network.operators:
            for kernel in self._operator_kernels(operator, network):
                measured = self.tuner.time(kernel)
                records.append(operator_record(operator.name, type(kernel).__name__, measured, self.runner))
        return records

    def network_latency_s(self, compile_network: Callable[..., Any]) -> float:
        """Latency per image of a whole network, compiled and run as one: what its parts do not show.

        Args:
            compile_network: ``hwsearch.lowering.compiled.compile_network`` of the network, with one image per call.
        """
        compiled = compile_network(self.requantization, self.tuner.choose, self.runner)
        with self.tuner.cache.exclusive():
            latency_s: float = compiled.measured(self.procedure).latency_s
        return latency_s

    def _shape(self, layer: LayerSpec) -> tuple[Convolution, Epilogue]:
        return convolution(layer, self.batch, self.requantization)

    def _timed(self, layer: LayerSpec) -> dict[Variant, Timed]:
        """The best kernel of every variant that computes one of the layer's precisions."""
        return self.tuner.tune(*self._shape(layer), [self._as_stored(p) for p in self.precisions(layer)])

    def _as_stored(self, precision: Precision) -> Precision:
        """With the format that the quantizer gives its weights."""
        coded = precision.weight_bits in self.codebook_bits
        return replace(precision, weight_format="codebook") if coded else precision

    def _operator_cost(self, operator: OperatorSpec, network: NetworkSpec) -> Cost:
        """Cost of an operator; a sum that a layer's kernel does on the way costs what it adds to the kernel."""
        cost, *without = (self._cost(self.tuner.time(k)) for k in self._operator_kernels(operator, network))
        return (
            Cost(_excess(cost.latency_s, without[0].latency_s), _excess(cost.energy_j, without[0].energy_j))
            if without
            else cost
        )

    def _operator_kernels(self, operator: OperatorSpec, network: NetworkSpec) -> list[Kernel]:
        """An operator's own kernel, or that of the layer that does it on the way, with and without it."""
        layer = fused_layer(operator, network)
        if layer is None:
            return [operator_kernel(operator, self.batch, self.requantization, self.tuner.isa)]
        alone = self.tuner.choose(*self._shape(layer), Precision(BYTE, BYTE))
        return [replace(alone, epilogue=replace(alone.epilogue, residual=alone.epilogue.outputs[0])), alone]

    def _cost(self, measured: Measurement) -> Cost:
        """Cost per image; energy as the machine counts it, else power times latency, where the power is known."""
        latency_s = measured.latency_s / self.batch
        if measured.energy_j is not None:
            return Cost(latency_s, measured.energy_j / self.batch)
        return Cost(latency_s, None if self.power_w is None else self.power_w * latency_s)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _excess(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else max(0.0, value - base)


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class TvmCpu(MeasuredDevice):
    """This machine's CPU, one thread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_runs_here(resolve(self.target))

    @cached_property
    def runner(self) -> Runner:
        """This machine."""
        return LocalRunner(resolve(self.target))


@dataclass(frozen=True, kw_only=True, config=DEVICE_FILE)
class TvmRpc(MeasuredDevice):
    """A device that TVM's RPC reaches; see :mod:`cost_models.tvm.rpc`."""

    tracker: str
    """``host:port``."""
    key: str
    """The name under which the device is registered."""
    cpu_model: str | None = None
    """The device's CPU in words; None: the key."""

    def __post_init__(self) -> None:
        super().__post_init__()
        tracker_address(self.tracker)  # refuses a wrong one before any work

    @cached_property
    def runner(self) -> Runner:
        """The remote machine; connects when something is first measured."""
        return RemoteRunner(self.tracker, self.key, resolve(self.target), self.cpu_model or self.key)
