"""From float32 tensors to stored integers."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import ALIGNED_CHANNELS, Image
from cost_models.tvm.integer import Bounds
from cost_models.tvm.kernels.ir import Expr, Kernel, bits, cast, loop, ramp, register, splat, store
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.span import tiles, vectors
from cost_models.tvm.kernels.writer import MAGIC, MAGIC_BITS, pixel, write_ring


@dataclass(frozen=True)
class QuantizeKernel:
    """Quantization compiled for one instruction set: ``clamp(rint(x / scale), lo, hi) + zero_point`` in float32.

    Rounds to nearest, ties to even. Parameters of the function: input, parameters, output.

    Attributes:
        image: Output.
        layout: Order of the input, which has no ring and no surplus channels.
        isa: Whose vectors.
    """

    image: Image
    layout: Literal["NCHW", "NHWC"]
    isa: Isa

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        image = self.image
        return [
            ("input", "float32", image.batch * image.height * image.width * image.channels),
            ("parameters", "int32", 4),
            ("output", "uint8", image.size_bytes),
        ]

    def constants(self, scale: float, bounds: Bounds) -> dict[str, NDArray[Any]]:
        """Arrays by pointer, from the grid of the output."""
        lo, hi = bounds.qmin - bounds.zero_point, bounds.qmax - bounds.zero_point
        step = np.float32(scale).view(np.int32)
        return {"parameters": np.array([bounds.zero_point, lo, hi, step], np.int32)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (source, parameters, target):
            write_ring(self.image, target, cast("uint8", parameters[0]))
            body = _Body(self, source, parameters, target)
            if self.layout == "NHWC":
                vectors(self.image, self.isa.lanes, body.write_channels)
            else:
                loop(self.image.batch, lambda batch: loop(self.image.height, partial(body.write_row, batch)))
        return kernel.function


class _Body:
    """Emits what is inside the loops of a kernel."""

    def __init__(self, kernel: QuantizeKernel, source: Any, parameters: Any, target: Any) -> None:
        self._image, self._lanes = kernel.image, kernel.isa.lanes
        self._source, self._parameters, self._target = source, parameters, target

    def write_channels(self, batch: Expr, y: Expr, x: Expr, channel: Expr, count: int) -> None:
        """Some channels of a pixel, which are adjacent in the input."""
        image = self._image
        first = ((batch * image.height + y) * image.width + x) * image.channels + channel
        codes = cast(f"uint8x{count}", self._quantized(first, count))
        store(self._target, codes, pixel(image, batch, y, x) + channel, count)

    def write_row(self, batch: Expr, y: Expr) -> None:
        """A row of pixels, whose columns are adjacent in the input."""

        def group(channel: Expr, count: int) -> None:
            tiles(self._image.width, self._lanes, partial(self._write_columns, batch, y, channel, count))

        tiles(self._image.channels, ALIGNED_CHANNELS, group)

    def _write_columns(self, batch: Expr, y: Expr, channel: Expr, count: int, x: Expr, columns: int) -> None:
        """Up to four channels of some pixels: one int32 each."""
        image = self._image
        packed = splat(T.int32(0), columns)
        for i in range(count):
            first = ((batch * image.channels + channel + i) * image.height + y) * image.width + x
            packed = packed | (self._quantized(first, columns) << splat(T.int32(8 * i), columns))
        codes = register(columns)
        store(codes, packed, 0, columns)
        start = pixel(image, batch, y, x) + channel
        for i in range(columns):
            pixel_codes = bits(f"uint8x{ALIGNED_CHANNELS}", codes[i])
            store(self._target, pixel_codes, start + i * image.stored_channels, ALIGNED_CHANNELS)

    def _quantized(self, first: Expr, count: int) -> Expr:
        """int32 codes of adjacent values."""
        f32, i32 = f"float32x{count}", f"int32x{count}"
        zero_point, lo, hi, scale = (splat(self._parameters[i], count) for i in range(4))
        steps = self._source[ramp(first, count)] / bits(f32, scale)
        rounded = T.max(T.min(steps, cast(f32, hi)), cast(f32, lo)) + splat(T.float32(MAGIC), count)
        return bits(i32, rounded) - splat(T.int32(MAGIC_BITS), count) + zero_point
