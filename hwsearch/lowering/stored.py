"""Which tensors are stored, as their readers ask for them.

Operators that pass values on (clamps, concatenation, slicing, max pooling...) commute with quantization, so what a
reader wants of one is wanted, in the same format, of what is before it: up to the node that computes the values.
"""

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch.fx import Node

from cost_models.tvm.image import Image, Ring
from hwsearch.lowering.integer_network import Copy, MaxPool, Operation, Tensor
from hwsearch.lowering.layout import Layout
from hwsearch.lowering.operators import (
    CLAMPS,
    CONCATENATION,
    MAX_POOLS,
    PADS,
    PERMUTATIONS,
    RESHAPES,
    SLICE,
    SPLITS,
    arguments,
    clamp_bounds,
    operands,
    source,
    unsupported,
)
from hwsearch.lowering.pooling import pooling_window
from hwsearch.lowering.quantization import Format
from hwsearch.lowering.view import View, widest
from hwsearch.lowering.window import Window


@dataclass
class StoredTensors:
    """Tensors and operations found so far, while the graph is walked from its end.

    Attributes:
        layouts: Of every tensor of the graph, by node.
        positions: Of every node in the graph.
        wanted: Name of each stored tensor, by the node that computes it and the format.
        operations: With the position at which each runs.
    """

    layouts: Mapping[str, Layout]
    positions: Mapping[str, int]
    wanted: dict[str, dict[Format, str]] = field(default_factory=dict)
    operations: list[tuple[int, Operation]] = field(default_factory=list)
    _images: dict[str, Image] = field(default_factory=dict)
    _formats: dict[str, Format] = field(default_factory=dict)
    _rings: dict[str, Ring] = field(default_factory=dict)
    _views: dict[tuple[str, Format], View] = field(default_factory=dict)
    _copies: dict[tuple[str, Format], str] = field(default_factory=dict)
    _names: Counter[str] = field(default_factory=Counter)

    def emit(self, node: Node, operation: Operation) -> None:
        """Add the operation that runs where ``node`` does."""
        self.operations.append((self.positions[node.name], operation))

    def tensors(self) -> dict[str, Tensor]:
        """Every stored tensor, with the ring that its readers need."""
        return {
            name: Tensor(replace(image, ring=self._rings.get(name, image.ring)), fmt.scale, fmt.bounds)
            for (name, image), fmt in zip(self._images.items(), self._formats.values(), strict=True)
        }

    def whole(self, node: Node, fmt: Format) -> str:
        """Name of a stored tensor that holds what ``node`` gives, in a format."""
        view = self._view(node, fmt)
        if view.is_whole(self._images):
            return view.parts[0].source
        key = (node.name, fmt)
        if key not in self._copies:
            target = self._copies[key] = self._store(node, fmt, Image(view.height, view.width, view.channels))
            self._extend_rings(view)
            self.emit(node, Copy(target, view.parts, target))
        return self._copies[key]

    def window(self, node: Node, fmt: Format, window: Window, out_size: tuple[int, int]) -> tuple[str, Window]:
        """Name of a stored tensor whose adjacent pixels hold what ``node`` gives, and the window over it.

        Args:
            node: What is read.
            fmt: Its format.
            window: Over what ``node`` gives; its padding of zeros will lie in the tensor's ring.
            out_size: Output (height, width).
        """
        image, (top, left), (rows, columns) = self.layouts[node.name].image, window.padding, window.reach(out_size)
        ring = top, left, max(0, rows - top - image.height), max(0, columns - left - image.width)
        view = self._padded(node, fmt, ring)
        if not view.is_window(self._images):
            view = self._padded_whole(node, fmt, ring)
        view = view.cropped(range(rows), range(columns))
        self._extend_rings(view)
        (part,) = view.parts
        return part.source, replace(window, padding=(-part.row, -part.column))

    def _extend_rings(self, view: View) -> None:
        for name, ring in view.rings(self._images).items():
            self._rings[name] = widest(ring, self._rings.get(name, ring))

    def _store(self, node: Node, fmt: Format, image: Image) -> str:
        count = self._names[node.name]
        self._names[node.name] += 1
        name = f"{node.name}:{count}" if count else node.name
        self._images[name], self._formats[name] = image, fmt
        return name

    def _view(self, node: Node, fmt: Format) -> View:
        key = (node.name, fmt)
        if key not in self._views:
            self._views[key] = self._find_view(node, fmt)
        return self._views[key]

    def _find_view(self, node: Node, fmt: Format) -> View:
        if node.target is operator.getitem and source(node).target in SPLITS:
            return self._split(node, fmt)
        node = source(node) if node.target is operator.getitem else node
        target = node.target
        if target in CLAMPS:
            return self._view(source(node), fmt.clamped(*clamp_bounds(node)))
        if target in RESHAPES | PERMUTATIONS:
            return self._view(source(node), fmt)
        if target == CONCATENATION:
            return self._concatenated(node, fmt)
        if target == SLICE:
            return self._sliced(node, fmt)
        if target in PADS:
            return self._zero_padded(node, fmt)
        if target in MAX_POOLS:
            return self._max_pooled(node, fmt)
        return self._computed(node, fmt)

    def _computed(self, node: Node, fmt: Format) -> View:
        image = self.layouts[node.name].image
        formats = self.wanted.setdefault(node.name, {})
        if fmt not in formats:
            formats[fmt] = self._store(node, fmt, image)
        return View.whole(formats[fmt], image)

    def _concatenated(self, node: Node, fmt: Format) -> View:
        parts, layout = operands(node), self.layouts[node.name]
        if arguments(node)["dim"] % (len(layout.axes) + 1) != layout.position("C"):
            raise unsupported(node, "it concatenates something else than channels")
        if not all(self.layouts[part.name].matches(layout) for part in parts):
            raise unsupported(node, "its operands lie differently in memory")
        return View.concatenated([self._view(part, fmt) for part in parts])

    def _sliced(self, node: Node, fmt: Format) -> View:
        given, layout = arguments(node), self.layouts[source(node).name]
        dimension, bounds = given["dim"] % (len(layout.axes) + 1), slice(given["start"], given["end"], given["step"])
        if dimension == 0 and bounds.start in (0, None) and bounds.step == 1 and bounds.stop in (None, 2**63 - 1):
            return self._view(source(node), fmt)
        return self._taken(node, source(node), fmt, dimension, bounds)

    def _split(self, node: Node, fmt: Format) -> View:
        split, index = source(node), node.args[1]
        assert isinstance(index, int)
        given, layout = arguments(split), self.layouts[split.name]
        dimension = given["dim"] % (len(layout.axes) + 1)
        sizes = given["split_sizes"] if "split_sizes" in given else [given["split_size"]] * (index + 1)
        start = sum(sizes[:index])
        return self._taken(node, source(split), fmt, dimension, slice(start, start + sizes[index]))

    def _taken(self, node: Node, whole: Node, fmt: Format, dimension: int, bounds: slice) -> View:
        """A slice of ``whole`` along one dimension."""
        layout = self.layouts[whole.name]
        letter = layout.axes[dimension - 1] if dimension else ""
        kept = range(layout.size(letter))[bounds]
        view = self._view(whole, fmt)
        if letter == "C" and kept.step == 1:
            return view.with_channels(kept)
        if letter in ("H", "W"):
            rows, columns = (kept if letter == axis else range(layout.size(axis)) for axis in "HW")
            return view.cropped(rows, columns)
        raise unsupported(node, "it takes something else than rows, columns or adjacent channels")

    def _zero_padded(self, node: Node, fmt: Format) -> View:
        given, layout = arguments(node), self.layouts[source(node).name]
        if given.get("mode", "constant") != "constant" or given["value"] not in (0, None) or min(given["pad"]) < 0:
            raise unsupported(node, "it pads with something else than zeros")
        sides = dict.fromkeys("HWC", (0, 0))
        for letter, *pair in zip(reversed(layout.axes), given["pad"][::2], given["pad"][1::2], strict=False):
            if any(pair) and letter not in sides:
                raise unsupported(node, "it pads something else than rows, columns or channels")
            sides[letter] = (pair[0], pair[1])
        (top, bottom), (left, right), (before, after) = sides["H"], sides["W"], sides["C"]
        if not fmt.qmin <= fmt.zero_point <= fmt.qmax:
            raise unsupported(node, "the clamp after it leaves out the zeros that it adds")
        view = self._padded(source(node), fmt, (top, left, bottom, right)).moved(before)
        return replace(view, channels=view.channels + after)

    def _padded(self, node: Node, fmt: Format, ring: Ring) -> View:
        """What ``node`` gives inside a ring of zeros."""
        view = self._view(node, fmt)
        return _extended(view, ring) if view.is_ringed(ring, self._images) else self._padded_whole(node, fmt, ring)

    def _padded_whole(self, node: Node, fmt: Format, ring: Ring) -> View:
        tensor = self.whole(node, fmt)
        return _extended(View.whole(tensor, self._images[tensor]), ring)

    def _max_pooled(self, node: Node, fmt: Format) -> View:
        layout = self.layouts[node.name]
        window = pooling_window(node, self.layouts[source(node).name])
        tensor = self.whole(source(node), fmt)
        target = self._store(node, fmt, layout.image)
        self.emit(node, MaxPool(target, tensor, window, target))
        return View.whole(target, layout.image)


def _extended(view: View, ring: Ring) -> View:
    top, left, bottom, right = ring
    return view.cropped(range(-top, view.height + bottom), range(-left, view.width + right))
