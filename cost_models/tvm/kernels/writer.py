"""The part of a kernel that turns accumulators into stored integers, as :mod:`cost_models.tvm.integer` defines it."""

from typing import Any

from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.epilogue import WORDS, Epilogue, padded
from cost_models.tvm.kernels.ir import (
    Expr,
    bits,
    cast,
    fill,
    first_lanes,
    intrinsic,
    loop,
    ramp,
    splat,
    store,
    widened,
)

MAGIC = float(2**23 + 2**22)
"""A float32 below 2**22 in magnitude plus this holds the nearest integer (ties to even) in its low bits."""
MAGIC_BITS = 0x4B400000


def pixel(image: Image, batch: Expr, y: Expr, x: Expr) -> Expr:
    """Index of the first channel of a pixel; ``y`` and ``x`` may reach into the ring."""
    _, height, width, channels = image.stored
    top, left, _, _ = image.ring
    return ((batch * height + y + top) * width + x + left) * channels


class Writer:
    """Requantizes and stores vectors of one kernel's accumulators.

    Args:
        epilogue: What to do.
        lanes: Accumulators per vector.
        buffers: Those of ``epilogue.pointers()``.
    """

    def __init__(self, epilogue: Epilogue, lanes: int, buffers: list[Any]) -> None:
        self.epilogue = epilogue
        self.lanes = lanes
        self._parameters, *rest = buffers
        self._residual: Any = rest.pop(0) if epilogue.residual else None
        self._outputs = rest
        self._scalars = epilogue.sections * padded(epilogue.channels)

    def write_rings(self) -> None:
        """Fill the ring of every output with its zero point."""
        for i, (image, buffer) in enumerate(zip(self.epilogue.outputs, self._outputs, strict=True)):
            if any(image.ring):
                write_ring(image, buffer, cast("uint8", self._scalar(i, 0)))

    def bias(self, channel: Expr) -> Expr:
        """int32 vector that the accumulators of ``channel`` and its successors begin with."""
        return self._parameters[ramp(channel, self.lanes)]

    def write(self, accumulator: Expr, batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> None:
        """Requantize a vector for every output and store its first ``count`` channels."""
        operands = None
        if self.epilogue.residual:
            start = pixel(self.epilogue.residual, batch, y, x) + channel
            operands = self._operands(accumulator, channel, self._residual[ramp(start, count)], count)
        for i, (image, buffer) in enumerate(zip(self.epilogue.outputs, self._outputs, strict=True)):
            value = self._sum(operands, i) if operands else self._scaled(accumulator, i, channel)
            if self.epilogue.dtype == "uint8":
                value = self._saturated(value, i, "int32" if operands else self._scaled_type)
                value = cast(self._type("uint8"), value + splat(self._scalar(i, 0), self.lanes))
            else:
                value = self._int32(value)
            store(buffer, first_lanes(value, self.lanes, count), pixel(image, batch, y, x) + channel, count)

    @property
    def _float(self) -> bool:
        return self.epilogue.requantization == "float32"

    @property
    def _scaled_type(self) -> str:
        """Scalar type of an accumulator times its scale."""
        return "float32" if self._float else "int64"

    def _type(self, scalar: str) -> str:
        return f"{scalar}x{self.lanes}"

    def _scalar(self, line: int, word: int) -> Expr:
        return self._parameters[self._scalars + WORDS * line + word]

    def _row(self, row: int, channel: Expr) -> Expr:
        return self._parameters[ramp(row * padded(self.epilogue.channels) + channel, self.lanes)]

    def _scaled(self, accumulator: Expr, scale: int, channel: Expr) -> Expr:
        """Accumulator times a per-channel scale: float32 and not rounded yet, or int64 and rounded."""
        row = 1 + scale * self.epilogue.scale_rows
        if self._float:
            return cast(self._type("float32"), accumulator) * bits(self._type("float32"), self._row(row, channel))
        i64 = self._type("int64")
        product = cast(i64, accumulator) * cast(i64, self._row(row, channel))
        shift = cast(i64, self._row(row + 1, channel))
        one = splat(T.int64(1), self.lanes)
        return (product + (one << (shift - one))) >> shift

    def _saturated(self, value: Expr, line: int, dtype: str) -> Expr:
        """int32 between the line's lo and hi, less the zero point, of a value of type ``dtype``; a float is rounded."""
        lo, hi = (splat(self._scalar(line, word), self.lanes) for word in (1, 2))
        lo, hi = (cast(self._type(dtype), bound) if dtype != "int32" else bound for bound in (lo, hi))
        value = T.max(T.min(value, hi), lo)
        if dtype != "float32":
            return cast(self._type("int32"), value)
        magic = bits(self._type("int32"), value + splat(T.float32(MAGIC), self.lanes))
        return magic - splat(T.int32(MAGIC_BITS), self.lanes)

    def _int32(self, value: Expr) -> Expr:
        if self._float:
            value = intrinsic(self._type("float32"), f"llvm.rint.v{self.lanes}f32", value)
        return cast(self._type("int32"), value)

    def _operands(self, accumulator: Expr, channel: Expr, residual: Expr, count: int) -> tuple[Expr, Expr]:
        """Both operands of the sum, less their zero points: int32."""
        line = len(self.epilogue.outputs)
        own = self._saturated(self._scaled(accumulator, 0, channel), line, self._scaled_type)
        other = cast(self._type("int32"), widened(residual, count, self.lanes))
        return own, other - splat(self._scalar(line, 0), self.lanes)

    def _sum(self, operands: tuple[Expr, Expr], line: int) -> Expr:
        """Sum in the output's scale, rounded: int32, since LLVM would fuse a float product and sum on some targets."""
        a, b = operands
        ratio_a, ratio_b, shift = (splat(self._scalar(line, word), self.lanes) for word in (3, 4, 5))
        one = splat(T.int32(1), self.lanes)
        return (a * ratio_a + b * ratio_b + (one << (shift - one))) >> shift


def write_ring(image: Image, buffer: Any, zero_point: Expr) -> None:
    """Fill the ring of every image with a u8 scalar."""
    batch, height, width, channels = image.stored
    top, left, bottom, right = image.ring

    def one(n: Expr) -> None:
        start = n * height * width * channels
        fill(buffer, zero_point, start, top * width * channels)
        # the right edge of a row and the left edge of the next are neighbours in memory
        fill(buffer, zero_point, start + top * width * channels, left * channels)
        inside = start + (top * width + left + image.width) * channels
        sides = (left + right) * channels
        loop(image.height - 1, lambda y: fill(buffer, zero_point, inside + y * width * channels, sides))
        last = start + ((top + image.height) * width - right) * channels
        fill(buffer, zero_point, last, (right + bottom * width) * channels)

    loop(batch, one)
