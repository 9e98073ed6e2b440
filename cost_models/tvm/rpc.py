"""Kernels measured on another machine, cross-compiled here and sent there through TVM's RPC.

The device runs ``python -m tvm.exec.rpc_server --tracker host:port --key name``, or TVM's C++ server, and links what it
receives with its own C++ compiler. The protocol is neither encrypted nor authenticated: use it in a network you trust.
"""

import hashlib
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from time import monotonic, sleep
from typing import Any

import tvm
from tvm import rpc
from tvm.rpc import base

from cost_models.tvm import driver
from cost_models.tvm.reference import reference_kernel, seeds
from cost_models.tvm.runner import TYPICAL_L2_BYTES, exported
from cost_models.tvm.target import Target

TIMEOUT_S = 10.0
POLL_S = 0.1
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class RemoteRunner:
    """A device that ``connect`` reached.

    Attributes:
        session: TVM's connection to it.
        key: Its name at the tracker.
        target: Its CPU.
        cpu_model: Its CPU in words.
        l2_bytes: Its second-level cache.
    """

    session: Any
    key: str
    target: Target
    cpu_model: str
    l2_bytes: int

    library_suffix = ".tar"
    rapl = None

    @property
    def device(self) -> Any:
        """The device's main memory."""
        return self.session.cpu()

    def load(self, executable: Any) -> Any:
        """Send compiled code, which the device links."""
        return self._send(self.export(executable))

    def export(self, executable: Any) -> bytes:
        """Object files in an archive: linked by the device."""
        return exported(executable, self.library_suffix)

    def open(self, library: Path) -> Any:
        """Send an archive of object files, which the device links."""
        return self._send(library.read_bytes())

    def _send(self, library: bytes) -> Any:
        name = f"{hashlib.sha256(library).hexdigest()}{self.library_suffix}"
        self.session.upload(bytearray(library), name)
        return self.session.load_module(name)


def connect(
    tracker: str,
    key: str,
    target: Target,
    *,
    cpu_model: str | None = None,
    l2_bytes: int = TYPICAL_L2_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> RemoteRunner:
    """Ask a tracker for a device.

    Args:
        tracker: ``host:port``.
        key: The name under which devices of this kind are registered.
        target: What to compile for.
        cpu_model: The device's CPU in words, which keeps its latencies apart from other devices'; None: ``key``.
        l2_bytes: Size of the second-level cache of one of its cores.
        timeout_s: Seconds to wait for the tracker, and for a device that is in use.

    Raises:
        ValueError: If ``tracker`` is not of that form, if no device has that key, or if it does not run ``target``.
        ConnectionError: If no tracker answers there.
        TimeoutError: If all devices with that key stay in use.
    """
    host, _, port = tracker.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"RPC tracker '{tracker}' is not of the form host:port, e.g. 192.168.0.2:9190.")
    try:
        session = _Tracker((host, int(port)), timeout_s)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"No RPC tracker answers at '{tracker}' ({error}); start one with: python -m tvm.exec.rpc_tracker"
        ) from error
    keys = sorted(server["key"].removeprefix("server:") for server in session.summary()["server_info"])
    if key not in keys:
        raise ValueError(f"RPC tracker '{tracker}' has no device with key '{key}'; it has {keys}.")
    deadline = monotonic() + timeout_s
    # A request that is given up would block the device for seconds, so none is made before one is free.
    while not session.summary()["queue_info"].get(key, {}).get("free"):
        if monotonic() > deadline:
            raise TimeoutError(f"Every device with key '{key}' at RPC tracker '{tracker}' is in use.")
        sleep(POLL_S)
    device = session.request(key, max_retry=1)
    runner = RemoteRunner(device, key, target, cpu_model or key, l2_bytes)
    _require_runs(runner)
    return runner


def _require_runs(runner: RemoteRunner) -> None:
    """Run the reference kernel, since the device's linker or CPU may not take what is compiled for the target."""
    executable = driver.compile(driver.standalone(reference_kernel()), runner.target.attributes)
    try:
        runner.load(executable)["main"](tvm.runtime.tensor(seeds(), device=runner.device))
    except Exception as error:  # TVM raises whatever the device reports, or that it is gone
        raise ValueError(
            f"Device '{runner.key}' does not run what is compiled for {runner.target.attributes}; set hardware.target "
            f"to its CPU, and see that it has a C++ compiler and that its RPC server still runs. "
            f"It says: {shorten(str(error), SHOWN_CHARACTERS)}"
        ) from error


class _Tracker(rpc.TrackerSession):  # type: ignore[misc]
    """A connection that gives up in time, where TVM's own waits for a minute or for ever."""

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        super().__init__(address)

    def _connect(self) -> None:
        self._sock = connection = socket.create_connection(self._addr, self._timeout_s)
        connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        if struct.unpack("<i", base.recvall(connection, 4))[0] != base.RPC_TRACKER_MAGIC:
            raise RuntimeError("what answers is no RPC tracker")
