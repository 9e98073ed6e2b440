"""Makes private kernels callable: a public function that passes buffers to each, once or rotating over copies."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

ALIGNMENT_BYTES = 64
"""A cache line, and the widest vector: where kernels expect their pointers."""

NO_TBAA = "-enable-tbaa:bool=false"
"""TVM tells LLVM that accesses through buffers of different names do not alias. In a driver that inlines its kernels,
one kernel's output is the next one's input under another name: reads would be moved before the writes they need."""


@dataclass(frozen=True)
class Parameter:
    """What a kernel's pointer points to.

    Attributes:
        name: The parameter's name.
        dtype: Element type, e.g. ``"uint8"``.
        size: Elements.
    """

    name: str
    dtype: str
    size: int

    @property
    def stride(self) -> int:
        """Elements from one copy to the next, so that each is aligned."""
        step = ALIGNMENT_BYTES // np.dtype(self.dtype).itemsize
        return -(-self.size // step) * step

    @property
    def size_bytes(self) -> int:
        """Bytes of one copy."""
        return self.size * np.dtype(self.dtype).itemsize


def parameters(kernel: tvm.tirx.PrimFunc) -> tuple[Parameter, ...]:
    """Read a kernel's parameters off the ``decl_buffer`` statements that its body begins with.

    Raises:
        ValueError: If a pointer is not declared there.
    """
    declared = {
        statement.data: statement.buffer for statement in kernel.body.seq if isinstance(statement, tvm.tirx.DeclBuffer)
    }
    missing = [pointer.name for pointer in kernel.params if pointer not in declared]
    if missing:
        raise ValueError(f"Kernel declares no buffer for {missing}; begin its body with T.decl_buffer of each pointer.")
    return tuple(
        Parameter(pointer.name, str(declared[pointer].dtype), prod(int(n) for n in declared[pointer].shape))
        for pointer in kernel.params
    )


def standalone(kernel: tvm.tirx.PrimFunc) -> tvm.IRModule:
    """A module whose ``main`` takes one flat buffer ``[size]`` per pointer of ``kernel`` and calls it once."""
    return rotating(kernel, ())


def rotating(kernel: tvm.tirx.PrimFunc, rotated: Collection[int]) -> tvm.IRModule:
    """A module whose ``main`` calls ``kernel`` once per copy of its rotated parameters.

    With copies that together exceed a cache, each call finds its weights as far away as in a network.

    Args:
        kernel: Private function over raw pointers.
        rotated: Positions of the parameters that have copies: ``main`` takes them as ``[copies, stride]``, as
            ``repeat`` lays them out, all others as ``[size]``.
    """
    symbol = tvm.ir.GlobalVar("kernel")
    return tvm.IRModule({symbol: kernel, "main": _caller("main", symbol, parameters(kernel), rotated)})


def library(kernels: Mapping[str, tvm.tirx.PrimFunc]) -> tvm.IRModule:
    """A module with a public function for each private kernel, which takes one flat buffer ``[size]`` per pointer."""
    functions: dict[tvm.ir.GlobalVar | str, tvm.tirx.PrimFunc] = {}
    for name, kernel in kernels.items():
        symbol = tvm.ir.GlobalVar(f"{name}_kernel")
        functions |= {symbol: kernel, name: _caller(name, symbol, parameters(kernel), ())}
    return tvm.IRModule(functions)


def _caller(
    name: str, symbol: tvm.ir.GlobalVar, described: Sequence[Parameter], rotated: Collection[int]
) -> tvm.tirx.PrimFunc:
    """A public function that calls a kernel once per copy of its rotated parameters."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        copies, stride = (T.int64(), T.int64()) if rotated else (1, 0)
        first = min(rotated, default=None)
        shapes = [
            (copies, stride if i == first else p.stride) if i in rotated else (p.size,) for i, p in enumerate(described)
        ]
        buffers = [T.arg(p.name, T.Buffer(shape, p.dtype)) for p, shape in zip(described, shapes, strict=True)]
        T.func_attr({"tirx.noalias": True})
        # Always 0, but LLVM must not know: of calls that overwrite each other's results it would keep only the last.
        step = 0 if first is None else stride - described[first].stride
        with T.serial(0, copies) as copy:
            pointers = [
                T.address_of(buffer[copy, 0] if i in rotated else buffer[copy * step])
                for i, buffer in enumerate(buffers)
            ]
            T.evaluate(tvm.ir.Call(symbol, pointers, ret_ty=tvm.ir.PrimType("int32")))
    return builder.get()


def repeat(array: NDArray[Any], copies: int) -> NDArray[Any]:
    """Lay out copies of one argument as ``rotating`` takes them: ``[copies, stride]``, each aligned."""
    stride = Parameter("", str(array.dtype), array.size).stride
    padded = np.zeros((copies, stride), array.dtype)
    padded[:, : array.size] = array.reshape(-1)
    return padded


def compile(module: tvm.IRModule, target: Mapping[str, Any]) -> tvm.runtime.Executable:
    """Compile for a target, e.g. ``{"kind": "llvm", "mcpu": "znver4"}``; call the result as ``executable["main"]``."""
    return tvm.compile(module, target=tvm.target.Target({**target, "cl-opt": [NO_TBAA]}))
