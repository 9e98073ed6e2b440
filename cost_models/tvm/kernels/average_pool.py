"""Average pooling: sums over windows, whose size is part of the requantization's scale."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.ir import Expr, Kernel, load_int32, loop, ramp, register, store
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.span import Span, runs, tiles
from cost_models.tvm.kernels.writer import Writer, pixel

VECTORS = 4
"""Summed at once: with 16 lanes, a cache line of channels."""


@dataclass(frozen=True)
class AveragePoolKernel:
    """Average pooling compiled for one instruction set.

    Parameters of the function: input, then those of the epilogue; parameters are there once per divisor.

    Attributes:
        shape: Windows, as of a depthwise convolution; the ring holds the padding.
        epilogue: What becomes of the sums.
        isa: Whose vectors.
        counted: Positions that an average divides by: ``"all"`` of a window, those in the ``"image"``, or those in the
            image and its ``"padding"``, as wide at the end as at the start, but not beyond.
    """

    shape: Convolution
    epilogue: Epilogue
    isa: Isa
    counted: Literal["all", "padding", "image"] = "all"

    def __post_init__(self) -> None:
        if 0 in self.divisors:
            raise ValueError(f"A window of {self.shape} holds no position that counts.")

    @cached_property
    def _counts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions that count, for each output row and each output column."""
        return self._counts_along(0, self.shape.image.height), self._counts_along(1, self.shape.image.width)

    def _counts_along(self, axis: int, size: int) -> tuple[int, ...]:
        shape = self.shape
        if self.counted == "all":
            return (shape.kernel[axis],) * shape.out_size[axis]
        margin = max(shape.padding[axis], 0) if self.counted == "padding" else 0
        firsts = (index * shape.stride[axis] - shape.padding[axis] for index in range(shape.out_size[axis]))
        taps = [tap * shape.dilation[axis] for tap in range(shape.kernel[axis])]
        return tuple(sum(-margin <= first + tap < size + margin for tap in taps) for first in firsts)

    @cached_property
    def divisors(self) -> list[int]:
        """Different numbers of positions that windows count, the largest first."""
        return sorted({rows * columns for rows, columns in product(*self._counts)}, reverse=True)

    def _parameters(self, divisor: int) -> str:
        """Name of a divisor's parameters."""
        return "parameters" if len(self.divisors) == 1 else f"parameters_{divisor}"

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        (_, dtype, words), *outputs = self.epilogue.pointers()
        parameters = [(self._parameters(divisor), dtype, words) for divisor in self.divisors]
        return [("input", "uint8", self.shape.image.size_bytes), *parameters, *outputs]

    def constants(self, zero_point: int, outputs: Sequence[Output]) -> dict[str, NDArray[Any]]:
        """Arrays by pointer.

        Args:
            zero_point: Of the input.
            outputs: Their scale is that of an average over the whole kernel: input scale / (kh * kw * output scale).
        """
        size = prod(self.shape.kernel)
        bias = np.full(self.shape.out_channels, -zero_point * size)
        return {
            self._parameters(divisor): self.epilogue.pack(
                bias, [replace(output, scale=output.scale * size / divisor) for output in outputs]
            )
            for divisor in self.divisors
        }

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, *rest):
            parameters, outputs = rest[: len(self.divisors)], rest[len(self.divisors) :]
            writers = {
                divisor: Writer(self.epilogue, self.isa.lanes, [blob, *outputs])
                for divisor, blob in zip(self.divisors, parameters, strict=True)
            }
            writers[self.divisors[0]].write_rings()
            for (high, rows), (wide, columns) in product(*map(runs, self._counts)):
                loop(self.shape.image.batch, partial(self._windows, source, writers[high * wide], rows, columns))
        return kernel.function

    def _windows(self, source: Any, writer: Writer, rows: Span, columns: Span, batch: Expr) -> None:
        """All windows of one divisor that are side by side."""

        def window(y: Expr, x: Expr) -> None:
            at = batch, rows.start + y, columns.start + x
            tiles(self.shape.out_channels, VECTORS * self.isa.lanes, partial(self._window, source, writer, at))

        loop(rows.count, lambda y: loop(columns.count, partial(window, y)))

    def _window(self, source: Any, writer: Writer, at: tuple[Expr, Expr, Expr], channel: Expr, count: int) -> None:
        """Some channels of one output pixel."""
        shape, lanes, (batch, y, x) = self.shape, self.isa.lanes, at
        totals = {first: register(lanes) for first in range(0, count, lanes)}
        for first, total in totals.items():
            store(total, writer.bias(channel + first), 0, lanes)

        def add(i: Expr, j: Expr) -> None:
            row = y * shape.stride[0] + i * shape.dilation[0] - shape.padding[0]
            column = x * shape.stride[1] + j * shape.dilation[1] - shape.padding[1]
            start = pixel(shape.image, batch, row, column) + channel
            for first, total in totals.items():
                values = load_int32(source, start + first, min(lanes, count - first), lanes)
                store(total, total[ramp(0, lanes)] + values, 0, lanes)

        loop(shape.kernel[0], lambda i: loop(shape.kernel[1], partial(add, i)))
        for first, total in totals.items():
            writer.write(total[ramp(0, lanes)], batch, y, x, channel + first, min(lanes, count - first))
