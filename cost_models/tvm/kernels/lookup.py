"""Functions of one value, as tables of all 256."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.ir import (
    Expr,
    Kernel,
    bits,
    cast,
    first_lanes,
    intrinsic,
    loop,
    ramp,
    splat,
    store,
    widened,
)
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.span import pixels, tiles
from cost_models.tvm.kernels.writer import pixel, write_ring

ENTRIES = 256
VECTOR = 64
"""Bytes of a vector whose instructions look up bytes."""


@dataclass(frozen=True)
class LookupKernel:
    """A look-up compiled for one instruction set, with a table per output.

    Parameters of the function: input, tables, zero_points, ``output_0``, ``output_1``, ...

    Attributes:
        image: Input.
        outputs: Where each result is stored.
        isa: Whose vectors.
    """

    image: Image
    outputs: tuple[Image, ...]
    isa: Isa

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [
            ("input", "uint8", self.image.size_bytes),
            ("tables", "uint8", ENTRIES * len(self.outputs)),
            ("zero_points", "int32", len(self.outputs)),
            *((f"output_{i}", "uint8", image.size_bytes) for i, image in enumerate(self.outputs)),
        ]

    def constants(self, tables: NDArray[np.uint8], zero_points: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Arrays by pointer.

        Args:
            tables: ``[outputs, 256]``: the output's integer for each of the input's.
            zero_points: Of the outputs, for their rings.
        """
        return {"tables": tables, "zero_points": np.array(zero_points, np.int32)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, tables, zero_points, *targets):
            for i, (image, target) in enumerate(zip(self.outputs, targets, strict=True)):
                write_ring(image, target, cast("uint8", zero_points[i]))
            pixels(self.image, partial(self._pixel, source, tables, targets))
        return kernel.function

    def _pixel(self, source: Any, tables: Any, targets: Sequence[Any], batch: Expr, y: Expr, x: Expr) -> None:
        first = pixel(self.image, batch, y, x)
        starts = [pixel(image, batch, y, x) for image in self.outputs]

        def vector(channel: Expr, count: int) -> None:
            codes = widened(source[ramp(first + channel, count)], count, VECTOR)
            for i, (target, start) in enumerate(zip(targets, starts, strict=True)):
                store(target, first_lanes(_look_up(tables, i, codes), VECTOR, count), start + channel, count)

        def byte(channel: Expr) -> None:
            for i, (target, start) in enumerate(zip(targets, starts, strict=True)):
                code = cast("int32", source[first + channel])
                T.buffer_store(target, tables[ENTRIES * i + code], [start + channel])

        if self.isa.name == "avx512_vbmi":
            tiles(self.image.stored_channels, VECTOR, vector)
        else:
            loop(self.image.channels, byte)


def _look_up(tables: Any, i: int, codes: Expr) -> Expr:
    """Table ``i`` at every byte: each half of it by one permutation of two vectors, whose index has seven bits."""
    quarters = [tables[ramp(ENTRIES * i + VECTOR * quarter, VECTOR)] for quarter in range(ENTRIES // VECTOR)]
    low, high = (
        intrinsic(f"uint8x{VECTOR}", "llvm.x86.avx512.vpermi2var.qi.512", a, codes, b)
        for a, b in (quarters[:2], quarters[2:])
    )
    return T.Select(bits(f"int8x{VECTOR}", codes) < splat(T.int8(0), VECTOR), high, low)
