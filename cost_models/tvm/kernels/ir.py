"""The few words of TVM's IR builder that the kernels are written in.

A kernel is a private function over raw pointers, so that a network's driver can call it on slices of one workspace.
Python loops unroll while the IR is built; ``loop`` makes a loop of the compiled code.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import Shuffle

INT32 = 2**32

SCRATCH = "scratch"
"""Name of a pointer to memory that a kernel needs while it runs."""

Expr = Any
"""A TVM expression, scalar or vector."""


class Kernel:
    """A private function under construction; use as a context manager, then take ``function``.

    Args:
        name: Symbol of the function.
        pointers: (name, dtype, elements) of each parameter.
    """

    def __init__(self, name: str, pointers: list[tuple[str, str, int]]) -> None:
        self._builder = IRBuilder()
        self._name = name
        self._pointers = pointers

    def __enter__(self) -> list[Any]:
        self._builder.__enter__()
        self._frame = T.prim_func(s_tir=True, private=True)
        self._frame.__enter__()
        T.func_name(self._name)
        parameters = [T.arg(name, T.handle(dtype)) for name, dtype, _ in self._pointers]
        T.func_attr({"tirx.noalias": True})
        return [
            T.decl_buffer((size,), dtype, data=parameter)
            for parameter, (_, dtype, size) in zip(parameters, self._pointers, strict=True)
        ]

    def __exit__(self, *error: object) -> None:
        self._frame.__exit__(*error)
        self._builder.__exit__(*error)

    @property
    def function(self) -> tvm.tirx.PrimFunc:
        """The finished kernel."""
        return self._builder.get()


def loop(extent: int, body: Callable[[Expr], None]) -> None:
    """``for i in range(extent): body(i)`` in the compiled code; no loop at all for one pass."""
    if extent == 1:
        body(0)
    elif extent > 1:
        with T.serial(0, extent) as i:
            body(i)


def ramp(start: Expr, lanes: int) -> Expr:
    """Indices ``start .. start + lanes - 1``; of one lane, an index."""
    return T.ramp(start, 1, lanes) if lanes > 1 else start


def int32(value: int) -> Expr:
    """A constant, given as any 32-bit pattern."""
    value %= INT32
    return T.int32(value - INT32 if value >= INT32 // 2 else value)


def splat(value: Expr, lanes: int) -> Expr:
    """The same scalar in every lane."""
    return T.broadcast(value, lanes) if lanes > 1 else value


def cast(dtype: str, value: Expr) -> Expr:
    """Convert values; narrower integers keep the low bits."""
    return T.Cast(dtype, value)


def bits(dtype: str, value: Expr) -> Expr:
    """The same bits as another type."""
    return T.reinterpret(dtype, value)


def intrinsic(dtype: str, name: str, *operands: Expr) -> Expr:
    """A call to an LLVM intrinsic."""
    return T.call_llvm_pure_intrin(dtype, name, *operands)


def wrapped(operation: Literal["add", "sub", "mul"], a: Expr, b: Expr, lanes: int) -> Expr:
    """int32 modulo 2**32. TVM tells LLVM that its own ``+``, ``-`` and ``*`` of int32 never overflow."""
    everywhere = splat(T.bool(True), lanes), T.int32(lanes)
    return intrinsic(f"int32x{lanes}", f"llvm.vp.{operation}.v{lanes}i32", a, b, *everywhere)


def first_lanes(vector: Expr, lanes: int, count: int) -> Expr:
    """The first ``count`` of a vector's ``lanes``."""
    return vector if count == lanes else Shuffle([vector], [T.int32(i) for i in range(count)])


def widened(vector: Expr, count: int, lanes: int) -> Expr:
    """A vector of ``count`` lanes, repeated to fill ``lanes``."""
    return Shuffle([vector] * -(-lanes // count), [T.int32(i) for i in range(lanes)]) if count < lanes else vector


def load_int32(buffer: Any, start: Expr, count: int, lanes: int) -> Expr:
    """``count`` consecutive bytes as int32, repeated to fill ``lanes``."""
    return cast(f"int32x{lanes}", widened(buffer[ramp(start, count)], count, lanes))


def store(buffer: Any, value: Expr, start: Expr, lanes: int) -> None:
    """Write consecutive elements."""
    T.buffer_store(buffer, value, [ramp(start, lanes)])


def fill(buffer: Any, value: Expr, start: Expr, count: int) -> None:
    """Set ``count`` consecutive bytes to a runtime value."""
    for width in (64, 16, 4, 1):
        passes, count = divmod(count, width)
        loop(passes, partial(_store_splat, buffer, value, start, width))
        start = start + passes * width


def _store_splat(buffer: Any, value: Expr, start: Expr, width: int, i: Expr) -> None:
    store(buffer, splat(value, width), start + i * width, width)


def register(lanes: int, dtype: str = "int32") -> Any:
    """A vector that LLVM keeps in a register: of scope "global", since "local" becomes a heap call on CPUs."""
    return T.alloc_buffer((lanes,), dtype, scope="global")
