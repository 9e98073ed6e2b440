"""Kernels compiled together once, to be called one by one from the host."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm.support.cc import get_cc

from cost_models.tvm import driver
from cost_models.tvm.cache import Cache, digest_of, sources_digest
from cost_models.tvm.program import Kernel
from cost_models.tvm.runner import Runner
from cost_models.tvm.target import compiler_versions


def load_kernels(kernels: Mapping[str, Kernel], runner: Runner, cache: Cache) -> Any:
    """A module with a function per kernel, which takes a flat array for each of the kernel's pointers.

    Args:
        kernels: By the names of their functions.
        runner: The machine.
        cache: What was compiled before; used where a linker is at hand.
    """
    digest = digest_of(
        {
            "kernels": {name: [type(kernel).__name__, asdict(kernel)] for name, kernel in kernels.items()},
            "template": sources_digest(Path(__file__).parent),
            "target": runner.target.attributes,
            "compiler": compiler_versions(),
        }
    )
    found = cache.find_library(digest, runner.library_suffix)
    if found:
        return runner.open(found)
    built = {name: kernel.build(f"{name}_kernel") for name, kernel in kernels.items()}
    executable = driver.compile(driver.library(built), runner.target.attributes)
    if get_cc():
        cache.add_library(digest, runner.export(executable), runner.library_suffix)
    return runner.load(executable)
