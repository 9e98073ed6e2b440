"""Concatenation, slicing, subsampling and padding: bytes of tensors in one format, moved."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.epilogue import WORDS
from cost_models.tvm.kernels.ir import Expr, Kernel, cast, fill, loop, ramp, store
from cost_models.tvm.kernels.writer import pixel, write_ring

WIDTHS = (64, 32, 16, 8, 4, 1)
"""Bytes moved at once."""


@dataclass(frozen=True)
class CopiedPart:
    """Channels that are taken from one tensor.

    Attributes:
        image: Layout of the source.
        row: Source row under the output's first; outside of the image lies its ring.
        column: Source column under the output's first.
        stride: (vertical, horizontal) steps in the source.
        channel: First channel in the source.
        channels: How many.
        output_channel: First channel in the output.
    """

    image: Image
    row: int
    column: int
    stride: tuple[int, int]
    channel: int
    channels: int
    output_channel: int


@dataclass(frozen=True)
class CopyKernel:
    """Fills the channels of an output from others; channels that no part covers get the zero point.

    Parameters of the function: source_0, source_1, ..., parameters, output.
    """

    parts: tuple[CopiedPart, ...]
    image: Image

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        sources = [(f"source_{i}", "uint8", part.image.size_bytes) for i, part in enumerate(self.parts)]
        return [*sources, ("parameters", "int32", WORDS), ("output", "uint8", self.image.size_bytes)]

    def constants(self, zero_point: int) -> dict[str, NDArray[np.int32]]:
        """Parameters of one call, for a format with this zero point."""
        return {"parameters": np.resize(np.array([zero_point], np.int32), WORDS)}

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as (*sources, parameters, output):
            zero_point = cast("uint8", parameters[0])
            write_ring(self.image, output, zero_point)
            copy = partial(self._copy_pixel, sources, output, zero_point)
            image = self.image
            loop(image.batch, lambda n: loop(image.height, lambda y: loop(image.width, lambda x: copy(n, y, x))))
        return kernel.function

    def _copy_pixel(self, sources: list[Any], output: Any, zero_point: Expr, n: Expr, y: Expr, x: Expr) -> None:
        start, done = pixel(self.image, n, y, x), 0
        for part, source in sorted(zip(self.parts, sources, strict=True), key=lambda pair: pair[0].output_channel):
            fill(output, zero_point, start + done, part.output_channel - done)
            first = pixel(part.image, n, part.row + y * part.stride[0], part.column + x * part.stride[1])
            _move(source, first + part.channel, output, start + part.output_channel, part.channels)
            done = part.output_channel + part.channels
        fill(output, zero_point, start + done, self.image.channels - done)


def _move(source: Any, read: Expr, target: Any, write: Expr, count: int) -> None:
    for width in WIDTHS:
        passes, count = divmod(count, width)
        for _ in range(passes):
            store(target, source[ramp(read, width)], write, width)
            read, write = read + width, write + width
