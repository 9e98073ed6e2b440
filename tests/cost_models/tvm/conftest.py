"""A small kernel for the tests of drivers, measurement and caches; kernels run on emulated CPUs."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
RunEmulated = Callable[..., list[Array]]
DotKernel = Callable[[int, int], tvm.tirx.PrimFunc]


@dataclass(frozen=True)
class Machine:
    """An emulated CPU: LLVM's name of its system, Debian's of its linker's package, qemu's of the CPU."""

    target: Target
    linker: str
    emulator: str
    cpu: str = "max"


MACHINES = {
    "aarch64": Machine(Target("aarch64-linux-gnu", "cortex-a76"), "aarch64-linux-gnu", "qemu-aarch64"),
    "riscv64": Machine(
        Target("riscv64-linux-gnu", "generic-rv64", ("+m", "+a", "+f", "+d", "+c"), "lp64d"),
        "riscv64-linux-gnu",
        "qemu-riscv64",
        "rv64",
    ),
    # A Cortex-M has no Linux; its instructions are a part of what Arm's emulated user mode runs.
    "cortex_m": Machine(
        Target("thumbv7em-linux-gnueabihf", "cortex-m7", mfloat_abi="hard"), "arm-linux-gnueabihf", "qemu-arm"
    ),
}
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
def run_emulated(tmp_path_factory: pytest.TempPathFactory) -> RunEmulated:
    """Runs a kernel on a CPU that qemu emulates.

    Takes the name of a machine, a private PrimFunc, an array per pointer and, where it matters, LLVM's ``mcpu`` and
    ``mattr`` to compile for and qemu's ``cpu`` to run on; returns the arrays as the kernel left them.
    """
    folder = tmp_path_factory.mktemp("emulated")

    @cache
    def harness(linker: str) -> Path:
        compiled = folder / f"{linker}.o"
        source = Path(__file__).with_name("harness.c")
        _call(linker, "-c", source, "-I", tvm_ffi.libinfo.find_include_path(), "-o", compiled)
        return compiled

    def run(
        name: str,
        kernel: tvm.tirx.PrimFunc,
        arrays: Sequence[Array],
        *,
        cpu: str | None = None,
        **options: Any,
    ) -> list[Array]:
        machine = MACHINES[name]
        linker = f"{machine.linker}-gcc"
        for program in (linker, machine.emulator):
            if not shutil.which(program):
                pytest.skip(f"needs {program}: apt-get install qemu-user gcc-{machine.linker}")
        executable = driver.compile(driver.standalone(kernel), replace(machine.target, **options).attributes)
        code, binary = folder / "kernel.o", folder / "program"
        executable.mod.write_to_file(str(code))
        # Linkers refuse to mix the profiles of Cortex-M and of Linux on Arm, which this section names.
        _call(f"{machine.linker}-objcopy", "--remove-section", ".ARM.attributes", code)
        _call(linker, "-static", harness(linker), code, "-o", binary)
        types = [f"{DLPACK_CODES[a.dtype.kind]}:{8 * a.itemsize}:{a.size}" for a in arrays]
        data = _call(
            machine.emulator,
            "-cpu",
            cpu or machine.cpu,
            binary,
            *types,
            input=b"".join(map(np.ndarray.tobytes, arrays)),
        )
        ends = np.cumsum([array.nbytes for array in arrays])[:-1]
        parts = np.split(np.frombuffer(data, np.uint8), ends)
        return [part.view(a.dtype).reshape(a.shape) for part, a in zip(parts, arrays, strict=True)]

    return run


def _call(*command: object, input: bytes = b"") -> bytes:
    done = subprocess.run([str(part) for part in command], input=input, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout
