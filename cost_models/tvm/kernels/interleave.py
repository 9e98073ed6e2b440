"""Bytes of four rows, rearranged so that each int32 lane holds four bytes of one channel, and back.

Two levels of pairwise interleaving do it, each one instruction per vector (x86: vpunpckl/h, Arm: zip1/2). These work
within 128 bits, hence lanes of wider vectors hold the channels in another order, which :func:`channel_order` names.
Accumulators stay in it until they are bytes again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T
from tvm.tirx import Shuffle

from cost_models.tvm.kernels.ir import Expr, bits

QUARTERS = 4
"""Vectors of int32 that one vector of bytes becomes."""

REGISTER_BYTES = 16
"""What is interleaved at once: 128 bits."""


def channel_order(lanes: int) -> NDArray[np.int_]:
    """Channel in each lane of each interleaved vector, ``[4, lanes]``."""
    quarter, lane = np.mgrid[:QUARTERS, :lanes]
    order: NDArray[np.int_] = REGISTER_BYTES * (lane // 4) + 4 * quarter + lane % 4
    return order


def interleave(rows: Sequence[Expr], lanes: int) -> list[Expr]:
    """Four u8 vectors of ``4 * lanes`` channels as four int32 vectors, whose byte ``i`` comes from ``rows[i]``."""
    pairs = [[_unpacked(a, b, lanes, "uint8", half) for half in (0, 1)] for a, b in (rows[:2], rows[2:])]
    return [
        bits(f"int32x{lanes}", _unpacked(first, second, lanes, "uint16", half))
        for first, second in zip(*pairs, strict=True)
        for half in (0, 1)
    ]


def reordered(vectors: Sequence[Expr], lanes: int) -> list[Expr]:
    """Four vectors in the order of channels as four interleaved ones."""
    return [_shuffle(vectors, quarter) for quarter in channel_order(lanes)]


def joined(vectors: Sequence[Expr], lanes: int) -> Expr:
    """Four interleaved int32 vectors as one of ``4 * lanes`` in the order of channels."""
    return _shuffle(vectors, np.argsort(channel_order(lanes), axis=None))


def joined_bytes(vectors: Sequence[Expr], lanes: int) -> Expr:
    """The lowest bytes of four interleaved int32 vectors as ``4 * lanes`` bytes in the order of channels."""
    unpacked = [bits(f"uint8x{4 * lanes}", vector) for vector in vectors]
    return _shuffle(unpacked, 4 * np.argsort(channel_order(lanes), axis=None))


def _unpacked(a: Expr, b: Expr, lanes: int, dtype: str, half: int) -> Expr:
    """Elements of one half of each 128 bits, alternately from two vectors."""
    each = REGISTER_BYTES // np.dtype(dtype).itemsize
    count = 4 * lanes // np.dtype(dtype).itemsize
    a, b = (bits(f"{dtype}x{count}", vector) for vector in (a, b))
    chosen = np.arange(count).reshape(-1, 2, each // 2)[:, half].ravel()
    return _shuffle([a, b], np.stack([chosen, chosen + count], axis=1).ravel())


def _shuffle(vectors: Sequence[Expr], indices: NDArray[np.int_]) -> Expr:
    return Shuffle(list(vectors), [T.int32(int(index)) for index in indices])
