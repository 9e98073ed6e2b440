"""A small kernel for the tests of drivers, measurement and caches."""

from collections.abc import Callable

import pytest
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

DotKernel = Callable[[int, int], tvm.tirx.PrimFunc]


@pytest.fixture
def dot() -> DotKernel:
    """Builds ``o = w @ a``: u8 [inputs], s8 [outputs, inputs] -> s32 [outputs]."""
    return _dot


def _dot(outputs: int, inputs: int) -> tvm.tirx.PrimFunc:
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("dot")
        pointers = [T.arg(n, T.handle(dtype)) for n, dtype in (("a", "uint8"), ("w", "int8"), ("o", "int32"))]
        T.func_attr({"tirx.noalias": True})
        a = T.decl_buffer((inputs,), "uint8", data=pointers[0])
        w = T.decl_buffer((outputs * inputs,), "int8", data=pointers[1])
        o = T.decl_buffer((outputs,), "int32", data=pointers[2])
        with T.serial(0, outputs) as row:
            T.buffer_store(o, T.int32(0), [row])
            with T.serial(0, inputs) as i:
                product = T.Cast("int32", a[i]) * T.Cast("int32", w[row * inputs + i])
                T.buffer_store(o, o[row] + product, [row])
    return builder.get()
