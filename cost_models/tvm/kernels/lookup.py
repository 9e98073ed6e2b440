"""A function of one byte, from a table."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.epilogue import WORDS
from cost_models.tvm.kernels.ir import Expr, Kernel, cast, loop
from cost_models.tvm.kernels.writer import pixel, write_ring

LEVELS = 256


@dataclass(frozen=True)
class LookupKernel:
    """Replaces every integer by a table's entry, once per output.

    Parameters of the function: input, tables ``[outputs, 256]``, parameters (a zero point per output), output_0, ...
    """

    image: Image
    outputs: tuple[Image, ...]

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [
            ("input", "uint8", self.image.size_bytes),
            ("tables", "uint8", LEVELS * len(self.outputs)),
            ("parameters", "int32", WORDS * len(self.outputs)),
            *((f"output_{i}", "uint8", image.size_bytes) for i, image in enumerate(self.outputs)),
        ]

    def constants(self, tables: NDArray[np.uint8], zero_points: list[int]) -> dict[str, NDArray[Any]]:
        """Arrays of one call, by pointer.

        Args:
            tables: ``[outputs, 256]``.
            zero_points: Of the outputs.
        """
        return {"tables": tables.ravel(), "parameters": np.repeat(np.array(zero_points, np.int32), WORDS)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, tables, parameters, *outputs):
            for i, (image, output) in enumerate(zip(self.outputs, outputs, strict=True)):
                write_ring(image, output, cast("uint8", parameters[i * WORDS]))
            image = self.image

            def look_up(n: Expr, y: Expr, x: Expr, channel: Expr) -> None:
                code = cast("int32", source[pixel(image, n, y, x) + channel])
                for i, (target, output) in enumerate(zip(self.outputs, outputs, strict=True)):
                    T.buffer_store(output, tables[i * LEVELS + code], [pixel(target, n, y, x) + channel])

            def row(n: Expr, y: Expr) -> None:
                loop(image.width, lambda x: loop(image.channels, partial(look_up, n, y, x)))

            loop(image.batch, lambda n: loop(image.height, partial(row, n)))
        return kernel.function
