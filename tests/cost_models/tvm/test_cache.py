"""The cache on disk: what is written is found again, and nothing damaged or half-written ever is."""

import json
import logging
import multiprocessing
import os
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from time import sleep

import pytest

from cost_models.tvm import driver
from cost_models.tvm.cache import RECORD, Cache, Key, sources_digest
from cost_models.tvm.measure import Measurement, Procedure
from cost_models.tvm.runner import LocalRunner, exported

PROCESSES = multiprocessing.get_context("fork")
SUFFIX = ".so"

MEASUREMENT = Measurement(
    latency_s=1.25e-6,
    spread=0.01,
    cold_latency_s=None,
    energy_j=None,
    reference_s=1e-4,
    drifted_rounds=0,
    rounds=7,
    threads=1,
    date=datetime(2026, 1, 2, tzinfo=UTC),
)


def key_of(**change) -> Key:
    described = {
        "kernel": "dot",
        "template": "1",
        "shape": {"outputs": 8},
        "precision": {"weight_bits": 4},
        "knobs": {},
    }
    return Key.on(LocalRunner.host(), Procedure(), **(described | change))


KEY = key_of()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_added_is_found_by_another_process(cache: Cache, tmp_path: Path) -> None:
    assert cache.find(KEY) is None
    added = cache.add(KEY, {"lanes": 16}, MEASUREMENT, b"library", SUFFIX)
    found = Cache(tmp_path).find(KEY)
    assert found == added
    assert (found.knobs, found.measurement) == ({"lanes": 16}, MEASUREMENT)
    assert cache.library(KEY, found, SUFFIX).read_bytes() == b"library"


def test_a_real_library_runs_from_the_cache(cache: Cache, dot) -> None:
    runner = LocalRunner.host()
    executable = driver.compile(driver.standalone(dot(8, 64)), runner.target.attributes)
    record = cache.add(KEY, {}, MEASUREMENT, runner.export(executable), runner.library_suffix)
    assert runner.open(cache.library(KEY, record, runner.library_suffix)).implements_function("main")


@pytest.mark.parametrize(
    "other",
    [
        key_of(kernel="conv"),
        key_of(template="2"),
        key_of(shape={"outputs": 9}),
        key_of(precision={"weight_bits": 3}),
        key_of(knobs={"lanes": 16}),
        replace(KEY, target=dict(KEY.target) | {"mcpu": "z80"}),
        replace(KEY, cpu_model="another"),
        replace(KEY, compiler=dict(KEY.compiler) | {"tvm": "0.28"}),
        replace(KEY, procedure=dict(KEY.procedure) | {"rounds": 8}),
    ],
)
def test_everything_a_measurement_depends_on_is_in_the_key(cache: Cache, other: Key) -> None:
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    assert cache.find(other) is None


def test_a_later_record_replaces_the_earlier_one(cache: Cache) -> None:
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    later = cache.add(KEY, {}, replace(MEASUREMENT, latency_s=1.0), b"another", SUFFIX)
    assert cache.find(KEY) == later
    assert cache.library(KEY, later, SUFFIX).read_bytes() == b"another"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "not text", "not a record", "another key's"])
def test_a_damaged_record_is_rebuilt(
    cache: Cache, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    (path,) = tmp_path.rglob(RECORD)
    content = path.read_bytes()
    cache.add(key_of(kernel="conv"), {}, MEASUREMENT, b"library", SUFFIX)
    (other,) = set(tmp_path.rglob(RECORD)) - {path}
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "flipped": content.replace(b'"rounds": 7', b'"rounds": 8'),
            "emptied": b"",
            "not text": bytes(range(256)),
            "not a record": b"[1]",
            "another key's": other.read_bytes(),
        }[damage]
    )
    assert path.read_bytes() != content
    assert cache.find(KEY) is None
    assert cache.find(KEY) is None
    assert caplog.messages == [f"Damaged entries of the kernel cache in {tmp_path} are rebuilt."]
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    assert cache.find(KEY) is not None


def test_a_record_of_another_schema_is_rebuilt(cache: Cache, tmp_path: Path) -> None:
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    (path,) = tmp_path.rglob(RECORD)
    content = json.loads(path.read_text())
    content["record"]["measurement"].pop("threads")
    path.write_text(json.dumps(content))
    assert cache.find(KEY) is None


@pytest.mark.parametrize("damage", [b"librar", b"Library", b""])
def test_a_damaged_library_is_rebuilt(cache: Cache, damage: bytes) -> None:
    record = cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    path = cache.library(KEY, record, SUFFIX)
    path.write_bytes(damage)
    assert cache.library(KEY, record, SUFFIX) is None
    cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    assert cache.library(KEY, record, SUFFIX) == path
    path.unlink()
    assert cache.library(KEY, record, SUFFIX) is None


def write_and_read(folder: Path, me: int, turns: int, start: Event) -> None:
    cache = Cache(folder)
    start.wait()
    for turn in range(turns):
        library = bytes([me]) * (1000 + turn)
        cache.add(KEY, {"writer": me, "turn": turn}, replace(MEASUREMENT, latency_s=me + 1.0), library, SUFFIX)
        found = cache.find(KEY)
        writer, other_turn = found.knobs["writer"], found.knobs["turn"]
        assert found.measurement.latency_s == writer + 1.0
        assert cache.library(KEY, found, SUFFIX).read_bytes() == bytes([writer]) * (1000 + other_turn)


def test_processes_that_write_the_same_entry_never_see_a_mixture(cache: Cache, tmp_path: Path) -> None:
    start = PROCESSES.Event()
    writers = [PROCESSES.Process(target=write_and_read, args=(tmp_path, me, 30, start)) for me in range(3)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert cache.find(KEY) is not None
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_killed_writer_leaves_nothing_that_is_read(cache: Cache, tmp_path: Path) -> None:
    for delay_s in (0.005, 0.01, 0.02, 0.04):
        start = PROCESSES.Event()
        writer = PROCESSES.Process(target=write_and_read, args=(tmp_path, 1, 10**9, start))
        writer.start()
        start.set()
        sleep(delay_s)
        writer.kill()
        writer.join()
        found = cache.find(KEY)
        if found:
            assert cache.library(KEY, found, SUFFIX).read_bytes() == b"\1" * (1000 + found.knobs["turn"])


def hold(folder: Path, inside: Event, leave: Event) -> None:
    with Cache(folder).exclusive():
        inside.set()
        leave.wait()


def test_processes_that_share_a_cache_take_turns_even_if_one_is_killed(tmp_path: Path) -> None:
    inside, leave = [[PROCESSES.Event() for _ in range(2)] for _ in range(2)]
    first, second = [
        PROCESSES.Process(target=hold, args=(tmp_path, *events)) for events in zip(inside, leave, strict=True)
    ]
    first.start()
    assert inside[0].wait(60)
    second.start()
    assert not inside[1].wait(0.3)
    first.kill()
    assert inside[1].wait(60)
    leave[1].set()
    second.join()
    assert second.exitcode == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root mounts a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_costs_the_cache_and_nothing_else(tiny_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tiny_disk / "cache")
    for _ in range(2):
        record = cache.add(KEY, {}, MEASUREMENT, bytes(100_000), SUFFIX)
        assert record.measurement == MEASUREMENT
        assert cache.find(KEY) is None
    assert caplog.messages == [
        f"Compiled kernels and their latencies are not cached in {tiny_disk / 'cache'}: [Errno 28] No space left on device"
    ]
    assert files(tiny_disk) == []


def test_a_disk_that_is_full_after_the_library_keeps_the_earlier_record(tiny_disk: Path) -> None:
    cache = Cache(tiny_disk / "cache")
    earlier = cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    free = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_bsize
    cache.add(KEY, {}, replace(MEASUREMENT, latency_s=1.0), bytes(free), SUFFIX)
    assert cache.find(KEY) == earlier
    assert cache.library(KEY, earlier, SUFFIX).read_bytes() == b"library"


def test_a_limit_on_file_sizes_is_like_a_full_disk(
    cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        cache.add(KEY, {}, MEASUREMENT, bytes(100_000), SUFFIX)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.find(KEY) is None
    assert "File too large" in caplog.text
    assert files(tmp_path) == []


def test_compiling_with_no_room_for_temporary_files_says_so(
    tiny_disk: Path, dot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tiny_disk))
    executable = driver.compile(driver.standalone(dot(8, 64)), {"kind": "llvm"})
    with pytest.raises(OSError, match=r"needs 32 MiB in the folder of temporary files, .* set TMPDIR") as error:
        exported(executable, SUFFIX)
    assert error.value.filename == str(tiny_disk)


def test_linking_without_a_compiler_says_so(dot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    executable = driver.compile(driver.standalone(dot(8, 64)), {"kind": "llvm"})
    with pytest.raises(FileNotFoundError, match=r"needs a C\+\+ compiler: install g\+\+ or clang\+\+, or set CXX"):
        exported(executable, SUFFIX)


def test_a_folder_that_cannot_be_made_costs_the_cache_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    assert cache.find(KEY) is None
    with cache.exclusive():
        record = cache.add(KEY, {}, MEASUREMENT, b"library", SUFFIX)
    assert cache.library(KEY, record, SUFFIX) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]


def test_an_edited_kernel_is_another_template(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("a = 1\n")
    before = sources_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert sources_digest(tmp_path) == before
    (tmp_path / "kernel.py").write_text("a = 2\n")
    assert sources_digest(tmp_path) != before
