"""Sum of two stored tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.kernels.epilogue import Epilogue, Output, Residual
from cost_models.tvm.kernels.ir import Expr, Kernel, load_int32
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.span import vectors
from cost_models.tvm.kernels.writer import Writer, pixel

QMAX = 255


@dataclass(frozen=True)
class AddKernel:
    """A sum compiled for one instruction set, computed as one that is fused into a convolution.

    Parameters of the function: input, then those of the epilogue.

    Attributes:
        image: Left operand.
        epilogue: The right operand is its residual.
        isa: Whose vectors.
    """

    image: Image
    epilogue: Epilogue
    isa: Isa

    def __post_init__(self) -> None:
        if self.epilogue.residual is None:
            raise ValueError("The epilogue of a sum has its right operand as residual; got none.")

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        return [("input", "uint8", self.image.size_bytes), *self.epilogue.pointers()]

    def constants(self, zero_point: int, right_zero_point: int, outputs: Sequence[Output]) -> dict[str, NDArray[Any]]:
        """Arrays by pointer.

        Args:
            zero_point: Of the left operand.
            right_zero_point: Of the right operand.
            outputs: With the ratios of both operands' scales to the output's.
        """
        channels = self.epilogue.channels
        right = Residual(right_zero_point, np.ones(channels), Bounds(zero_point, 0, QMAX))
        return {"parameters": self.epilogue.pack(np.full(channels, -zero_point), outputs, right)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, *rest):
            writer, lanes = _SumWriter(self.epilogue, self.isa.lanes, rest), self.isa.lanes
            writer.write_rings()

            def add(batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> None:
                left = load_int32(source, pixel(self.image, batch, y, x) + channel, count, lanes)
                writer.write(left + writer.bias(channel), batch, y, x, channel, count)

            vectors(self.image, lanes, add)
        return kernel.function


class _SumWriter(Writer):
    """A writer whose accumulators are the left operand, less its zero point, already."""

    def _operands(self, accumulator: Expr, channel: Expr, residual: Expr, count: int) -> tuple[Expr, Expr]:
        _, right = super()._operands(accumulator, channel, residual, count)
        return accumulator, right
