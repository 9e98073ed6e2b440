"""A search that was stopped goes on where it was, at whatever moment it was stopped."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hwsearch.search import (
    Constraint,
    build_space,
    canonical,
    complete_trials,
    judged_configs,
    locked,
    open_storage,
    search_precisions,
    trials_table,
)

from .conftest import SAMPLERS

CUT = [path for path in SAMPLERS if path.stem in ("brute_force", "nsga2", "random", "tpe")]

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def sampler_of(path):
    config = OmegaConf.load(path)
    return lambda seed: instantiate(config, _convert_="all", seed=seed)


def run(problem, judge, folder, url=None, **options):
    return search_precisions(problem.space, problem.price, judge, storage=open_storage(url, folder), **options)


def lines_of(study, problem):
    """``trials.csv`` as it would be written, without its header."""
    return trials_table(study, problem.space).to_csv(index=False).splitlines()[1:]


def check(study, problem, n_trials):
    """Exactly ``n_trials`` distinct configurations, the uniform ones among them, under numbers without gaps."""
    keys = {canonical(config) for config in judged_configs(study, problem.space).values()}
    assert len(complete_trials(study)) == len(keys) == n_trials
    assert {canonical(config) for config in problem.space.uniforms()} <= keys
    table = trials_table(study, problem.space)
    assert table["trial"].tolist() == list(range(len(study.trials)))
    assert set(table["state"]) <= {"complete", "duplicate"}


@pytest.mark.parametrize("path", SAMPLERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("stop", [1, 2, 5, 6, 12])
def test_an_interrupted_search_judges_only_the_interrupted_candidate_again(small, new_judge, tmp_path, path, stop):
    options = {"make_sampler": sampler_of(path), "n_trials": 12, "constraints": [Constraint("top1", 90.0)]}
    interrupted = new_judge(interrupt_at=stop)
    with pytest.raises(KeyboardInterrupt):
        run(small, interrupted, tmp_path, **options)
    before = lines_of(optuna.load_study(study_name="hwsearch", storage=open_storage(None, tmp_path)), small)
    assert sum(",complete," in line for line in before) == stop - 1

    resumed = new_judge()
    study = run(small, resumed, tmp_path, **options)
    check(study, small, 12)
    assert lines_of(study, small)[: len(before)] == before
    calls = interrupted.calls + resumed.calls
    *_, last = interrupted.calls
    assert calls == Counter({**dict.fromkeys(calls, 1), last: 2})


def test_a_search_that_is_interrupted_again_and_again_ends(small, new_judge, tmp_path):
    judges = []
    for _ in range(100):
        judges.append(new_judge(interrupt_at=2))
        try:
            study = run(small, judges[-1], tmp_path, n_trials=12)
            break
        except KeyboardInterrupt:
            continue
    check(study, small, 12)
    assert len(judges) == 12  # each judges what the one before was interrupted in, and is interrupted in the next


def test_seeds_of_a_resumed_search_do_not_repeat_suggestions(small, new_judge, tmp_path):
    """Its sampler would suggest what it suggested after the same number of trials, if seeded with the seed alone."""
    make_sampler = sampler_of(next(path for path in SAMPLERS if path.stem == "random"))
    for n_trials in range(5, 25):
        study = run(small, new_judge(), tmp_path, make_sampler=make_sampler, n_trials=n_trials)
    duplicates = sum(",duplicate," in line for line in lines_of(study, small))
    assert duplicates < 10  # 216 configurations: 20 random ones meet about once


@pytest.mark.parametrize("path", CUT, ids=lambda path: path.stem)
def test_a_journal_cut_anywhere_is_continued(tiny, new_judge, tmp_path, path):
    """A process that is killed leaves a prefix of its journal; the last line may be cut, too."""
    options = {"make_sampler": sampler_of(path), "n_trials": 6}
    (tmp_path / "whole").mkdir()
    whole = lines_of(run(tiny, new_judge(), tmp_path / "whole", **options), tiny)
    records = (tmp_path / "whole" / "study.journal").read_bytes().splitlines(keepends=True)
    for count, record in enumerate(records):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "study.journal").write_bytes(b"".join(records[:count]) + record[: len(record) // 2])
        storage = open_storage(None, folder)
        known = bool(storage.get_all_studies())
        before = lines_of(optuna.load_study(study_name="hwsearch", storage=storage), tiny) if known else []
        judge = new_judge()
        study = run(tiny, judge, folder, **options)
        check(study, tiny, 6)
        assert lines_of(study, tiny)[: len(before)] == before == whole[: len(before)]
        assert judge.calls.total() == 6 - sum(",complete," in line for line in before)


def test_a_finished_search_is_not_repeated(small, new_judge, tmp_path):
    first = lines_of(run(small, new_judge(), tmp_path, n_trials=8), small)
    judge = new_judge()
    assert lines_of(run(small, judge, tmp_path, n_trials=8), small) == first
    assert lines_of(run(small, judge, tmp_path, n_trials=6), small) == first
    assert not judge.calls


def test_a_finished_search_is_extended(small, new_judge, tmp_path):
    first = lines_of(run(small, new_judge(), tmp_path, n_trials=8), small)
    judge = new_judge()
    study = run(small, judge, tmp_path, n_trials=14)
    check(study, small, 14)
    assert lines_of(study, small)[: len(first)] == first
    assert judge.calls.total() == 6


def test_an_exhausted_space_stays_exhausted(tiny, new_judge, tmp_path):
    make_sampler = sampler_of(next(path for path in SAMPLERS if path.stem == "brute_force"))
    first = lines_of(run(tiny, new_judge(), tmp_path, make_sampler=make_sampler, n_trials=100), tiny)
    judge = new_judge()
    again = run(tiny, judge, tmp_path, make_sampler=make_sampler, n_trials=200)
    assert lines_of(again, tiny) == first
    assert not judge.calls


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"seed": 1}, "seed"),
        ({"objectives": ("latency_s", "top1")}, "objectives"),
        ({"constraints": [Constraint("size_bytes", 3000.1)]}, "constraints"),
        ({"definition": {"hardware": "npu", "sampler": "gp"}}, "hardware, sampler"),
        ({"definition": {}}, "hardware, sampler"),
    ],
)
def test_other_settings_are_refused_and_named(small, new_judge, tmp_path, options, changed):
    # 3000.1 is another bound than 3000, although both are called size_bytes <= 3000.
    first = {
        "constraints": [Constraint("size_bytes", 3000.0)],
        "definition": {"hardware": "t4", "sampler": "tpe"},
        "n_trials": 6,
    }
    before = lines_of(run(small, new_judge(), tmp_path, **first), small)
    judge = new_judge()
    with pytest.raises(ValueError) as error:
        run(small, judge, tmp_path, **(first | options))
    assert str(error.value) == (
        f"The run folder holds a search with other settings ({changed}); "
        "repeat the command that began it, or choose another run_dir."
    )
    assert not judge.calls
    assert lines_of(run(small, judge, tmp_path, **first), small) == before


def test_another_space_with_equally_many_choices_is_refused(layers, small, new_judge, tmp_path):
    # Parameters are indices: the same ones would stand for other precisions.
    spaces = [build_space(layers, small.device, weight_bits=bits, activation_bits=[8]) for bits in ([2, 4], [4, 8])]
    run(replace(small, space=spaces[0]), new_judge(), tmp_path, n_trials=2)
    with pytest.raises(ValueError, match=r"other settings \(space\)"):
        run(replace(small, space=spaces[1]), new_judge(), tmp_path, n_trials=2)


@pytest.mark.parametrize("stop", [3, 9])
def test_a_database_serves_as_storage(small, new_judge, tmp_path, stop):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(KeyboardInterrupt):
        run(small, new_judge(interrupt_at=stop), tmp_path, url, n_trials=12)
    judge = new_judge()
    study = run(small, judge, tmp_path, url, n_trials=12)
    check(study, small, 12)
    assert judge.calls.total() == 12 - (stop - 1)
    assert not (tmp_path / "study.journal").exists()
    (tmp_path / "journal").mkdir()
    with pytest.raises(KeyboardInterrupt):
        run(small, new_judge(interrupt_at=stop), tmp_path / "journal", n_trials=12)
    journal = run(small, new_judge(), tmp_path / "journal", n_trials=12)
    assert lines_of(journal, small) == lines_of(study, small)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////no/such/folder/study.db", "[Errno 2] No such file or directory: '/no/such/folder/.turn.lock'"),
        ("sqlite:////dev/null/study.db", "[Errno 20] Not a directory: '/dev/null/.turn.lock'"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named(tmp_path, url, reason):
    with pytest.raises(ValueError) as error:
        open_storage(url, tmp_path)
    assert str(error.value) == f"storage={url} can't be opened: {reason}."


@pytest.mark.parametrize("url", ["study.db", "sqlite://", "mysql://me:***@host/study", "redis://host"])
def test_other_databases_are_refused(tmp_path, url):
    with pytest.raises(ValueError) as error:
        open_storage(url.replace("***", "secret"), tmp_path)
    assert str(error.value) == (
        f"storage={url} is no database that a search can be kept in; give sqlite:///FILE or postgresql://HOST/DATABASE."
    )


def test_a_run_folder_has_one_writer(tmp_path):
    script = (
        "import sys; from pathlib import Path; from hwsearch.search import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError) as error, locked(tmp_path):
            pass
        assert str(error.value) == (
            f"Another process is writing run folder '{tmp_path}'; wait for it or choose another run_dir."
        )
        holder.kill()
    with locked(tmp_path):  # the lock went with the process
        pass
