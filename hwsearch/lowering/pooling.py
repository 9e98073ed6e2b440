"""Windows of the pooling operators."""

from typing import Any

from torch.fx import Node

from hwsearch.lowering.layout import Layout
from hwsearch.lowering.operators import REDUCTIONS, arguments, aten, unsupported
from hwsearch.lowering.window import Window

ADAPTIVE = (
    aten._adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
)


def pooling_window(node: Node, layout: Layout) -> Window:
    """Window of a pooling node.

    Args:
        node: Average or max pooling, or a mean or maximum over height and width.
        layout: Of its input.

    Raises:
        ValueError: If the windows differ in size or reach other axes.
    """
    given = arguments(node)
    if node.target in ADAPTIVE:
        return _adaptive(node, layout, _pair(given["output_size"]))
    if node.target in REDUCTIONS:
        return _over_dimensions(node, layout, given["dim"])
    if given.get("dilation", 1) not in (1, [1], [1, 1]):
        raise unsupported(node, f"its dilation is {given['dilation']}")
    kernel = _pair(given["kernel_size"])
    window = Window(kernel, _pair(given["stride"]) if given["stride"] else kernel, _pair(given["padding"]))
    if node.target == aten.avg_pool2d.default:
        _check_counts(node, layout, window)
    return window


def _adaptive(node: Node, layout: Layout, out_size: tuple[int, int]) -> Window:
    height, width, _ = layout.sizes
    if height % out_size[0] or width % out_size[1]:
        raise unsupported(node, f"{height}x{width} pixels to {out_size[0]}x{out_size[1]} take windows of several sizes")
    kernel = height // out_size[0], width // out_size[1]
    return Window(kernel, kernel)


def _over_dimensions(node: Node, layout: Layout, dimensions: list[int]) -> Window:
    rank = len(layout.axes) + 1
    inner = [dimension % rank - 1 for dimension in dimensions]
    letters = "".join(layout.axes[i] for i in inner if i >= 0)
    if not dimensions or min(inner) < 0 or layout.size(letters.replace("H", "").replace("W", "")) > 1:
        raise unsupported(node, "it reaches beyond height and width")
    height, width, _ = layout.sizes
    kernel = height if "H" in letters else 1, width if "W" in letters else 1
    return Window(kernel, kernel)


def _check_counts(node: Node, layout: Layout, window: Window) -> None:
    """Every window of an average must hold equally many values, padding counted."""
    given = arguments(node)
    reached = window.reach(_spatial(node))
    padded = [size + 2 * pad for size, pad in zip(layout.sizes, window.padding, strict=False)]
    if any(window.padding) and not given["count_include_pad"]:
        raise unsupported(node, "count_include_pad=False divides by several counts")
    if given["divisor_override"] is not None or reached[0] > padded[0] or reached[1] > padded[1]:
        raise unsupported(node, "it divides by something else than its window's size")


def _spatial(node: Node) -> tuple[int, int]:
    height, width = node.meta["val"].shape[-2:]
    return int(height), int(width)


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else value
    return int(values[0]), int(values[-1])
