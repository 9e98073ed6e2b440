"""What every device keeps to, whoever wrote it: checked on layers of every kind that networks have."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import inf, isclose

from cost_models.cost import Cost, CostModel, total_cost
from cost_models.layer import LayerSpec, Precision
from cost_models.network import NetworkSpec, OperatorSpec

LAYERS = (
    LayerSpec("conv", "conv2d", 16, 32, (3, 3), padding=(1, 1), in_size=(16, 16), out_size=(16, 16)),
    LayerSpec("depthwise", "conv2d", 32, 32, (3, 3), groups=32, padding=(1, 1), in_size=(16, 16), out_size=(16, 16)),
    LayerSpec("pointwise", "conv2d", 32, 64, in_size=(16, 16), out_size=(16, 16)),
    LayerSpec("grouped", "conv2d", 64, 64, (3, 3), groups=4, padding=(1, 1), in_size=(7, 7), out_size=(7, 7)),
    LayerSpec("conv_1x7", "conv2d", 16, 32, (1, 7), padding=(0, 3), in_size=(17, 17), out_size=(17, 17)),
    LayerSpec("stem", "conv2d", 3, 8, (3, 3), (2, 2), (1, 1), in_size=(32, 32), out_size=(16, 16)),
    LayerSpec("linear", "linear", 64, 10),
    LayerSpec("tokens", "linear", 64, 64, in_size=(50, 1), out_size=(50, 1)),
)
NETWORK = NetworkSpec(
    (LAYERS[0], LAYERS[2], LAYERS[6]),
    (OperatorSpec("pool", "avg_pool2d", 64, (16, 16), (1, 1), (64 * 256,), (16, 16), (16, 16)),),
    {"conv": ("(input)",), "pointwise": ("conv",), "pool": ("pointwise",), "linear": ("pool",)},
)
UNHEARD_OF = Precision(31, 31)

Costs = Mapping[Precision, Cost]


def breaches(device: CostModel) -> list[str]:
    """Where a device breaks the contract; a line for each layer and rule, with the first precision that does.

    Costs of a layer are positive and finite, sums of their parts, and say what bounds them; narrower is never dearer
    where the device claims so; a precision that it does not run is refused with the device's and the layer's name; a
    network takes at least as long as its layers.
    """
    found: list[str] = []
    for layer in LAYERS:
        try:
            costs = {precision: device.layer_cost(layer, precision) for precision in device.precisions(layer)}
        except ValueError as error:
            found.append(str(error))
            continue
        if list(costs) != sorted(costs):
            found.append(f"layer '{layer.name}': precisions are not in order, narrowest first")
        for rule in (_not_positive, _not_the_sum, _unbound):
            found += [f"layer '{layer.name}' at {line}" for line in rule(costs)][:1]
        if getattr(device, "monotone", False):
            found += [f"layer '{layer.name}' at {line}" for line in _dearer_when_narrower(costs)][:1]
        found += _accepts_anything(device, layer)
    return found or list(_faster_than_its_layers(device))


def _not_positive(costs: Costs) -> Iterator[str]:
    for precision, cost in costs.items():
        for name, value in (("latency_s", cost.latency_s), ("energy_j", cost.energy_j)):
            if value is not None and not 0 < value < inf:
                yield f"{precision}: {name} is {value:g}, not positive and finite"


def _not_the_sum(costs: Costs) -> Iterator[str]:
    for precision, cost in costs.items():
        for total, unit in ((cost.latency_s, "_s"), (cost.energy_j, "_j")):
            parts = sum(value for part, value in cost.breakdown.items() if part.endswith(unit))
            if total is not None and not isclose(total, parts, rel_tol=1e-9):
                yield f"{precision}: parts in {unit} sum to {parts:g}, not to {total:g}"


def _unbound(costs: Costs) -> Iterator[str]:
    yield from (f"{precision}: bound_by is not given" for precision, cost in costs.items() if cost.bound_by is None)


def _dearer_when_narrower(costs: Costs) -> Iterator[str]:
    for (narrow, less), (wide, more) in product(costs.items(), repeat=2):
        if narrow.weight_bits <= wide.weight_bits and narrow.activation_bits <= wide.activation_bits:
            for name in ("latency_s", "energy_j"):
                low, high = getattr(less, name), getattr(more, name)
                if None not in (low, high) and low > high * (1 + 1e-12):
                    yield f"{narrow}: {name} is {low:g}, more than {high:g} at {wide}, but the file claims monotone"


def _accepts_anything(device: CostModel, layer: LayerSpec) -> Iterator[str]:
    try:
        device.layer_cost(layer, UNHEARD_OF)
    except ValueError as error:
        if device.name in str(error) and layer.name in str(error):
            return
    yield f"layer '{layer.name}': {UNHEARD_OF} is not refused with the names of device and layer"


def _faster_than_its_layers(device: CostModel) -> Iterator[str]:
    if not all(map(device.precisions, NETWORK.layers)):
        return
    config = {layer.name: device.precisions(layer)[-1] for layer in NETWORK.layers}
    total = total_cost(device, NETWORK, config).latency_s
    layers = [device.layer_cost(layer, config[layer.name]).latency_s for layer in NETWORK.layers]
    if total is not None and not sum(filter(None, layers)) <= total < inf:
        yield f"a network of {len(layers)} small layers takes {total:g} s, not finite or less than its layers"
