"""Max pooling of stored bytes."""

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.ir import Expr, Kernel, cast, loop, ramp, register, splat, store
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.span import Span, runs, tiles
from cost_models.tvm.kernels.weights import DOT
from cost_models.tvm.kernels.writer import pixel, write_ring


@dataclass(frozen=True)
class MaxPoolKernel:
    """Max pooling compiled for one instruction set; the output has the input's scale and zero point.

    Positions outside the image, in its ring or not, never count. Parameters of the function: input, zero_point, output.

    Attributes:
        image: Input.
        output: Output.
        kernel: (height, width).
        stride: (vertical, horizontal).
        padding: (top, left).
        isa: Whose vectors.
    """

    image: Image
    output: Image
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    isa: Isa

    def __post_init__(self) -> None:
        if not all(len(taps) for axis in self._taps for taps in axis):
            raise ValueError(f"A window of {self} lies outside the image.")

    @cached_property
    def _taps(self) -> tuple[list[range], list[range]]:
        """Kernel positions inside the image, for each output row and each output column."""
        image, output = self.image, self.output
        return self._taps_along(0, image.height, output.height), self._taps_along(1, image.width, output.width)

    def _taps_along(self, axis: int, size: int, out_size: int) -> list[range]:
        firsts = (index * self.stride[axis] - self.padding[axis] for index in range(out_size))
        return [range(max(0, -first), min(self.kernel[axis], size - first)) for first in firsts]

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [
            ("input", "uint8", self.image.size_bytes),
            ("zero_point", "int32", 1),
            ("output", "uint8", self.output.size_bytes),
        ]

    def constants(self, zero_point: int) -> dict[str, NDArray[Any]]:
        """Arrays by pointer."""
        return {"zero_point": np.array([zero_point], np.int32)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, zero_point, target):
            write_ring(self.output, target, cast("uint8", zero_point[0]))
            for (down, rows), (across, columns) in product(*map(runs, self._taps)):
                windows = partial(self._windows, source, target, (down, across), rows, columns)
                loop(self.output.batch, windows)
        return kernel.function

    def _windows(
        self, source: Any, target: Any, taps: tuple[range, range], rows: Span, columns: Span, batch: Expr
    ) -> None:
        """All windows of the same taps that are side by side."""

        def window(y: Expr, x: Expr) -> None:
            at = batch, rows.start + y, columns.start + x
            tiles(self.image.stored_channels, DOT * self.isa.lanes, partial(self._window, source, target, taps, at))

        loop(rows.count, lambda y: loop(columns.count, partial(window, y)))

    def _window(
        self,
        source: Any,
        target: Any,
        taps: tuple[range, range],
        at: tuple[Expr, Expr, Expr],
        channel: Expr,
        count: int,
    ) -> None:
        """One vector of one output pixel."""
        batch, y, x = at
        largest = register(count, "uint8")
        store(largest, splat(T.uint8(0), count), 0, count)

        def compare(i: Expr, j: Expr) -> None:
            row = y * self.stride[0] - self.padding[0] + taps[0].start + i
            column = x * self.stride[1] - self.padding[1] + taps[1].start + j
            values = source[ramp(pixel(self.image, batch, row, column) + channel, count)]
            store(largest, T.max(largest[ramp(0, count)], values), 0, count)

        loop(len(taps[0]), lambda i: loop(len(taps[1]), partial(compare, i)))
        store(target, largest[ramp(0, count)], pixel(self.output, batch, y, x) + channel, count)
