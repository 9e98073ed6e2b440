"""Weights as bytes or packed into fewer bits, and their unpacking in registers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cost_models.tvm.kernels.ir import Expr, int32, splat
from cost_models.tvm.kernels.isa import Isa

PLANES = {8: (8,), 7: (4, 2, 1), 6: (4, 2), 5: (4, 1), 4: (4,), 3: (2, 1), 2: (2,), 1: (1,)}
"""Powers of two that a width is split into, since they tile a byte."""

CODEBOOK_BITS = (4, 3, 2)
DOT = 4
"""Bytes per dot product."""


@dataclass(frozen=True)
class WeightStorage:
    """How weights are stored, and therefore computed with.

    Uniform weights are unpacked into the top ``bits`` of a byte, so that no sign extension is needed: the
    accumulator is ``2**alignment`` times the sum. One-bit weights mean -1 and +1. A codebook's codes index a
    table of int8 levels.

    Attributes:
        bits: 1 to 8 stored bits; 2 to 4 for a codebook.
        format: ``"uniform"`` or ``"codebook"``.
    """

    bits: int
    format: Literal["uniform", "codebook"] = "uniform"

    def __post_init__(self) -> None:
        known = CODEBOOK_BITS if self.format == "codebook" else tuple(PLANES)
        if self.bits not in known:
            raise ValueError(f"No kernel stores {self.format} weights in {self.bits} bits; there are {sorted(known)}.")

    @property
    def alignment(self) -> int:
        """Power of two by which accumulators are scaled."""
        if self.format == "codebook":
            return 0
        return 6 if self.bits == 1 else 8 - self.bits

    @property
    def groups(self) -> int:
        """Groups of four weights that one packed step holds."""
        return 8 // min(PLANES[self.bits])

    @property
    def vectors(self) -> int:
        """Packed vectors per step."""
        return sum(self.groups * plane // 8 for plane in PLANES[self.bits])

    @cached_property
    def _positions(self) -> tuple[int, ...]:
        """Lowest bit of each plane in an unpacked byte."""
        top = self.bits if self.format == "codebook" else 8
        planes = PLANES[self.bits]
        return tuple(top - sum(planes[: i + 1]) for i in range(len(planes)))

    @property
    def shares(self) -> int:
        """Weights per byte, where one plane holds a whole weight; else 1."""
        return 8 // self.bits if self.bits in (2, 4) and self.format == "uniform" else 1

    def pack(self, codes: NDArray[np.int8], *, in_place: bool = False) -> NDArray[np.uint8]:
        """Pack steps of ``4 * groups`` weights.

        Args:
            codes: ``[..., groups, lanes, 4]``: two's complement of ``bits`` bits, -1 or 1, or indices into a codebook.
            in_place: For :meth:`unpack_in_place`.

        Returns:
            ``[..., vectors, lanes, 4]``.

        Raises:
            ValueError: If a code does not fit.
        """
        self._check(codes)
        low = (codes < 0) if (self.bits, self.format) == (1, "uniform") else codes
        low = low.astype(np.int32) & (2**self.bits - 1)
        if in_place:  # the sign bit of all but the top share is inverted: it then counts up from the lowest code
            top = np.arange(self.groups) % self.shares == self.shares - 1
            low ^= np.where(top, 0, 2 ** (self.bits - 1))[:, None, None]
        packed, below = [], self.bits
        for plane in PLANES[self.bits]:
            below -= plane
            share = 8 // plane
            part = (low >> below) & (2**plane - 1)
            part = part.reshape(*part.shape[:-3], self.groups // share, share, *part.shape[-2:])
            packed.append(sum(part[..., i, :, :] << (i * plane) for i in range(share)))
        return np.concatenate(packed, axis=-3).astype(np.uint8)

    def _check(self, codes: NDArray[np.int8]) -> None:
        if (self.bits, self.format) == (1, "uniform"):
            fits = np.isin(codes, (-1, 1))
        else:
            lo = 0 if self.format == "codebook" else -(2 ** (self.bits - 1))
            fits = (codes >= lo) & (codes < lo + 2**self.bits)
        if not fits.all():
            wrong = np.unique(codes[~fits])[:5].tolist()
            raise ValueError(f"Weight codes {wrong} do not fit in {self.bits} bits ({self.format}).")

    def unpack(self, vectors: list[Expr], group: int, isa: Isa, table: Expr) -> Expr:
        """Bytes of one group of four weights per lane, from the packed vectors of its step.

        Args:
            vectors: int32 vectors.
            group: Index into the step's ``groups``.
            isa: Whose vectors they are.
            table: The codebook, as :meth:`Isa.look_up` takes it.
        """
        if self.bits == 8:
            return vectors[group]
        if self.format == "codebook" and len(PLANES[self.bits]) == 1:
            share = 8 // self.bits
            return isa.look_up(table, _shifted(vectors[group // share], -(group % share) * self.bits, isa), self.bits)
        value, base = splat(int32(0x40404040 if self.bits == 1 else 0), isa.lanes), 0
        for plane, position in zip(PLANES[self.bits], self._positions, strict=True):
            share = 8 // plane
            part = _shifted(vectors[base + group // share], position - (group % share) * plane, isa)
            value = value | part & splat(int32((((1 << plane) - 1) << position) * 0x01010101), isa.lanes)
            base += self.groups // share
        return isa.look_up(table, value, self.bits) if self.format == "codebook" else value

    def unpack_in_place(self, vectors: list[Expr], group: int, isa: Isa) -> Expr:
        """Bytes of one group, not shifted: each is ``2**(bits * (group % shares))`` times the weight.

        All but the top share count from the lowest code, so they are too large by ``2**(bits - 1)``.
        """
        mask = (2**self.bits - 1) << (self.bits * (group % self.shares))
        return vectors[group // self.shares] & splat(int32(mask * 0x01010101), isa.lanes)


def _shifted(vector: Expr, left: int, isa: Isa) -> Expr:
    """Every int32 shifted left, or right by ``-left``."""
    if not left:
        return vector
    amount = splat(int32(abs(left)), isa.lanes)
    return vector << amount if left > 0 else vector >> amount
