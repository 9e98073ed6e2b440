"""Measuring through TVM's RPC, with a tracker and a device's server started on this machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import tvm

from cost_models import Cost, LayerSpec, NetworkSpec, Precision
from cost_models.tvm import driver
from cost_models.tvm.cost_model import TvmRpc
from cost_models.tvm.measure import Procedure, Subject, measure
from cost_models.tvm.records import Record
from cost_models.tvm.reference import reference_kernel, seeds
from cost_models.tvm.rpc import TIMEOUT_S, RemoteRunner, trial_kernels
from cost_models.tvm.target import Target, host
from cost_models.tvm.tuner import arguments

pytest.importorskip("tornado", reason="TVM's tracker needs tornado")

KEY = "this_machine"
LOCALHOST = "127.0.0.1"
PATIENCE_S = 60
LINEAR = LayerSpec("linear", "linear", 64, 10)


def remote(tracker: str, **changes: Any) -> RemoteRunner:
    fields = {"key": KEY, "target": host(), "cpu_model": "this machine's"}
    return RemoteRunner(tracker, **fields | changes)


def costs(tracker: str, cache: Path, **changes: Any) -> TvmRpc:
    """A cost model that measures one kernel in little time."""
    return TvmRpc(
        name="remote",
        tracker=tracker,
        key=KEY,
        cache_dir=str(cache),
        procedure=Procedure(rounds=1, samples=1, sample_s=1e-5),
        search_s=0.01,
        tiles=1,
        weight_bits=(8,),
        activation_bits=(8,),
        **changes,
    )


def priced(hardware: TvmRpc) -> tuple[Cost, list[Record]]:
    return hardware.layer_cost(LINEAR, Precision(8, 8)), hardware.measurements(NetworkSpec.chain([LINEAR]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return probe.getsockname()[1]


@contextmanager
def serving(module: str, port: int, *arguments: str) -> Iterator[None]:
    address = ["--host", LOCALHOST, "--port", str(port), "--port-end", str(port + 1)]
    command = [sys.executable, "-m", f"tvm.exec.{module}", *address, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(condition: Callable[[], object]) -> None:
    """Until it no longer raises."""
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            condition()
            return
        except (OSError, ValueError):
            if monotonic() > deadline:
                raise
            sleep(0.1)


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    port = free_port()
    address = f"{LOCALHOST}:{port}"
    with serving("rpc_tracker", port), serving("rpc_server", free_port(), "--tracker", address, "--key", KEY):
        wait_until(lambda: remote(address).session)
        yield address


@pytest.fixture
def device(tracker: str) -> RemoteRunner:
    return remote(tracker)


def test_a_kernel_computes_on_the_device(device: RemoteRunner, dot, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, 30, dtype=np.uint8)
    w = generator.integers(-128, 128, (7, 30), dtype=np.int8)
    executable = driver.compile(driver.standalone(dot(7, 30)), device.target.attributes)
    path = tmp_path / f"library{device.library_suffix}"
    path.write_bytes(device.export(executable))
    for module in (device.load(executable), device.open(path)):
        out = tvm.runtime.tensor(np.zeros(7, np.int32), device=device.device)
        module["main"](*(tvm.runtime.tensor(x.reshape(-1), device=device.device) for x in (a, w)), out)
        assert np.array_equal(out.numpy(), w.astype(np.int32) @ a)


def test_a_kernel_is_measured_on_the_device(device: RemoteRunner, dot) -> None:
    arrays = np.ones(64, np.uint8), np.ones((8, 64), np.int8), np.zeros(8, np.int32)
    module = device.load(driver.compile(driver.rotating(dot(8, 64), {1}), device.target.attributes))
    procedure = Procedure(rounds=3, samples=3, sample_s=2e-4)
    (measurement,) = measure([Subject(module, arrays, {1})], device, procedure)
    assert 0 < measurement.latency_s < 1e-3
    assert measurement.reference_s > 0


@pytest.fixture(scope="module")
def cache(tracker: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of kernels that were measured on the device, which is free again."""
    folder = tmp_path_factory.mktemp("kernels")
    priced(costs(tracker, folder))
    return folder


def test_a_layer_is_priced_on_the_device(tracker: str, cache: Path) -> None:
    cost, (record,) = priced(costs(tracker, cache))
    assert cost.latency_s > 0
    assert (record["used_by"], record["cpu"]) == ("linear", KEY)


def test_what_is_cached_needs_no_device(tracker: str, cache: Path) -> None:
    nowhere = costs(f"{LOCALHOST}:{free_port()}", cache)
    assert priced(nowhere) == priced(costs(tracker, cache))
    with pytest.raises(ConnectionError, match="No RPC tracker answers"):
        nowhere.layer_cost(replace(LINEAR, in_channels=32), Precision(8, 8))


def test_what_is_cached_does_not_wait_for_a_device_that_another_process_uses(
    tracker: str, cache: Path, device: RemoteRunner
) -> None:
    assert device.session
    start = monotonic()
    assert priced(costs(tracker, cache)) == priced(costs(tracker, cache))
    assert monotonic() - start < TIMEOUT_S / 2


def test_a_device_is_known_by_its_key_unless_its_cpu_is_named(tmp_path: Path) -> None:
    address = f"{LOCALHOST}:{free_port()}"
    assert costs(address, tmp_path).runner.cpu_model == KEY
    assert costs(address, tmp_path, cpu_model="Cortex-A76").runner.cpu_model == "Cortex-A76"


def test_an_unknown_key_is_named_with_the_choices(tracker: str) -> None:
    with pytest.raises(ValueError, match=rf"RPC tracker '{tracker}' has no device with key 'pi'; it has \['{KEY}'\]"):
        _ = remote(tracker, key="pi").session


def test_a_device_in_use_is_not_waited_for_for_ever(tracker: str, device: RemoteRunner) -> None:
    assert device.session
    with pytest.raises(TimeoutError, match=f"Every device with key '{KEY}' at RPC tracker '{tracker}' is in use"):
        _ = remote(tracker, timeout_s=0.5).session


def test_a_device_of_another_architecture_says_so(tracker: str) -> None:
    other = Target("aarch64-linux-gnu" if host().architecture != "aarch64" else "x86_64-linux-gnu")
    with pytest.raises(
        ValueError, match=rf"'{KEY}' does not run what is compiled for \{{.*{other.mtriple}.*Compilation error"
    ):
        _ = remote(tracker, target=other).session


@pytest.mark.skipif(host().architecture != "x86_64", reason="a CPU of x86 that this one is not")
def test_a_device_without_the_targets_instructions_says_so(tracker: str) -> None:
    excavator = Target(host().mtriple, "bdver4")  # whose XOP instructions no CPU of other makes has
    with pytest.raises(ValueError, match=rf"'{KEY}' does not run what is compiled for \{{.*bdver4"):
        _ = remote(tracker, target=excavator).session


@pytest.mark.parametrize("mattr", [(), ("+i8mm",)], ids=["dotprod", "i8mm"])
def test_a_trial_kernel_needs_dot_products_which_the_reference_kernel_does_not(
    run_emulated: Callable[..., object], mattr: tuple[str, ...]
) -> None:
    """On a Cortex-A53, which has none."""
    target = Target("aarch64-linux-gnu", "cortex-a76", mattr)
    run = partial(run_emulated, "aarch64", mcpu=target.mcpu, mattr=mattr, cpu="cortex-a53")
    run(reference_kernel(), [seeds()])
    trial = trial_kernels(target)["dot"]
    with pytest.raises(RuntimeError, match=f"qemu-aarch64 ended with {-signal.SIGILL}"):
        run(trial.build("kernel"), arguments(trial))


def test_an_unreachable_tracker_says_so() -> None:
    address = f"{LOCALHOST}:{free_port()}"
    start = monotonic()
    with pytest.raises(
        ConnectionError, match=rf"No RPC tracker answers at '{address}' \(.*refused\); start one with: python"
    ):
        _ = remote(address).session
    assert monotonic() - start < 10


def test_a_silent_tracker_is_not_waited_for_for_ever() -> None:
    with socket.create_server((LOCALHOST, 0)) as silent, pytest.raises(ConnectionError, match="timed out"):
        _ = remote(f"{LOCALHOST}:{silent.getsockname()[1]}", timeout_s=0.2).session


@pytest.mark.parametrize("address", ["9190", "localhost", "localhost:", ":9190", "localhost:port"])
def test_an_address_needs_host_and_port(address: str, tmp_path: Path) -> None:
    for build in (remote, lambda tracker: costs(tracker, tmp_path)):
        with pytest.raises(ValueError, match=f"RPC tracker '{address}' is not of the form host:port"):
            build(address)


def test_an_unknown_target_is_refused_before_any_connection(tmp_path: Path) -> None:
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a67"}
    with pytest.raises(ValueError, match="unknown aarch64 mcpu 'cortex-a67'"):
        costs(f"{LOCALHOST}:1", tmp_path, target=target)
