"""Where an Optuna study is kept, and opening it again."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from hwsearch.pareto import DIRECTIONS
from hwsearch.search.locks import FileLocks, Locks, PostgresLocks, waiting_lock

SamplerFactory = Callable[[int], BaseSampler]
"""Makes a sampler from a seed."""

SQLITE = "sqlite:///"

ASYNCHRONOUS = "-c synchronous_commit=off"
"""A PostgreSQL server that crashes may forget the last moment's writes, never those before them: no wait for each."""


class Journal(JournalFileBackend):
    """Optuna's journal file for several writers of which any may be killed.

    A trial has hundreds of records, so the disk is waited for at its end only: what was written before survives the
    process in any case.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole lines, in place of the half one that a killed writer may have left at the end."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with waiting_lock(self._path.with_name(f".{self._path.name}.lock")), self._path.open("rb+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    file.truncate(self._path.read_bytes().rfind(b"\n") + 1)
                    file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
            if any("values" in log for log in logs):
                os.fsync(file.fileno())


def open_storage(url: str | None, run_dir: Path) -> BaseStorage:
    """Optuna's storage: the run folder's journal file, or an SQLite or PostgreSQL database.

    Raises:
        ValueError: If the URL is of another database, whose sessions give no locks to share a study by, or if the
            database can't be opened.
    """
    if url is None:
        return JournalStorage(Journal(run_dir / "study.journal"))
    if not url.startswith(SQLITE) and not _is_postgres(url):
        raise ValueError(
            f"storage={without_password(url)} is no database that a search can be kept in; give sqlite:///FILE or "
            "postgresql://HOST/DATABASE."
        )
    return _open_database(url, run_dir)


def _open_database(url: str, run_dir: Path) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError  # slow to import, and only this storage needs it

    shown = without_password(url)
    options = {"connect_args": {"options": ASYNCHRONOUS}} if _is_postgres(url) else None
    try:
        with open_locks(url, run_dir, "tables").turn():  # two processes can't create the same tables at once
            return RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"storage={shown} can't be opened: {reason}.") from error
    except ImportError as error:
        raise ValueError(f"storage={shown} can't be opened: {error}; pip install 'hwsearch[postgresql]'.") from error


def without_password(url: str | None) -> str | None:
    """A database URL as it may be shown: its password replaced by stars."""
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1***@", url) if url else url


def _is_postgres(url: str) -> bool:
    return url.startswith(("postgresql:", "postgresql+"))


def open_locks(url: str | None, run_dir: Path, study_name: str) -> Locks:
    """Locks for the workers of one study: those of its PostgreSQL server, else files.

    Files serve the processes of one machine: they lie beside an SQLite file, or in the run folder.
    """
    if url and _is_postgres(url):
        return PostgresLocks(url, study_name)
    return FileLocks(Path(url.removeprefix(SQLITE)).parent if url else run_dir)


def open_study(
    storage: BaseStorage, name: str, objectives: Sequence[str], definition: Mapping[str, Any]
) -> optuna.Study:
    """Create a study, or open it again.

    Args:
        storage: Where it is kept.
        name: Its name in the storage.
        objectives: Its objectives in order.
        definition: What the study's results depend on, JSON-like; a study is only resumed with the same one.

    Raises:
        ValueError: If the study exists and was made with another definition.
    """
    directions = [StudyDirection[DIRECTIONS[objective].upper()] for objective in objectives]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    _check_same(study.user_attrs.get("definition"), definition)
    study.set_user_attr("definition", definition)
    return study


def shared_name(definition: Mapping[str, Any]) -> str:
    """Name of a study in a database that many share: the same search has the same one, wherever it is run."""
    return f"hwsearch {sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]}"


def check_resumable(storage: BaseStorage, name: str, definition: Mapping[str, Any]) -> None:
    """Refuse a storage that holds this study with another definition, before any work on it.

    Raises:
        ValueError: Names what differs.
    """
    known = {
        summary.study_name: summary for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)
    }
    if name in known:
        _check_same(known[name].user_attrs.get("definition"), definition)


def _check_same(known: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))  # as the storage gives it back
    if known is not None and known != wanted:
        changed = sorted(key for key in {*known, *wanted} if known.get(key) != wanted.get(key))
        raise ValueError(
            f"The run folder holds a search with other settings ({', '.join(changed)}); "
            "repeat the command that began it, or choose another run_dir."
        )
