"""Where compiled kernels run: on this machine; ``cost_models.tvm.rpc`` has the runner of other machines."""

import errno
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import tvm
from tvm.support.cc import get_cc

from cost_models.tvm.energy import Rapl
from cost_models.tvm.target import Target, host, host_cpu_model, require_runs_here

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TYPICAL_L2_BYTES = 2 << 20
"""Where the machine does not tell: no less than what most cores have."""

EXPORT_BYTES = 32 << 20
"""Room for the object files and the library of a network."""

UNITS = {"K": 1 << 10, "M": 1 << 20}


class Runner(Protocol):
    """A machine that runs compiled kernels: ``cost_models.tvm.measure`` times what it loads.

    Attributes:
        target: What kernels are compiled for.
        cpu_model: The machine's CPU in words: latencies of another one are not reused.
        device: Where arguments live.
        l2_bytes: Size of a core's second-level cache.
        library_suffix: File type that ``open`` takes.
        rapl: Its energy counters, if it has any.
    """

    @property
    def target(self) -> Target: ...
    @property
    def cpu_model(self) -> str: ...
    @property
    def device(self) -> Any: ...
    @property
    def l2_bytes(self) -> int: ...
    @property
    def library_suffix(self) -> str: ...
    @property
    def rapl(self) -> Rapl | None: ...

    def load(self, executable: Any) -> Any:
        """Make what ``driver.compile`` returned callable on the machine."""
        ...

    def export(self, executable: Any) -> bytes:
        """What ``driver.compile`` returned as a library, which ``open`` takes from a file."""
        ...

    def open(self, library: Path) -> Any:
        """Make an exported library callable on the machine."""
        ...


@dataclass(frozen=True)
class LocalRunner:
    """This machine.

    Attributes:
        target: A target whose instructions this machine has.
    """

    target: Target

    library_suffix = ".so"

    def __post_init__(self) -> None:
        require_runs_here(self.target)

    @classmethod
    def host(cls) -> "LocalRunner":
        """This machine, with all its instructions."""
        return cls(host())

    @property
    def cpu_model(self) -> str:
        """As the kernel of the operating system names it."""
        return host_cpu_model()

    @property
    def device(self) -> Any:
        """Main memory."""
        return tvm.cpu()

    @property
    def l2_bytes(self) -> int:
        """As the operating system says, or a typical size."""
        return l2_bytes(CACHES)

    @property
    def rapl(self) -> Rapl | None:
        """The counters of this machine."""
        return Rapl.find()

    def load(self, executable: Any) -> Any:
        """Compiled code in memory."""
        return executable.jit()

    def export(self, executable: Any) -> bytes:
        """A shared library."""
        return exported(executable, self.library_suffix)

    def open(self, library: Path) -> Any:
        """A shared library."""
        return tvm.runtime.load_module(str(library))


def exported(executable: Any, suffix: str) -> bytes:
    """Contents of an exported library.

    Raises:
        OSError: If the folder of temporary files is full.
        FileNotFoundError: If no C++ compiler is there to link shared libraries.
    """
    if suffix == ".so" and get_cc() is None:
        raise FileNotFoundError("Linking compiled kernels needs a C++ compiler: install g++ or clang++, or set CXX.")
    with tempfile.TemporaryDirectory() as folder:
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < EXPORT_BYTES:  # LLVM ends the process when it cannot write
            raise OSError(
                errno.ENOSPC,
                f"Compiling needs {EXPORT_BYTES >> 20} MiB in the folder of temporary files, which has "
                f"{free_bytes >> 20}; free some, or set TMPDIR to another folder than",
                tempfile.gettempdir(),
            )
        library = Path(folder) / f"library{suffix}"
        executable.export_library(library, workspace_dir=folder)
        return library.read_bytes()


@cache
def l2_bytes(caches: Path) -> int:
    """Read the size of the second-level cache below ``/sys/devices/system/cpu/cpu*/cache``."""
    for index in sorted(caches.glob("index*")):
        if (index / "level").read_text().strip() == "2":
            size = (index / "size").read_text().strip()
            return int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)
    return TYPICAL_L2_BYTES
