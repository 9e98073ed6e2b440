"""Several processes on one study: no candidate is judged twice, and one that dies loses its running trial only."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from hwsearch.search import complete_trials, open_storage

WORKER = """
import os, sys, time
from pathlib import Path
from hwsearch.costs import cost_table, pricing
from hwsearch.search import Judgement, build_space, canonical, open_locks, open_storage, search_precisions
from cost_models import LayerSpec, NetworkSpec, load_device

folder, url, n_trials, stop = Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3]), int(sys.argv[4])
layers = [LayerSpec(name, "linear", 8, 8) for name in ("a", "b", "c")]
device = load_device("conf/hardware/bitfusion_isca_2018.yaml")
space = build_space(layers, device, weight_bits=[2, 4, 8], activation_bits=[4, 8])
calls = 0

def judge(config, hopeless):
    global calls
    calls += 1
    with (folder / "calls").open("a") as file:
        file.write(" ".join(map(str, config.values())) + "\\n")
    if calls == stop:
        print("stopped", flush=True)
        time.sleep(600)
    time.sleep(0.01)
    return Judgement({"top1": 100 - 100 * sum(2.0**-p.weight_bits + 2.0**-p.activation_bits for p in config.values())}, n=100)

search_precisions(
    space,
    pricing(cost_table(layers, device), NetworkSpec.chain(layers), device),
    judge,
    n_trials=n_trials,
    storage=open_storage(url, folder),
    locks=open_locks(url, folder, "hwsearch"),
)
"""
ROOT = Path(__file__).parents[3]
N_TRIALS = 16


@pytest.fixture(scope="session")
def postgresql():
    """URL of a server of our own; a server refuses to run as root."""
    folders = [Path(path).parent for path in [shutil.which("initdb")] if path]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = next((folder for folder in folders if (folder / "postgres").exists()), None)
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb and postgres (Debian: apt-get install postgresql)")
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="hwsearch-postgresql-"))
    shutil.chown(folder, user)
    as_user = {"user": user, "cwd": folder, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    data, sockets = f"--pgdata={folder / 'data'}", str(folder)
    init = [programs / "initdb", data, "--username=hwsearch", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    subprocess.run(init, **as_user, check=True, capture_output=True)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={sockets}", "-c", "fsync=off"]
    server = subprocess.Popen(
        [programs / "postgres", "-D", folder / "data", *options], **as_user, stderr=subprocess.DEVNULL
    )
    try:
        while not (folder / ".s.PGSQL.5432").exists():
            assert server.poll() is None
            time.sleep(0.05)
        yield f"postgresql://hwsearch@/postgres?host={sockets}"
    finally:
        server.send_signal(signal.SIGINT)  # ends sessions that are left, too
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(params=["journal", "postgresql"])
def url(request, tmp_path):
    """What ``storage=`` takes; None is the journal."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
        yield url
        optuna.delete_study(study_name="hwsearch", storage=open_storage(url, tmp_path))
    else:
        yield None


def start(folder, url, stop=0):
    command = [sys.executable, "-c", WORKER, str(folder), url or "", str(N_TRIALS), str(stop)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def opened(folder, url):
    return optuna.load_study(study_name="hwsearch", storage=open_storage(url, folder))


def complete(study):
    """Parameters of every judged candidate."""
    return {tuple(sorted(trial.params.items())) for trial in complete_trials(study)}


def calls(folder):
    return Counter((folder / "calls").read_text().splitlines())


def test_no_candidate_is_judged_twice(tmp_path, url):
    workers = [start(tmp_path, url) for _ in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert len(complete(opened(tmp_path, url))) == calls(tmp_path).total() == N_TRIALS


def test_a_database_file_serves_several_workers(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    workers = [start(tmp_path, url) for _ in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert len(complete(opened(tmp_path, url))) == calls(tmp_path).total() == N_TRIALS


def test_a_killed_worker_loses_its_running_trial_which_is_judged_again(tmp_path, url):
    killed = start(tmp_path, url, stop=8)  # beyond the uniform configurations
    assert killed.stdout.readline() == "stopped\n"
    other = start(tmp_path, url)
    study = opened(tmp_path, url)
    while len(complete(study)) < N_TRIALS - 1:
        time.sleep(0.1)
    assert other.poll() is None  # it waits for the last one
    assert set(calls(tmp_path).values()) == {1}
    killed.kill()
    killed.wait()
    assert other.wait(timeout=60) == 0
    assert len(complete(study)) == N_TRIALS
    assert sorted(calls(tmp_path).values()) == [1] * (N_TRIALS - 1) + [2]
