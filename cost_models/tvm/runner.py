"""Where compiled kernels run: on this machine; ``cost_models.tvm.rpc`` has the runner of other machines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tvm

from cost_models.tvm.target import Target, host, host_cpu_model, require_runs_here

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
TYPICAL_L2_BYTES = 2 << 20
"""Where the machine does not tell: no less than what most cores have."""

UNITS = {"K": 1 << 10, "M": 1 << 20}


class Runner(Protocol):
    """A machine that runs compiled kernels; what its two methods load is timed by ``cost_models.tvm.measure``.

    Attributes:
        target: What kernels are compiled for.
        cpu_model: The machine's CPU in words: latencies of another one are not reused.
        device: Where arguments live.
        l2_bytes: Size of a core's second-level cache.
        library_suffix: File type that ``open`` takes.
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

    def load(self, executable: Any) -> Any:
        """Make what ``driver.compile`` returned callable on the machine."""
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

    def load(self, executable: Any) -> Any:
        """Compiled code in memory."""
        return executable.jit()

    def open(self, library: Path) -> Any:
        """A shared library."""
        return tvm.runtime.load_module(str(library))


def l2_bytes(caches: Path) -> int:
    """Read the size of the second-level cache below ``/sys/devices/system/cpu/cpu*/cache``."""
    for index in sorted(caches.glob("index*")):
        if (index / "level").read_text().strip() == "2":
            size = (index / "size").read_text().strip()
            return int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)
    return TYPICAL_L2_BYTES
