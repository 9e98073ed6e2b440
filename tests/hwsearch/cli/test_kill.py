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
    os.kill(process.pid, signal.SIGKILL)
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
    done = trials[trials["state"] == "complete"]
    assert len(done) == N_TRIALS
    assert set(trials["state"]) <= {"complete", "duplicate"}

    precisions = pd.read_csv(run / "precisions.csv")
    configs = {
        trial: tuple(rows.drop(columns="trial").itertuples(index=False)) for trial, rows in precisions.groupby("trial")
    }
    assert sorted(configs) == done.index.tolist()
    assert len(set(configs.values())) == N_TRIALS

    for trial, measures in before.items():
        assert done.loc[trial, list(measures)].to_dict() == measures

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


@pytest.mark.slow
@pytest.mark.parametrize("at", [5, 20])
def test_killed_after_some_trials(tmp_path, at):
    # 13 of the 30 are uniform configurations: one kill falls among them, one among the sampler's own candidates.
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + STARTUP_S
    while len(complete(tmp_path)) < at:
        assert process.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    kill(process)
    before = complete(tmp_path)
    assert at <= len(before) < N_TRIALS
    assert not (tmp_path / "run" / "pareto.csv").exists()
    finish(tmp_path)
    check(tmp_path, before)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    before = {}
    for _ in range(3):
        process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTUP_S
        while not (tmp_path / "run" / ".lock").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        moment_s = random.uniform(0, 6)  # from capturing the network to writing the tables; another one in every run
        time.sleep(moment_s)
        kill(process)
        now = complete(tmp_path)
        print(f"killed {moment_s} s after it took the run folder's lock, with {len(now)} trials complete")
        assert {trial: now.get(trial) for trial in before} == before
        before = now
    finish(tmp_path)
    check(tmp_path, before)
