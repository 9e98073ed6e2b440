"""Fixed integer work that tells whether a machine is as fast as it was: timed beside every measurement."""

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

LANES = 16
CHAINS = 8
"""Independent vectors: enough to keep an out-of-order core's vector units busy."""
STEPS = 10_000
"""About 100 us at 4 GHz with 64-byte vectors."""

SHIFTS = (13, -17, 5)
"""Marsaglia 2003, Xorshift RNGs, J. Stat. Softw. 8(14): compilers have no closed form for iterating it."""


def reference_kernel() -> tvm.tirx.PrimFunc:
    """Replace each uint32 of ``state`` [CHAINS * LANES] by its ``STEPS``-th xorshift successor, all in registers."""
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("reference")
        pointer = T.arg("state", T.handle("uint32"))
        T.func_attr({"tirx.noalias": True})
        state = T.decl_buffer((CHAINS * LANES,), "uint32", data=pointer)
        register = [T.alloc_buffer((LANES,), "uint32", scope="global") for _ in range(CHAINS)]
        whole = T.ramp(0, 1, LANES)
        for chain, value in enumerate(register):
            T.buffer_store(value, state[T.ramp(chain * LANES, 1, LANES)], [whole])
        with T.serial(0, STEPS):
            for value in register:
                x = value[whole]
                for shift in SHIFTS:
                    count = T.broadcast(T.uint32(abs(shift)), LANES)
                    x = x ^ (x << count if shift > 0 else x >> count)
                T.buffer_store(value, x, [whole])
        for chain, value in enumerate(register):
            T.buffer_store(state, value[whole], [T.ramp(chain * LANES, 1, LANES)])
    return builder.get()


def seeds() -> NDArray[np.uint32]:
    """A state to start from ``[CHAINS * LANES]``; xorshift never leaves zero."""
    return np.arange(1, CHAINS * LANES + 1, dtype=np.uint32)
