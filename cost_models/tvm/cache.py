"""Measurements and compiled libraries on disk: one folder per key, shared by any number of processes.

A file appears under its name only once it is whole and on the disk, so a process that dies or runs out of space leaves
nothing that is ever read. A library is named by its contents, and a record by its key: two writers of the same entry do
not disturb each other, whichever record stays names a library that is there. Checksums find what was damaged later.
"""

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from cost_models.tvm.measure import Measurement, Procedure
from cost_models.tvm.runner import Runner
from cost_models.tvm.target import compiler_versions

log = logging.getLogger(__name__)

RECORD = "record.json"


@dataclass(frozen=True)
class Key:
    """What a measurement depends on.

    Attributes:
        kernel: Name of the kernel.
        template: Version of the code that writes it; ``sources_digest`` gives one that cannot be forgotten.
        shape: Sizes of the layer.
        precision: Bits and formats.
        knobs: The kernel's variant, or what the search was allowed whose fastest one the record tells.
        target: ``Target.attributes``.
        cpu_model: The machine.
        compiler: ``compiler_versions()``.
        procedure: How it is measured.
    """

    kernel: str
    template: str
    shape: Mapping[str, JsonValue]
    precision: Mapping[str, JsonValue]
    knobs: Mapping[str, JsonValue]
    target: Mapping[str, JsonValue]
    cpu_model: str
    compiler: Mapping[str, str]
    procedure: Mapping[str, JsonValue]

    @classmethod
    def on(
        cls,
        runner: Runner,
        procedure: Procedure,
        *,
        kernel: str,
        template: str,
        shape: Mapping[str, JsonValue],
        precision: Mapping[str, JsonValue],
        knobs: Mapping[str, JsonValue],
    ) -> "Key":
        """The key of a kernel on a machine."""
        return cls(
            kernel,
            template,
            shape,
            precision,
            knobs,
            target=runner.target.attributes,
            cpu_model=runner.cpu_model,
            compiler=compiler_versions(),
            procedure=asdict(procedure) | {"rotated_bytes": procedure.touched_bytes(runner)},
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the key: its folder's name."""
        return digest_of(asdict(self))


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Record:
    """What is kept of a kernel.

    Attributes:
        knobs: The variant that was measured.
        measurement: Its times.
        library_sha256: Of the compiled library that was measured; None where nothing could link it.
    """

    knobs: dict[str, JsonValue]
    measurement: Measurement
    library_sha256: str | None


_RECORD = TypeAdapter(Record)


class Cache:
    """A folder of records and libraries.

    Where it cannot be written, because the disk is full for instance, ``add`` warns once and keeps nothing.

    Args:
        folder: Created when first written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warned: set[str] = set()

    def find(self, key: Key) -> Record | None:
        """The record of ``key``, or None where there is none, or none that can be trusted."""
        try:
            content = json.loads((self._entry(key) / RECORD).read_bytes())
            if content["checksum"] != _sha256(_canonical([content["key"], content["record"]])):
                raise ValueError("checksum mismatch")
            if _sha256(_canonical(content["key"])) != key.digest:
                raise ValueError("another key's record")
            return _RECORD.validate_json(json.dumps(content["record"]), strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            self._warn("Damaged entries of the kernel cache in %s are rebuilt.", self._folder)
            return None

    def library(self, key: Key, record: Record, suffix: str) -> Path | None:
        """Path of the library that ``record`` is about, or None where it is missing or damaged."""
        if record.library_sha256 is None:
            return None
        path = self._entry(key) / f"{record.library_sha256}{suffix}"
        try:
            intact = _sha256(path.read_bytes()) == record.library_sha256
        except OSError:
            return None
        if not intact:
            self._warn("Damaged entries of the kernel cache in %s are rebuilt.", self._folder)
        return path if intact else None

    def add(
        self, key: Key, knobs: Mapping[str, JsonValue], measurement: Measurement, library: bytes | None, suffix: str
    ) -> Record:
        """Keep a measurement and the library that was measured, instead of what is there.

        Args:
            key: What it is found by.
            knobs: The variant that was measured.
            measurement: Its times.
            library: ``Runner.export`` of it; None where nothing could link it.
            suffix: ``Runner.library_suffix``.
        """
        record = Record(dict(knobs), measurement, None if library is None else _sha256(library))
        described = [asdict(key), _RECORD.dump_python(record, mode="json")]
        content = {"key": described[0], "record": described[1], "checksum": _sha256(_canonical(described))}
        entry = self._entry(key)
        try:
            if library is not None:
                _write_whole(entry / f"{record.library_sha256}{suffix}", library)
            _write_whole(entry / RECORD, json.dumps(content, indent=1).encode())
        except OSError as error:
            self._warn("Compiled kernels and their latencies are not cached in %s: %s", self._folder, error)
        return record

    def find_library(self, digest: str, suffix: str) -> Path | None:
        """Path of the library that ``add_library`` kept, or None where it is missing or damaged."""
        for path in sorted(self._folder_of(digest).glob(f"*{suffix}")):
            try:
                if _sha256(path.read_bytes()) == path.stem:
                    return path
            except OSError:
                continue
            self._warn("Damaged entries of the kernel cache in %s are rebuilt.", self._folder)
        return None

    def add_library(self, digest: str, library: bytes, suffix: str) -> None:
        """Keep a library that nothing is known of but what it was compiled from.

        Args:
            digest: Of everything that it depends on.
            library: ``Runner.export`` of it.
            suffix: ``Runner.library_suffix``.
        """
        try:
            _write_whole(self._folder_of(digest) / f"{_sha256(library)}{suffix}", library)
        except OSError as error:
            self._warn("Compiled kernels and their latencies are not cached in %s: %s", self._folder, error)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other process that shares this folder is inside, since their timings would disturb each other.

        Look again for what is missing once inside: another process may have added it. The operating system ends the
        wait when a process dies.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            self._warn("Measurements do not wait for each other, without a lock in %s: %s", self._folder, error)
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _entry(self, key: Key) -> Path:
        return self._folder_of(key.digest)

    def _folder_of(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _warn(self, message: str, *values: Any) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, *values)


def sources_digest(folder: Path) -> str:
    """SHA-256 of the Python files below a folder: changes with any edit of the kernels in it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {_sha256(path.read_bytes())}\n".encode())
    return digest.hexdigest()


def digest_of(content: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return _sha256(_canonical(content))


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that readers see whole or not at all, also after a loss of power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
