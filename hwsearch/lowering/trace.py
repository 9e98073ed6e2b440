"""Layout of every tensor of a captured graph."""

from collections.abc import Mapping

from torch.fx import GraphModule, Node

from hwsearch.graph.network import is_varying_tensor
from hwsearch.lowering.layout import Layout
from hwsearch.lowering.operators import (
    FIRST_OF_SEVERAL,
    LINEAR,
    PERMUTATIONS,
    REDUCTIONS,
    RESHAPES,
    SPLITS,
    arguments,
    aten,
    is_layer,
    operands,
    source,
    unsupported,
)

SEVERAL = SPLITS | FIRST_OF_SEVERAL
"""Operators that return several tensors."""


def trace_layouts(graph: GraphModule) -> dict[str, Layout]:
    """Layout of every tensor that depends on the input, by node name; a split has that of what it splits.

    Raises:
        ValueError: If an operator moves values in a way that no image has.
    """
    layouts: dict[str, Layout] = {}
    for node in graph.graph.nodes:
        if is_varying_tensor(node) or node.target in SEVERAL:
            layout = _layout(node, layouts)
            if layout is None:
                raise unsupported(node, "it moves values in a way that no image in memory has")
            layouts[node.name] = layout
    return layouts


def _layout(node: Node, layouts: Mapping[str, Layout]) -> Layout | None:
    if node.op == "placeholder":
        return Layout.of_input(_shape(node))
    if node.target in SPLITS:
        return layouts[source(node).name]
    if is_layer(node):
        return _layer(node, layouts[source(node).name])
    if node.target in RESHAPES:
        return layouts[source(node).name].reshaped(_shape(node))
    if node.target in PERMUTATIONS:
        return layouts[source(node).name].permuted(_order(node))
    if node.target in REDUCTIONS and not arguments(node)["keepdim"]:
        return _reduced(layouts[source(node).name], arguments(node)["dim"])
    largest = max(
        (layouts[operand.name] for operand in operands(node) or [source(node)]), key=lambda found: found.sizes
    )
    return largest.resized(_shape(node)) if len(largest.axes) == len(_shape(node)) else None


def _shape(node: Node) -> list[int]:
    """Sizes after the batch, of the first tensor where there are several."""
    value = node.meta["val"]
    return [int(size) for size in (value[0] if node.target in FIRST_OF_SEVERAL else value).shape[1:]]


def _layer(node: Node, layout: Layout) -> Layout | None:
    if node.target != LINEAR:
        return Layout(("C", "H", "W"), (1, 1, 1)).resized(_shape(node)) if layout.is_image else None
    *outer, features = layout.axes
    if "C" not in features and layout.size("C") > 1:
        return None
    return Layout((*outer, "C"), _without(layout, features)).resized(_shape(node))


def _without(layout: Layout, letters: str) -> tuple[int, int, int]:
    height, width, channels = (1 if axis in letters else layout.size(axis) for axis in "HWC")
    return height, width, channels


def _reduced(layout: Layout, dimensions: list[int]) -> Layout:
    dropped = {dimension % (len(layout.axes) + 1) - 1 for dimension in dimensions}
    letters = "".join(layout.axes[i] for i in dropped if i >= 0)
    return Layout(tuple(a for i, a in enumerate(layout.axes) if i not in dropped), _without(layout, letters))


def _order(node: Node) -> list[int]:
    """Where each dimension, the batch counted, comes from."""
    given = arguments(node)
    rank = len(node.meta["val"].shape)
    if node.target == aten.permute.default:
        return [dimension % rank for dimension in given["dims"]]
    first, second = (0, 1) if node.target == aten.t.default else (given["dim0"] % rank, given["dim1"] % rank)
    order = list(range(rank))
    order[first], order[second] = second, first
    return order
