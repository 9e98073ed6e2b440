"""What a cost model answers, and the two costs that need no hardware: storage size and BOPs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from cost_models.layer import FLOAT_BITS, BitConfig, LayerSpec, Precision
from cost_models.network import NetworkSpec

PARAMETER_BYTES = 4
"""Bytes of a bias (int32, or float32 in a float layer) and of a requantization scale."""


@dataclass(frozen=True)
class Cost:
    """Cost per image of one layer, or of what a network adds to its layers.

    Attributes:
        latency_s: Seconds, or None where the model does not know.
        energy_j: Joules, or None where the model does not know.
        breakdown: Parts by name, the unit as suffix: ``compute_s``, ``traffic_s``, ``compute_j``, ``dram_j``...
            Those in ``_s`` sum to ``latency_s``, ``overlap_s`` being negative; those in ``_j`` sum to ``energy_j``.
        computed_as: The precision whose kernel or lanes do the work, if it is wider than the stored one.
        bound_by: The part of a layer that its latency would follow: ``compute``, ``weight_load``,
            ``activation_load``, ``store``, ``overhead``, or a whole ``kernel``; None where the model does not know.
        stored_weight_bits: Bits that a weight takes in memory, if a wider container is faster; None: its own.
    """

    latency_s: float | None
    energy_j: float | None
    breakdown: Mapping[str, float] = field(default_factory=dict)
    computed_as: Precision | None = None
    bound_by: str | None = None
    stored_weight_bits: int | None = None


@runtime_checkable
class CostModel(Protocol):
    """A target device: which precisions each layer may have, and what they cost.

    Attributes:
        name: Device, runtime and version.
        cost_source: ``"modelled"`` or ``"measured"``.
        batch: Images per inference; every cost is divided by it.
        additive: Whether ``network_cost`` is the same for every configuration of a network.
        warnings: What a reader of the results must know, e.g. that a constant is an estimate.
    """

    @property
    def name(self) -> str: ...
    @property
    def cost_source(self) -> Literal["modelled", "measured"]: ...
    @property
    def batch(self) -> int: ...
    @property
    def additive(self) -> bool: ...
    @property
    def warnings(self) -> Sequence[str]: ...

    def precisions(self, layer: LayerSpec) -> Sequence[Precision]:
        """Precisions that the device runs ``layer`` at, narrowest first."""
        ...

    def layer_cost(self, layer: LayerSpec, precision: Precision) -> Cost:
        """Cost per image of ``layer`` at ``precision``.

        Raises:
            ValueError: If the device does not run ``layer`` at ``precision``.
        """
        ...

    def network_cost(self, network: NetworkSpec, config: BitConfig) -> Cost:
        """What the network costs per image beyond the sum of its layers: other operators, conversions, overheads."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """What a device that measures its costs on itself offers beside them."""

    def storing(self, codebook_bits: Collection[int]) -> CostModel:
        """The device when ``uniform`` weights of these widths are stored as codebooks and computed as such."""
        ...

    def measurements(self, network: NetworkSpec) -> Sequence[Mapping[str, object]]:
        """Everything measured for a network's layers and operators, a record per kernel."""
        ...

    def network_latency_s(self, compile_network: Callable[..., Any]) -> float:
        """Latency per image of a whole network, compiled and run as one.

        Args:
            compile_network: ``hwsearch.lowering.compile_network`` of the network; the device gives the other arguments.
        """
        ...


def total_cost(device: CostModel, network: NetworkSpec, config: BitConfig) -> Cost:
    """Cost per image of a whole network: the sum of its layers and what the network adds.

    Raises:
        ValueError: If the device does not run a layer at its precision.
    """
    costs = [device.layer_cost(layer, config[layer.name]) for layer in network.layers]
    costs.append(device.network_cost(network, config))
    latencies, energies = [cost.latency_s for cost in costs], [cost.energy_j for cost in costs]
    return Cost(
        None if None in latencies else sum(filter(None, latencies)),
        None if None in energies else sum(filter(None, energies)),
    )


def size_bytes(layer: LayerSpec, precision: Precision) -> int:
    """Bytes to store a layer: packed weights, 4-byte biases and, unless float, a 4-byte scale per output channel."""
    weights = -(-layer.weight_count * precision.weight_bits // 8)
    parameters = layer.out_channels * (int(layer.bias) + int(precision.weight_bits < FLOAT_BITS))
    return weights + PARAMETER_BYTES * parameters


def bops(layer: LayerSpec, precision: Precision) -> int:
    """Bit operations per image: MACs times weight bits times activation bits."""
    return layer.macs * precision.weight_bits * precision.activation_bits
