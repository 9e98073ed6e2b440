"""Convolution of narrow operands by AND and popcount of their bit planes.

With weights ``w = step * u + lowest``, where ``u`` is unsigned, and bit planes ``a = sum(2**q * a_q)`` and
``u = sum(2**p * u_p)``,

    sum(a * w) = step * sum over p, q of 2**(p + q) * popcount(a_q & u_p) + lowest * sum(a),

and the window's sum of activations is the same for all output channels. A word holds one plane of 32 input channels, a
vector the words of as many output channels as it has lanes. The kernel packs the planes of its activations itself, once
per call.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.kernels.epilogue import Epilogue
from cost_models.tvm.kernels.ir import SCRATCH, Expr, Kernel, int32, intrinsic, loop, ramp, register, splat, store
from cost_models.tvm.kernels.isa import Isa
from cost_models.tvm.kernels.planes import WORD, Planes
from cost_models.tvm.kernels.shape import Convolution
from cost_models.tvm.kernels.tiling import Blocks, Tile, Tiling, tile_loops
from cost_models.tvm.kernels.writer import Writer

Registers = dict[tuple[int, int, int, int], Any]
"""Accumulators of a tile by (row, column, block, power of two)."""

BITS = (1, 2, 3, 4)
"""Of weights and of activations. Each product of two planes takes about a fifth of the time of a product of bytes."""


@dataclass(frozen=True)
class BitSerialKernel:
    """A convolution compiled for one pair of bit-widths, instruction set and tiling.

    Parameters of the function: input, weights, scratch, then those of the epilogue. Input channels that do not fill a
    word take the time of 32.

    Attributes:
        shape: Ungrouped.
        weight_bits: 1 means -1 and 1, more mean two's complement.
        activation_bits: Codes are below ``2**activation_bits``, those in the ring too.
        epilogue: What is done with the sums.
        isa: Whose vectors are used.
        tiling: Knobs.
    """

    shape: Convolution
    weight_bits: int
    activation_bits: int
    epilogue: Epilogue
    isa: Isa
    tiling: Tiling

    def __post_init__(self) -> None:
        if self.weight_bits not in BITS or self.activation_bits not in BITS:
            raise ValueError(
                f"No bit-serial kernel multiplies {self.weight_bits}-bit weights by {self.activation_bits}-bit "
                f"activations; both have {BITS} bits."
            )
        if self.tiling.in_place or self._run_words % self.tiling.unroll:
            raise ValueError(f"{self.tiling} does not fit runs of {self._run_words} words, which are not in_place.")
        if self.shape.groups > 1:
            raise ValueError(f"No bit-serial kernel computes groups={self.shape.groups}; there is only groups=1.")

    @property
    def alignment(self) -> int:
        """Power of two by which sums are scaled before they are requantized."""
        return 0

    @property
    def powers(self) -> range:
        """Powers of two that products of planes are scaled by: each has an accumulator."""
        return range(self.weight_bits + self.activation_bits - 1)

    @property
    def _step(self) -> int:
        """From one weight to the next."""
        return 2 if self.weight_bits == 1 else 1

    @property
    def _lowest(self) -> int:
        """The smallest weight."""
        return -(1 << self.weight_bits - 1)

    @property
    def _planes(self) -> Planes:
        return Planes(self.shape.image, self.activation_bits, self.isa)

    @property
    def _runs(self) -> tuple[int, int]:
        """Runs of words that are contiguous in memory, (vertical, horizontal): kernel rows, or taps."""
        kh, kw = self.shape.kernel
        return (kh, 1) if self.shape.dilation[1] == 1 else (kh, kw)

    @property
    def _run_words(self) -> int:
        return self.shape.kernel[1] // self._runs[1] * self._planes.words

    @property
    def _block_vectors(self) -> int:
        """Vectors of weights of one block of output channels."""
        kh, kw = self.shape.kernel
        return kh * kw * self._planes.words * self.weight_bits

    @property
    def _blocks(self) -> Blocks:
        """Output channels."""
        return Blocks(self.shape.out_channels, self.isa.lanes, self.tiling.blocks)

    @property
    def _window_sums(self) -> int:
        """Where they lie in the scratch buffer, after the planes and the pixels' sums."""
        return self._planes.size + self._planes.pixels

    @property
    def activation_offset(self) -> int:
        """What is taken off each activation."""
        return 0

    def pointers(self) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of each parameter."""
        height, width = self.shape.out_size
        windows = self.shape.image.batch * height * width
        return [
            ("input", "uint8", self.shape.image.size_bytes),
            ("weights", "int32", self._blocks.count * self._block_vectors * self.isa.lanes),
            (SCRATCH, "int32", self._window_sums + windows),
            *self.epilogue.pointers(),
        ]

    def pack(self, codes: NDArray[np.int8]) -> NDArray[np.int32]:
        """Weights in the order that the kernel reads them.

        Args:
            codes: ``[O, kh, kw, C]``: -1 and 1, or two's complement of ``weight_bits``.

        Returns:
            Flat; read as (superblock of channels, tap, word, block, plane, lane).

        Raises:
            ValueError: If a code does not fit.
        """
        out_channels, kh, kw, channels = codes.shape
        lanes, words = self.isa.lanes, self._planes.words
        padded = np.zeros((self._blocks.count * lanes, kh * kw, words * WORD), np.uint8)
        padded[:out_channels, :, :channels] = self._unsigned(codes).reshape(out_channels, kh * kw, channels)
        planes = np.stack([(padded >> p) & 1 for p in range(self.weight_bits)], axis=2)
        # [blocks * lanes, taps, planes, words * 32] -> [blocks, taps, words, planes, lanes]
        packed = np.packbits(planes, axis=-1, bitorder="little").view("<i4")
        packed = packed.reshape(self._blocks.count, lanes, kh * kw, self.weight_bits, words).transpose(0, 2, 4, 3, 1)
        return np.concatenate([packed[some].transpose(1, 2, 0, 3, 4).ravel() for some in self._blocks.superblocks])

    def _unsigned(self, codes: NDArray[np.int8]) -> NDArray[np.uint8]:
        weights = range(self._lowest, self._lowest + self._step * 2**self.weight_bits, self._step)
        fits = np.isin(codes, weights)
        if not fits.all():
            raise ValueError(f"Weight codes {np.unique(codes[~fits])[:5]} do not fit in {self.weight_bits} bits.")
        return ((codes.astype(np.int16) - self._lowest) // self._step).astype(np.uint8)

    def build(self, name: str) -> tvm.tirx.PrimFunc:
        """The kernel as a private function."""
        kernel = Kernel(name, self.pointers())
        with kernel as buffers:
            _Body(self, buffers).emit()
        return kernel.function


class _Body:
    """Emits the loops of a kernel."""

    def __init__(self, kernel: BitSerialKernel, buffers: list[Any]) -> None:
        self.kernel = kernel
        self._input, self._weights, self._scratch, *rest = buffers
        self._writer = Writer(kernel.epilogue, kernel.isa.lanes, rest)

    def emit(self) -> None:
        """Everything."""
        kernel = self.kernel
        height, width = kernel.shape.out_size
        batch = kernel.shape.image.batch
        self._writer.write_rings()
        kernel._planes.pack(self._input, self._scratch)
        loop(batch, lambda n: loop(height, lambda y: loop(width, partial(self._sum_window, n, y))))

        loop(batch, lambda n: tile_loops((height, width), kernel._blocks, kernel.tiling, lambda at: self._tile(n, at)))

    def _sum_window(self, batch: Expr, y: Expr, x: Expr) -> None:
        """The part of every output of a pixel that comes from the lowest weight."""
        kernel = self.kernel
        kh, kw = kernel.shape.kernel
        taps = product(range(kh), range(kw))
        values = [self._scratch[kernel._planes.size + self._pixel(batch, y, x, tap)] for tap in taps]
        total = sum(values[1:], start=values[0])
        T.buffer_store(self._scratch, total * int32(kernel._lowest), [self._window(batch, y, x)])

    def _window(self, batch: Expr, y: Expr, x: Expr) -> Expr:
        """Index of a window's sum."""
        height, width = self.kernel.shape.out_size
        return self.kernel._window_sums + (batch * height + y) * width + x

    def _tile(self, batch: Expr, at: Tile) -> None:
        """Count, combine, requantize and store one tile."""
        kernel, lanes = self.kernel, self.kernel.isa.lanes
        places = product(range(at.rows), range(at.columns), range(at.blocks), kernel.powers)
        registers = {place: register(lanes) for place in places}
        for accumulator in registers.values():
            store(accumulator, splat(int32(0), lanes), 0, lanes)
        (vertical, horizontal), unroll = kernel._runs, kernel.tiling.unroll

        def words(tap: tuple[Expr, Expr], first: Expr) -> None:
            for u in range(unroll):
                self._word(batch, at, registers, tap, first * unroll + u)

        def run(i: Expr, j: Expr) -> None:
            loop(kernel._run_words // unroll, partial(words, (i, j)))

        loop(vertical, lambda i: loop(horizontal, partial(run, i)))
        for i, j, block in product(range(at.rows), range(at.columns), range(at.blocks)):
            y, x, channel = at.y + i, at.x + j, (at.block + block) * lanes
            counts = [registers[i, j, block, power][ramp(0, lanes)] for power in kernel.powers]
            lowest = splat(self._scratch[self._window(batch, y, x)], lanes)
            total = self._combined(counts) + lowest + self._writer.bias(channel)
            self._writer.write(total, batch, y, x, channel, kernel._blocks.channels_in(at.block + block))

    def _combined(self, counts: list[Expr]) -> Expr:
        """Counts, times their powers of two and the weights' step."""
        one = splat(int32(1), self.kernel.isa.lanes)
        total = counts[-1]
        for count in reversed(counts[:-1]):
            total = (total << one) + count
        return total * splat(int32(self.kernel._step), self.kernel.isa.lanes)

    def _word(self, batch: Expr, at: Tile, registers: Registers, tap: tuple[Expr, Expr], word: Expr) -> None:
        """Products of one word of input channels: every plane of every block and of every pixel."""
        kernel, lanes = self.kernel, self.kernel.isa.lanes
        run = tap[0] * kernel._runs[1] + tap[1]
        step = run * kernel._run_words + word
        first = at.block * kernel._block_vectors + step * at.blocks * kernel.weight_bits
        planes = list(product(range(at.blocks), range(kernel.weight_bits)))
        weights = [self._weights[ramp((first + v) * lanes, lanes)] for v in range(len(planes))]
        for y, x, q in product(range(at.rows), range(at.columns), range(kernel.activation_bits)):
            start = self._pixel(batch, at.y + y, at.x + x, tap) * kernel._planes.words + word
            activations = splat(self._scratch[start * kernel.activation_bits + q], lanes)
            for (block, p), plane in zip(planes, weights, strict=True):
                accumulator = registers[y, x, block, p + q]
                count = intrinsic(kernel.isa.int32, f"llvm.ctpop.v{lanes}i32", activations & plane)
                store(accumulator, accumulator[ramp(0, lanes)] + count, 0, lanes)

    def _pixel(self, batch: Expr, y: Expr, x: Expr, tap: tuple[Expr, Expr]) -> Expr:
        """Index of the stored pixel under a tap of an output pixel's window."""
        shape = self.kernel.shape
        (top, left, _, _), (_, height, width, _) = shape.image.ring, shape.image.stored
        row = y * shape.stride[0] + tap[0] * shape.dilation[0] - shape.padding[0] + top
        column = x * shape.stride[1] + tap[1] * shape.dilation[1] - shape.padding[1] + left
        return (batch * height + row) * width + column
