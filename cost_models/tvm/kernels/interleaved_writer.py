"""A writer of accumulators whose channels are interleaved over four vectors."""

from collections.abc import Sequence
from typing import Any

from tvm.script.ir_builder import tirx as T

from cost_models.tvm.kernels.epilogue import Epilogue, padded
from cost_models.tvm.kernels.interleave import QUARTERS, interleave, joined, joined_bytes, reordered
from cost_models.tvm.kernels.ir import Expr, cast, first_lanes, ramp, splat, store, widened
from cost_models.tvm.kernels.writer import Writer, pixel


class InterleavedWriter(Writer):
    """Requantizes and stores four vectors at once, in the order that ``interleave.channel_order`` names.

    The parameters are read in that order too; the results are put back into the order of channels as bytes, when they
    are fewest.

    Args:
        epilogue: What to do.
        lanes: Accumulators per vector.
        buffers: Those of ``epilogue.pointers()``.
    """

    def __init__(self, epilogue: Epilogue, lanes: int, buffers: list[Any]) -> None:
        super().__init__(epilogue, lanes, buffers)
        self._quarters = [_Quarter(i, epilogue, lanes, buffers) for i in range(QUARTERS)]

    def biases(self, channel: Expr) -> list[Expr]:
        """int32 vectors that the accumulators of ``channel`` and its successors begin with."""
        return [quarter.bias(channel) for quarter in self._quarters]

    def write_all(self, accumulators: Sequence[Expr], batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> None:
        """Requantize four vectors for every output and store their first ``count`` channels."""
        residuals = self._residuals(batch, y, x, channel, count)
        results = [
            quarter.requantized(accumulator, channel, residual)
            for quarter, accumulator, residual in zip(self._quarters, accumulators, residuals, strict=True)
        ]
        width = QUARTERS * self.lanes
        for i, (image, buffer) in enumerate(zip(self.epilogue.outputs, self._outputs, strict=True)):
            quarters = [values[i] for values in results]
            if self.epilogue.dtype == "uint8":
                value = joined_bytes(quarters, self.lanes) + splat(cast("uint8", self._scalar(i, 0)), width)
            else:
                value = joined(quarters, self.lanes)
            store(buffer, first_lanes(value, width, count), pixel(image, batch, y, x) + channel, count)

    def _residuals(self, batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> list[Expr | None]:
        if self.epilogue.residual is None:
            return [None] * QUARTERS
        start, width = pixel(self.epilogue.residual, batch, y, x) + channel, QUARTERS * self.lanes
        zero = splat(T.uint8(0), width)
        return [*interleave([widened(self._residual[ramp(start, count)], count, width), zero, zero, zero], self.lanes)]


class _Quarter(Writer):
    """Requantizes one of four interleaved vectors."""

    def __init__(self, quarter: int, epilogue: Epilogue, lanes: int, buffers: list[Any]) -> None:
        super().__init__(epilogue, lanes, buffers)
        self._quarter = quarter

    def bias(self, channel: Expr) -> Expr:
        return self._row(0, channel)

    def requantized(self, accumulator: Expr, channel: Expr, residual: Expr | None) -> list[Expr]:
        """int32 for each output, less its zero point."""
        operands = None if residual is None else self._operands(accumulator, channel, residual, self.lanes)
        values = [
            self._sum(operands, i) if operands else self._scaled(accumulator, i, channel)
            for i in range(len(self.epilogue.outputs))
        ]
        if self.epilogue.dtype == "int32":
            return [self._int32(value) for value in values]
        return [self._saturated(v, i, "int32" if operands else self._scaled_type) for i, v in enumerate(values)]

    def _row(self, row: int, channel: Expr) -> Expr:
        # past the last channel follow other words of the parameters; what is computed from them is not stored
        first = row * padded(self.epilogue.channels) + channel
        vectors = [self._parameters[ramp(first + i * self.lanes, self.lanes)] for i in range(QUARTERS)]
        return reordered(vectors, self.lanes)[self._quarter]
