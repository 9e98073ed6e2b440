"""Kernels measured on another machine, cross-compiled here and sent there through TVM's RPC.

The device runs ``python -m tvm.exec.rpc_server --tracker host:port --key name``, or TVM's C++ server, and links what it
receives with its own C++ compiler. The protocol is neither encrypted nor authenticated: use it in a network you trust.
"""

import hashlib
import socket
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from time import monotonic, sleep
from typing import Any

import tvm
from tvm import rpc
from tvm.rpc import base

from cost_models.layer import LayerSpec, Precision
from cost_models.tvm import driver
from cost_models.tvm.reference import reference_kernel, seeds
from cost_models.tvm.runner import TYPICAL_L2_BYTES, exported
from cost_models.tvm.shapes import convolution
from cost_models.tvm.target import Target
from cost_models.tvm.tuner import arguments
from cost_models.tvm.untuned import untuned
from cost_models.tvm.variants import LayerKernel

TIMEOUT_S = 10.0
POLL_S = 0.1
SHOWN_CHARACTERS = 400

TRIAL_LAYER = LayerSpec("trial", "linear", 16, 16)
TRIAL_PRECISIONS = {"dot": Precision(8, 8), "look_up": Precision(2, 8, "codebook")}
"""Their kernels have the instructions that not every CPU of an architecture has: dot products and table look-ups."""


@dataclass(frozen=True)
class RemoteRunner:
    """A device that a tracker knows, reached when something is first sent there.

    A device serves one process at a time, so a process that finds all its figures in a cache never asks for it.

    Attributes:
        tracker: ``host:port``.
        key: The name under which devices of this kind are registered.
        target: What to compile for.
        cpu_model: The device's CPU in words, which keeps its latencies apart from other devices'.
        l2_bytes: Size of the second-level cache of one of its cores.
        timeout_s: Seconds to wait for the tracker, and for a device that is in use.
    """

    tracker: str
    key: str
    target: Target
    cpu_model: str
    l2_bytes: int = TYPICAL_L2_BYTES
    timeout_s: float = TIMEOUT_S

    library_suffix = ".tar"
    rapl = None

    def __post_init__(self) -> None:
        tracker_address(self.tracker)

    @cached_property
    def session(self) -> Any:
        """TVM's connection to the device, which runs what is compiled for the target.

        Raises:
            ValueError: If no device has that key, or if it does not run ``target``.
            ConnectionError: If no tracker answers there.
            TimeoutError: If all devices with that key stay in use.
        """
        session = _request(self.tracker, self.key, self.timeout_s)
        self._require_runs(session)
        return session

    @property
    def device(self) -> Any:
        """The device's main memory."""
        return self.session.cpu()

    def load(self, executable: Any) -> Any:
        """Send compiled code, which the device links."""
        return _send(self.session, self.export(executable))

    def export(self, executable: Any) -> bytes:
        """Object files in an archive: linked by the device."""
        return exported(executable, self.library_suffix)

    def open(self, library: Path) -> Any:
        """Send an archive of object files, which the device links."""
        return _send(self.session, library.read_bytes())

    def _require_runs(self, session: Any) -> None:
        """Run small kernels, since the device's linker or CPU may not take what is compiled for the target."""
        layers = trial_kernels(self.target)
        kernels = {name: kernel.build(f"{name}_kernel") for name, kernel in layers.items()}
        every = {"reference": [seeds()]} | {name: arguments(kernel) for name, kernel in layers.items()}
        library = driver.library({"reference": reference_kernel()} | kernels)
        executable = driver.compile(library, self.target.attributes)
        try:
            module = _send(session, self.export(executable))
            for name, arrays in every.items():
                module[name](*(tvm.runtime.tensor(array, device=session.cpu()) for array in arrays))
        except Exception as error:  # TVM raises whatever the device reports, or that it is gone
            raise ValueError(
                f"Device '{self.key}' does not run what is compiled for {self.target.attributes}; set hardware.target "
                f"to its CPU, and see that it has a C++ compiler and that its RPC server still runs. "
                f"It says: {shorten(str(error), SHOWN_CHARACTERS)}"
            ) from error


def tracker_address(tracker: str) -> tuple[str, int]:
    """Host and port of a tracker.

    Raises:
        ValueError: If ``tracker`` is not of the form ``host:port``.
    """
    host, _, port = tracker.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"RPC tracker '{tracker}' is not of the form host:port, e.g. 192.168.0.2:9190.")
    return host, int(port)


def trial_kernels(target: Target) -> dict[str, LayerKernel]:
    """A small kernel for each kind of instruction that kernels for a target rely on."""
    choose, layer = untuned(target), convolution(TRIAL_LAYER, batch=1, requantization="float32")
    return {name: choose(*layer, precision) for name, precision in TRIAL_PRECISIONS.items()}


def _request(tracker: str, key: str, timeout_s: float) -> Any:
    """Ask a tracker for a device and connect to it."""
    try:
        session = _Tracker(tracker_address(tracker), timeout_s)
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
    return session.request(key, max_retry=1)


def _send(session: Any, library: bytes) -> Any:
    """Have an archive of object files linked on the device."""
    name = f"{hashlib.sha256(library).hexdigest()}{RemoteRunner.library_suffix}"
    session.upload(bytearray(library), name)
    return session.load_module(name)


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
