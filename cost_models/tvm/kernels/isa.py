"""Dot products of four bytes or two int16, and table look-ups, for each instruction set."""

from dataclasses import dataclass
from typing import Literal

from tvm.script.ir_builder import tirx as T

from cost_models.tvm.kernels.ir import Expr, bits, int32, intrinsic, splat, wrapped

LANES = 16
"""Widest vector of int32; parameters are padded to it, so that they serve every instruction set."""


@dataclass(frozen=True)
class Isa:
    """Vectors of int32 and what they can do.

    Attributes:
        name: ``avx512_vbmi`` (VNNI too), ``avx512_vnni``, ``avx2``, ``i8mm``, ``dotprod`` (Arm) or ``portable``.
        lanes: int32 values per vector.
        registers: Vector registers for accumulators and weights.
    """

    name: Literal["avx512_vbmi", "avx512_vnni", "avx2", "i8mm", "dotprod", "portable"]
    lanes: int
    registers: int

    @property
    def int32(self) -> str:
        """Type of an accumulator."""
        return f"int32x{self.lanes}"

    @property
    def multiplies_pairs(self) -> bool:
        """Whether products of int16 take no more than twice the time of those of bytes."""
        return self.name not in ("i8mm", "dotprod")

    @property
    def activation_offset(self) -> int:
        """What is taken off each activation because the instruction only knows signed bytes."""
        return 128 if self.name == "dotprod" else 0

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        """Per lane, add four products of u8 (less ``activation_offset``) and s8, packed as int32, exactly.

        Args:
            accumulator: int32 vector.
            activations: Four bytes in every lane, as an int32 vector.
            weights: Four bytes in every lane, as an int32 vector.
        """
        u8, s8 = f"uint8x{4 * self.lanes}", f"int8x{4 * self.lanes}"
        if self.name in ("avx512_vbmi", "avx512_vnni"):
            name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
            return intrinsic(self.int32, name, accumulator, bits(u8, activations), bits(s8, weights))
        if self.name == "i8mm":
            name = "llvm.aarch64.neon.usdot.v4i32.v16i8"
            return intrinsic(self.int32, name, accumulator, bits(u8, activations), bits(s8, weights))
        if self.name == "dotprod":
            signed = activations ^ splat(int32(0x80808080), self.lanes)
            name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
            return intrinsic(self.int32, name, accumulator, bits(s8, signed), bits(s8, weights))
        if self.name == "avx2":
            return self._dot_by_pairs(accumulator, activations, weights)
        for byte in range(4):
            shift = splat(int32(24 - 8 * byte), self.lanes)
            value = (activations >> splat(int32(8 * byte), self.lanes)) & splat(int32(0xFF), self.lanes)
            accumulator = accumulator + value * ((weights << shift) >> splat(int32(24), self.lanes))
        return accumulator

    def dot_pairs(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        """Per lane, add two products of int16, packed as int32, modulo 2**32.

        Args:
            accumulator: int32 vector.
            activations: Two int16 in every lane, as an int32 vector.
            weights: Two int16 in every lane, as an int32 vector.
        """
        i16 = f"int16x{2 * self.lanes}"
        if self.name in ("avx512_vbmi", "avx512_vnni"):
            name = f"llvm.x86.avx512.vpdpwssd.{32 * self.lanes}"
            return intrinsic(self.int32, name, accumulator, bits(i16, activations), bits(i16, weights))
        if self.name == "avx2":
            products = intrinsic(self.int32, "llvm.x86.avx2.pmadd.wd", bits(i16, activations), bits(i16, weights))
            return wrapped("add", accumulator, products, self.lanes)
        half = splat(int32(16), self.lanes)
        for a, w in ((activations << half, weights << half), (activations, weights)):
            accumulator = wrapped("add", accumulator, (a >> half) * (w >> half), self.lanes)
        return accumulator

    def _dot_by_pairs(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        """Through ``vpmaddwd``, whose 16-bit operands cannot saturate, unlike ``vpmaddubsw``."""
        i16 = f"int16x{2 * self.lanes}"
        low, byte = splat(int32(0x00FF00FF), self.lanes), splat(T.int16(8), 2 * self.lanes)
        even = bits(i16, activations & low), (bits(i16, weights) << byte) >> byte
        odd = bits(i16, (activations >> splat(int32(8), self.lanes)) & low), bits(i16, weights) >> byte
        name = f"llvm.x86.{'sse2' if self.lanes == 4 else 'avx2'}.pmadd.wd"
        for a, w in (even, odd):
            accumulator = accumulator + intrinsic(self.int32, name, a, w)
        return accumulator

    def look_up(self, table: Expr, codes: Expr, width: int) -> Expr:
        """Replace every byte by the table's entry for its low ``width`` bits; what its other bits hold does not matter.

        Args:
            table: int8 vector as long as the codes, or scalars for ``portable``: ``2**width`` entries, repeated.
            codes: int32 vector of four codes per lane.
            width: Bits per code, at most 4.

        Returns:
            int32 vector of four int8 values per lane.
        """
        s8 = f"int8x{4 * self.lanes}"
        if self.name == "avx512_vbmi":
            return bits(self.int32, intrinsic(s8, "llvm.x86.avx512.permvar.qi.512", table, bits(s8, codes)))
        codes = codes & splat(int32((2**width - 1) * 0x01010101), self.lanes)
        if self.name != "portable":
            names = {"avx512_vnni": "llvm.x86.avx512.pshuf.b.512", "avx2": "llvm.x86.avx2.pshuf.b"}
            name = names.get(self.name, "llvm.aarch64.neon.tbl1.v16i8")
            return bits(self.int32, intrinsic(s8, name, table, bits(s8, codes)))
        lanes = 4 * self.lanes
        value = splat(table[0], lanes)
        for code in range(1, 2**width):
            value = T.Select(bits(s8, codes) == splat(T.int8(code), lanes), splat(table[code], lanes), value)
        return bits(self.int32, value)


ISAS: dict[str, Isa] = {
    isa.name: isa
    for isa in (
        Isa("avx512_vbmi", 16, 30),
        Isa("avx512_vnni", 16, 30),
        Isa("avx2", 8, 13),
        Isa("i8mm", 4, 30),
        Isa("dotprod", 4, 28),
        Isa("portable", 4, 12),
    )
}
