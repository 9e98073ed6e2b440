"""Who of several workers may choose a candidate, and which of them still live."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol

POLL_S = 0.002


class Locks(Protocol):
    """Locks of one study; each goes when the process that holds it does, however it ends."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn, and hold it: one worker at a time reads the study and claims a candidate."""

    def living(self, worker: str) -> AbstractContextManager[None]:
        """Let the others see that this worker lives."""

    def is_living(self, worker: str) -> bool:
        """Whether it does."""


class Alone:
    """For a process that no other shares its study with."""

    def turn(self) -> AbstractContextManager[None]:
        """It is always its turn."""
        return nullcontext()

    def living(self, worker: str) -> AbstractContextManager[None]:
        """Nobody looks."""
        return nullcontext()

    def is_living(self, worker: str) -> bool:
        """Whoever began a trial before is gone."""
        return False


ALONE = Alone()


class FileLocks:
    """For the processes of one machine: locked files in a folder that they share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and hold it."""
        with waiting_lock(self.folder / ".turn.lock"):
            yield

    @contextmanager
    def living(self, worker: str) -> Iterator[None]:
        """Let the others see that this worker lives."""
        path = self._path(worker)
        try:
            with path.open("w") as file:
                assert try_lock(file)  # its name is its own
                yield
        finally:
            path.unlink(missing_ok=True)

    def is_living(self, worker: str) -> bool:
        """Whether some process holds the worker's file."""
        path = self._path(worker)
        if not path.exists():
            return False
        with path.open("w") as file:
            living = not try_lock(file)
        if not living:
            path.unlink(missing_ok=True)
        return living

    def _path(self, worker: str) -> Path:
        return self.folder / f".worker-{worker}.lock"


class PostgresLocks:
    """For the processes of several machines: advisory locks of a PostgreSQL session, which ends with its connection.

    Args:
        url: The database.
        study_name: Tells studies of one database apart.
    """

    def __init__(self, url: str, study_name: str) -> None:
        self.url = url
        self.study_name = study_name
        self._session: Any = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and hold it."""
        with self._held("turn"):
            yield

    @contextmanager
    def living(self, worker: str) -> Iterator[None]:
        """Let the others see that this worker lives."""
        with self._held(worker):
            yield

    def is_living(self, worker: str) -> bool:
        """Whether some session holds the worker's lock."""
        free = self._call("pg_try_advisory_lock", worker)
        if free:
            self._call("pg_advisory_unlock", worker)
        return not free

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        self._call("pg_advisory_lock", name)
        try:
            yield
        finally:
            self._call("pg_advisory_unlock", name)

    def _call(self, function: str, name: str) -> bool:
        from sqlalchemy import create_engine, text  # slow to import, and only databases need it

        if self._session is None:
            engine = create_engine(self.url, connect_args={"options": SESSION}, isolation_level="AUTOCOMMIT")
            self._session = engine.connect()
        digest = sha256(f"{self.study_name}\n{name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        return bool(self._session.execute(text(f"SELECT {function}(:key)"), {"key": key}).scalar())


SESSION = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""After a minute without a sign of a machine, the server ends its sessions and frees their locks."""


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds this file, and hold it."""
    with path.open("w") as file:
        while not try_lock(file):
            time.sleep(POLL_S)
        yield


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False if another holds it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock goes when the process does, however it ends.

    Raises:
        ValueError: If another process holds it.
    """
    with (run_dir / ".lock").open("w") as file:
        if not try_lock(file):
            raise ValueError(
                f"Another process is writing run folder '{run_dir}'; wait for it or choose another run_dir."
            )
        yield
