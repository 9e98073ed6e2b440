"""Bit planes of activations: words of 32 channels that bit-serial kernels pack before they begin."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm.script.ir_builder import tirx as T

from cost_models.tvm.image import Image
from cost_models.tvm.kernels.ir import Expr, bits, cast, int32, intrinsic, loop, ramp, splat, widened
from cost_models.tvm.kernels.isa import Isa

WORD = 32
"""Channels whose bits of one plane make an int32."""
BYTE = 8
SPREAD = 0x0101010101010101
"""The lowest bit of each of eight bytes."""
GATHER = 0x0102040810204080
"""Times bits so spread, the top byte holds the bit of byte ``i`` in bit ``i``: 8i + (56 - 7i) = 56 + i."""


def words(channels: int) -> int:
    """Words that the channels of one pixel fill in one plane."""
    return -(-channels // WORD)


@dataclass(frozen=True)
class Planes:
    """Words of an image, ``[pixel, word, plane]``, and the sum of each pixel's channels, ``[pixel]``.

    Surplus bits of the last word are zero, so that they add to no sum.

    Attributes:
        image: u8 codes below ``2**bits``; its ring is packed too.
        bits: Planes.
        isa: Whose instructions pack.
    """

    image: Image
    bits: int
    isa: Isa

    @property
    def pixels(self) -> int:
        """Stored pixels of the whole batch."""
        return self.image.size_bytes // self.image.stored_channels

    @property
    def words(self) -> int:
        """Words per pixel and plane."""
        return words(self.image.channels)

    @property
    def size(self) -> int:
        """Words of all pixels, without their sums."""
        return self.pixels * self.words * self.bits

    def pack(self, source: Any, target: Any) -> None:
        """Emit the packing of ``source`` (u8) into ``target`` (int32), where sums follow the words."""
        loop(self.pixels, partial(self._pixel, source, target))

    def _pixel(self, source: Any, target: Any, pixel: Expr) -> None:
        total = T.alloc_buffer((1,), "int32", scope="global")
        T.buffer_store(total, T.int32(0), [0])
        whole, rest = divmod(self.image.channels, WORD)
        loop(whole, lambda word: self._word(source, target, total, pixel, word, WORD))
        if rest:
            self._word(source, target, total, pixel, whole, rest)
        T.buffer_store(target, total[0], [self.size + pixel])

    def _word(self, source: Any, target: Any, total: Any, pixel: Expr, word: Expr, channels: int) -> None:
        """All planes of one word, the last ones of a pixel with fewer channels."""
        start = pixel * self.image.stored_channels + word * WORD
        stored = min(WORD, self.image.stored_channels - self.image.channels + channels)
        codes = bits("int32x8", widened(source[ramp(start, stored)], stored, WORD))
        for plane in range(self.bits):
            packed = self._gathered(codes, plane)
            if channels < WORD:
                packed = packed & int32(2**channels - 1)
            at = (pixel * self.words + word) * self.bits + plane
            T.buffer_store(target, packed, [at])
            count = intrinsic("int32", "llvm.ctpop.i32", target[at])
            T.buffer_store(total, total[0] + (count << T.int32(plane)), [0])

    def _gathered(self, codes: Expr, plane: int) -> Expr:
        """One bit of each of 32 bytes."""
        if self.isa.name.startswith("avx"):
            top = codes << splat(int32(BYTE - 1 - plane), WORD // 4)
            return intrinsic("int32", "llvm.x86.avx2.pmovmskb", bits(f"int8x{WORD}", top))
        lanes = WORD // BYTE
        spread = (bits(f"uint64x{lanes}", codes) >> splat(T.uint64(plane), lanes)) & splat(T.uint64(SPREAD), lanes)
        gathered = (spread * splat(T.uint64(GATHER), lanes)) >> splat(T.uint64(56), lanes)
        return bits("int32", cast(f"uint8x{lanes}", gathered))
