"""A search whose process is killed goes on when the command is repeated, and loses nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

N_TRIALS = 30
STARTUP_S = 300.0
"""Longest time from the start of a process to its first trials, on a busy machine."""


def command(folder):
    run, cache = f"run_dir={folder / 'run'}", f"cache_dir={folder / 'cache'}"
    return [sys.executable, "-m", "hwsearch", "search", run, cache, f"n_trials={N_TRIALS}"]


def kill(process):
    process.kill()  # or it has just ended by itself
    process.wait()


def complete(folder):
    """Measures of every complete trial, by number, as the journal has them; a half-written last line does not count."""
    journal = folder / "run" / "study.journal"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    records = [json.loads(line) for line in lines]
    measures = {r["trial_id"]: r["user_attr"]["measures"] for r in records if "measures" in r.get("user_attr", {})}
    return {r["trial_id"]: measures[r["trial_id"]] for r in records if r.get("state") == 1 and "trial_id" in r}


def finish(folder):
    """Repeat the command until it ends by itself."""
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def check(folder, before):
    """The tables hold exactly ``N_TRIALS`` configurations, and every trial that was complete before the kill."""
    run = folder / "run"
    trials = pd.read_csv(run / "trials.csv").set_index("trial")
    assert trials.index.tolist() == list(range(len(trials)))
    done = trials[trials["state"].isin(["complete", "dropped"])]
    assert len(done) == N_TRIALS
    assert set(trials["state"]) <= {"complete", "dropped", "duplicate"}

    precisions = pd.read_csv(run / "precisions.csv")
    configs = {
        trial: tuple(rows.drop(columns="trial").itertuples(index=False)) for trial, rows in precisions.groupby("trial")
    }
    assert sorted(configs) == done.index.tolist()
    assert len(set(configs.values())) == N_TRIALS

    for trial, measures in before.items():
        shown = {name: value for name, value in measures.items() if name in done}
        assert done.loc[trial, list(shown)].to_dict() == shown

    pareto = pd.read_csv(run / "pareto.csv")
    assert (pareto["kind"] == "float").sum() == 1
    assert pareto["on_front"].any()
    assert set(pareto["trial"].dropna()) <= set(done.index)
    for name in (
        "run.json",
        "layers.csv",
        "cost_table.csv",
        "ranges.csv",
        "versions.json",
        "pareto.png",
        "hwsearch.log",
    ):
        assert (run / name).stat().st_size > 0
    assert not list(run.glob(".*.part"))


def started(folder, *overrides, **options):
    return subprocess.Popen([*command(folder), *overrides], stdout=subprocess.DEVNULL, **options)


def wait_for(process, condition):
    """Poll until the condition holds; False if the process ended before."""
    deadline = time.monotonic() + STARTUP_S
    while not condition():
        assert time.monotonic() < deadline
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.slow
def test_killed_among_the_uniform_configurations(tmp_path):
    process = started(tmp_path)  # 13 of the 30 are uniform
    assert wait_for(process, lambda: len(complete(tmp_path)) >= 5)
    kill(process)
    before = complete(tmp_path)
    assert 5 <= len(before) < N_TRIALS
    assert not (tmp_path / "run" / "pareto.csv").exists()
    finish(tmp_path)
    check(tmp_path, before)


@pytest.mark.slow
def test_interrupted_among_the_candidates_of_the_sampler(tmp_path):
    process = started(tmp_path, stderr=subprocess.PIPE, text=True)
    assert wait_for(process, lambda: len(complete(tmp_path)) >= 20)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith(f"Interrupted. Repeat the command with run_dir={tmp_path / 'run'} to go on.\n")
    assert "Traceback" not in err
    before = complete(tmp_path)
    assert 20 <= len(before) < N_TRIALS
    finish(tmp_path)
    check(tmp_path, before)


@pytest.mark.slow
def test_an_interrupt_ends_every_worker(tmp_path):
    """A terminal sends Ctrl-C to all of them."""
    process = started(tmp_path, "workers=2", stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert wait_for(process, lambda: len(complete(tmp_path)) >= 5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)  # until the last of them has closed it
    assert process.returncode == 130
    assert err.endswith(f"Interrupted. Repeat the command with run_dir={tmp_path / 'run'} to go on.\n")
    assert "Traceback" not in err
    assert not list((tmp_path / "run").glob(".worker-*"))
    before = complete(tmp_path)
    finish(tmp_path)
    check(tmp_path, before)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """Other ones in every run: somewhere before the first trial, then twice somewhere in the search."""
    journal, before = tmp_path / "run" / "study.journal", {}

    def kill_when(condition, delay_s=0.0):
        process = started(tmp_path, stderr=subprocess.DEVNULL)
        ended = not wait_for(process, condition)
        time.sleep(delay_s)
        kill(process)
        now = complete(tmp_path)
        print(f"killed with {journal.stat().st_size if journal.exists() else 0} bytes of journal, {len(now)} trials")
        assert {trial: now.get(trial) for trial in before} == before
        before.update(now)
        return ended

    kill_when((tmp_path / "run" / ".lock").exists, random.uniform(0, 4))
    for _ in range(2):
        size = random.randrange(150_000)  # of about 200 000 after 30 trials
        if kill_when(lambda size=size: journal.exists() and journal.stat().st_size > size):
            break
    finish(tmp_path)
    check(tmp_path, before)
