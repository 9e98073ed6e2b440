"""The tensors that a network stores between its layers and operators: how wide they are, and how many live at once."""

from cost_models.layer import BitConfig, LayerSpec
from cost_models.network import INPUT, NetworkSpec, OperatorSpec


def read_widths(network: NetworkSpec, config: BitConfig, operator_bits: int) -> dict[str, set[int]]:
    """Widths that each stored tensor is read at, by the name of what wrote it, in the order they are written.

    Args:
        network: The network.
        config: Gives the width of every layer's input.
        operator_bits: Width of what operators read and of the network's outputs.
    """
    widths: dict[str, set[int]] = {INPUT: set(), **{name: set() for name in network.inputs}}
    for reader, sources in network.inputs.items():
        for source in sources:
            widths[source].add(config[reader].activation_bits if reader in config else operator_bits)
    return {name: read or {operator_bits} for name, read in widths.items()}


def counts(network: NetworkSpec) -> dict[str, int]:
    """Values per image of each stored tensor."""
    nodes = network.nodes
    first = next((nodes[name] for name, sources in network.inputs.items() if INPUT in sources), None)
    written = {INPUT: _first_count(first) if first else 0}
    return written | {name: node.out_count for name, node in nodes.items()}


def _first_count(node: LayerSpec | OperatorSpec) -> int:
    return node.in_count if isinstance(node, LayerSpec) else node.in_counts[0]


def converted_values(network: NetworkSpec, config: BitConfig, operator_bits: int) -> int:
    """Values per image that are converted: a tensor is written at its widest, and converted to each other width."""
    written = counts(network)
    widths = read_widths(network, config, operator_bits)
    return sum((len(read) - 1) * written[name] for name, read in widths.items())


def peak_bytes(network: NetworkSpec, config: BitConfig, operator_bits: int) -> float:
    """Most bytes that live at once for one image: what a node reads and writes, and what later nodes still read.

    Tensors are stored at the widest width that they are read at; nothing is computed in place.
    """
    written = counts(network)
    size = {name: written[name] * max(read) / 8 for name, read in read_widths(network, config, operator_bits).items()}
    last_reader = {source: reader for reader, sources in network.inputs.items() for source in sources}
    live, peak = {INPUT}, 0.0
    for name, sources in network.inputs.items():
        live.add(name)
        peak = max(peak, sum(size[tensor] for tensor in live))
        live -= {source for source in sources if last_reader[source] == name}
    return peak
