"""A sequence of kernel calls as one function: constants in one blob, activations in one workspace.

Nothing is allocated while it runs, and there is no interpreter: the compiled ``main`` calls its kernels one after the
other on fixed offsets. Weights and scales are arguments, so that other values need no compilation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from cost_models.tvm.driver import ALIGNMENT_BYTES

Pointers = list[tuple[str, str, int]]
"""(name, dtype, elements) of each parameter of a kernel."""


class Kernel(Protocol):
    """What a program calls: a frozen dataclass that builds a private function."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def pointers(self) -> Pointers: ...
    def build(self, name: str) -> tvm.tirx.PrimFunc: ...


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a kernel.

    Attributes:
        kernel: Equal kernels are compiled once.
        tensors: Name of the stored tensor for each pointer to activations.
        constants: Array for each other pointer.
    """

    kernel: Kernel
    tensors: Mapping[str, str]
    constants: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Program:
    """Kernel calls in the order they run.

    Attributes:
        calls: Every tensor is written by a call before others read it, except the inputs.
        inputs: Names of the tensors that the caller fills.
        outputs: Names of the tensors that the caller reads.
    """

    calls: Sequence[Call]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor."""
        return {
            call.tensors[name]: elements * np.dtype(dtype).itemsize
            for call in self.calls
            for name, dtype, elements in call.kernel.pointers()
            if name in call.tensors
        }

    @cached_property
    def workspace(self) -> dict[str, int]:
        """Offset of each tensor that is neither input nor output: the first gap among those alive at the same time."""
        alive = self._lifetimes()
        offsets: dict[str, int] = {}
        for name in sorted(alive, key=lambda name: -self.sizes[name]):
            first, last = alive[name]
            others = sorted(
                (offset, offset + aligned(self.sizes[other]))
                for other, offset in offsets.items()
                if alive[other][0] <= last and first <= alive[other][1]
            )
            start = 0
            for begin, end in others:
                if begin - start >= self.sizes[name]:
                    break
                start = max(start, end)
            offsets[name] = start
        return offsets

    def _lifetimes(self) -> dict[str, tuple[int, int]]:
        """First and last call that touches each tensor of the workspace."""
        lifetimes: dict[str, tuple[int, int]] = {}
        for i, call in enumerate(self.calls):
            for name in call.tensors.values():
                if name not in (*self.inputs, *self.outputs):
                    lifetimes[name] = lifetimes.get(name, (i, i))[0], i
        return lifetimes

    @property
    def workspace_bytes(self) -> int:
        """Memory for activations at their peak, inputs and outputs aside."""
        return max((offset + aligned(self.sizes[name]) for name, offset in self.workspace.items()), default=0)

    @property
    def constants(self) -> NDArray[np.uint8]:
        """All constants, each aligned."""
        arrays = [
            call.constants[name]
            for call in self.calls
            for name, _, _ in call.kernel.pointers()
            if name in call.constants
        ]
        blob = np.zeros(sum(aligned(array.nbytes) for array in arrays), np.uint8)
        start = 0
        for array in arrays:
            blob[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            start += aligned(array.nbytes)
        return blob

    def build(self) -> tvm.IRModule:
        """The module; ``main(*inputs, constants, workspace, *outputs)`` takes flat byte arrays."""
        symbols: dict[Kernel, tvm.ir.GlobalVar] = {}
        functions: dict[tvm.ir.GlobalVar | str, tvm.tirx.PrimFunc] = {}
        for call in self.calls:
            if call.kernel not in symbols:
                symbol = symbols[call.kernel] = tvm.ir.GlobalVar(f"kernel_{len(symbols)}")
                functions[symbol] = call.kernel.build(symbol.name_hint)
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            arguments = [*self.inputs, "constants", "workspace", *self.outputs]
            sizes = self.sizes | {"constants": self.constants.size, "workspace": self.workspace_bytes}
            buffers = {
                name: T.arg(f"argument_{i}", T.Buffer((max(sizes[name], 1),), "uint8"))
                for i, name in enumerate(arguments)
            }
            start = 0
            for call in self.calls:
                pointers = []
                for name, _, _ in call.kernel.pointers():
                    if name in call.constants:
                        pointers.append(T.address_of(buffers["constants"][start]))
                        start += aligned(call.constants[name].nbytes)
                    else:
                        pointers.append(self._tensor(buffers, call.tensors[name]))
                T.evaluate(tvm.ir.Call(symbols[call.kernel], pointers, ret_ty=tvm.ir.PrimType("int32")))
        return tvm.IRModule({**functions, "main": builder.get()})

    def _tensor(self, buffers: Mapping[str, Any], name: str) -> Any:
        if name in buffers:
            return T.address_of(buffers[name][0])
        return T.address_of(buffers["workspace"][self.workspace[name]])


def aligned(size_bytes: int) -> int:
    """Bytes rounded up, so that what follows is aligned."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
