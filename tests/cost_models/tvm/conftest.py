"""A small kernel for the tests of drivers, measurement and caches; kernels run on an emulated Arm CPU."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from cost_models.tvm import driver
from cost_models.tvm.target import Target

Array = NDArray[Any]
RunAarch64 = Callable[..., list[Array]]
DotKernel = Callable[[int, int], tvm.tirx.PrimFunc]

TRIPLE = "aarch64-linux-gnu"
LINKER, EMULATOR = f"{TRIPLE}-gcc", "qemu-aarch64"
DLPACK_CODES = {"i": 0, "u": 1, "f": 2}


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


@pytest.fixture(scope="session")
def run_aarch64(tmp_path_factory: pytest.TempPathFactory) -> RunAarch64:
    """Runs a kernel on a CPU that qemu emulates.

    Takes a private PrimFunc, an array per pointer and, where it matters, LLVM's ``mcpu`` and ``mattr`` to compile for
    and qemu's ``cpu`` to run on; returns the arrays as the kernel left them.
    """
    for program in (LINKER, EMULATOR):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: apt-get install qemu-user gcc-aarch64-linux-gnu")
    folder = tmp_path_factory.mktemp("aarch64")
    harness = folder / "harness.o"
    _call(LINKER, "-c", Path(__file__).with_name("harness.c"), "-I", tvm_ffi.libinfo.find_include_path(), "-o", harness)

    def run(
        kernel: tvm.tirx.PrimFunc,
        arrays: Sequence[Array],
        *,
        mcpu: str = "cortex-a76",
        mattr: tuple[str, ...] = (),
        cpu: str = "max",
    ) -> list[Array]:
        executable = driver.compile(driver.standalone(kernel), Target(TRIPLE, mcpu, mattr).attributes)
        code, program = folder / "kernel.o", folder / "program"
        executable.mod.write_to_file(str(code))
        _call(LINKER, "-static", harness, code, "-o", program)
        types = [f"{DLPACK_CODES[a.dtype.kind]}:{8 * a.itemsize}:{a.size}" for a in arrays]
        data = _call(EMULATOR, "-cpu", cpu, program, *types, input=b"".join(a.tobytes() for a in arrays))
        ends = np.cumsum([array.nbytes for array in arrays])[:-1]
        parts = np.split(np.frombuffer(data, np.uint8), ends)
        return [part.view(a.dtype).reshape(a.shape) for part, a in zip(parts, arrays, strict=True)]

    return run


def _call(*command: object, input: bytes = b"") -> bytes:
    done = subprocess.run([str(part) for part in command], input=input, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout
