"""Product of two stored tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.epilogue import Epilogue, Output
from cost_models.tvm.kernels.ir import Expr, Kernel, load_int32, splat
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.span import vectors
from cost_models.tvm.kernels.writer import Writer, pixel


@dataclass(frozen=True)
class MultiplyKernel:
    """A product compiled for one instruction set.

    Parameters of the function: left, right, zero points of both, then those of the epilogue.

    Attributes:
        left: An operand.
        right: The other operand, of the same size, or 1x1: one value per channel for all pixels of an image.
        epilogue: What becomes of the products.
        isa: Whose vectors.
    """

    left: Image
    right: Image
    epilogue: Epilogue
    isa: Isa

    def __post_init__(self) -> None:
        left, right = self.left, self.right
        sizes = (right.height, right.width)
        if sizes not in ((1, 1), (left.height, left.width)) or left.channels != right.channels:
            raise ValueError(
                f"The right operand of a product is as large as the left one ({left.height}x{left.width} pixels, "
                f"{left.channels} channels) or 1x1; got {right.height}x{right.width} and {right.channels} channels."
            )

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [
            ("left", "uint8", self.left.size_bytes),
            ("right", "uint8", self.right.size_bytes),
            ("zero_points", "int32", 2),
            *self.epilogue.pointers(),
        ]

    def constants(self, zero_points: tuple[int, int], outputs: Sequence[Output]) -> dict[str, NDArray[Any]]:
        """Arrays by pointer.

        Args:
            zero_points: Of the left and of the right operand.
            outputs: Their scale is (left scale * right scale / output scale).
        """
        bias = np.zeros(self.epilogue.channels, np.int64)
        return {
            "zero_points": np.array(zero_points, np.int32),
            "parameters": self.epilogue.pack(bias, outputs),
        }

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (left, right, zero_points, *rest):
            writer, lanes = Writer(self.epilogue, self.isa.lanes, rest), self.isa.lanes
            writer.write_rings()
            whole = (self.right.height, self.right.width) != (1, 1)

            def multiply(batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> None:
                starts = pixel(self.left, batch, y, x), pixel(self.right, batch, *((y, x) if whole else (0, 0)))
                a, b = (
                    load_int32(buffer, start + channel, count, lanes) - splat(zero_points[i], lanes)
                    for i, (buffer, start) in enumerate(zip((left, right), starts, strict=True))
                )
                writer.write(a * b + writer.bias(channel), batch, y, x, channel, count)

            vectors(self.left, lanes, multiply)
        return kernel.function
