"""Opening and resuming an Optuna study."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hwsearch.pareto import DIRECTIONS

SamplerFactory = Callable[[int], BaseSampler]
"""Makes a sampler from a seed."""


def open_storage(url: str | None, run_dir: Path) -> BaseStorage:
    """Optuna's storage: the run folder's journal file, or any database URL that Optuna takes.

    A process that was killed may leave half a line at the end of the journal and its lock; both are removed, which is
    safe because the caller holds the run folder's own lock.

    Raises:
        ValueError: If the database can't be opened.
    """
    if url:
        return _open_database(url)
    path = run_dir / "study.journal"
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)
    Path(f"{path}.lock").unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _open_database(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError  # slow to import, and only this storage needs it

    try:
        return RDBStorage(url)
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"storage={url} can't be opened: {reason}; give a URL such as sqlite:///FILE.") from error


def open_study(
    storage: BaseStorage,
    name: str,
    objectives: Sequence[str],
    make_sampler: SamplerFactory,
    seed: int,
    definition: Mapping[str, Any],
) -> optuna.Study:
    """Create a study, or open it again and make ready to go on.

    Args:
        storage: Where it is kept.
        name: Its name in the storage.
        objectives: Its objectives in order.
        make_sampler: Makes the sampler; seeded from ``seed`` and the number of trials told, since a resumed search
            would otherwise ask for the same candidates again.
        seed: Seed of the search.
        definition: What the study's results depend on, JSON-like; a study is only resumed with the same one.

    Raises:
        ValueError: If the study exists and was made with another definition.
    """
    directions = [StudyDirection[DIRECTIONS[objective].upper()] for objective in objectives]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    _check_same(study.user_attrs.get("definition"), definition)
    study.set_user_attr("definition", definition)
    told = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    study.sampler = make_sampler(int(np.random.SeedSequence([seed, told]).generate_state(1)[0]))
    _requeue_interrupted(study, storage)
    return study


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


def _requeue_interrupted(study: optuna.Study, storage: BaseStorage) -> None:
    """Let trials that a killed process left running wait again, with their numbers and what was chosen for them so far.

    To fail them would lose candidates of the queue, and BruteForceSampler refuses failed trials that lack parameters.
    """
    study_id = storage.get_study_id_from_name(study.study_name)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        storage.set_trial_state_values(trial_id, TrialState.WAITING)


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock goes when the process does, however it ends.

    Raises:
        ValueError: If another process holds it.
    """
    with (run_dir / ".lock").open("w") as file:
        if not _try_lock(file):
            raise ValueError(
                f"Another process is writing run folder '{run_dir}'; wait for it or choose another run_dir."
            )
        yield


def _try_lock(file: IO[str]) -> bool:
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
