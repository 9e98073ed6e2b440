"""What pip installs is complete: it runs from anywhere, without the source tree and without what only tests need."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
BIN = "Scripts" if sys.platform == "win32" else "bin"

pytestmark = pytest.mark.slow


def run(*command, timeout=600, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=timeout, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The commands of an environment that holds the wheel and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    pip = [folder / BIN / "python", "-m", "pip"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    constraints = ROOT / "constraints.txt"  # torch without its pin may bring several GB of CUDA packages
    run(*pip, "install", "--quiet", "-c", constraints, wheel, env=environment, cwd=folder, timeout=850)
    run(*pip, "check", env=environment, cwd=folder)
    return folder / BIN


def test_the_wheel_holds_every_choice_and_the_digits_checkpoint(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"hwsearch/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {
        path.relative_to(ROOT).as_posix()
        for part in ("cost_models", "hwsearch")
        for path in (ROOT / part).rglob("*.py")
    }
    assert {"hwsearch/conf/config.yaml", "hwsearch/conf/sampler/tpe.yaml"} <= conf <= names
    assert {"hwsearch/cli/__init__.py", "cost_models/bit_fusion.py"} <= modules <= names
    assert "hwsearch/networks/digits.safetensors" in names
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"cost_models", "hwsearch"}


@pytest.mark.timeout(1800)  # the first to install
def test_an_installed_wheel_searches_from_any_folder(installed, tmp_path):
    environment = {"PATH": str(installed), "HOME": str(tmp_path / "home")}
    if "SYSTEMROOT" in os.environ:
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]  # Windows starts no process without it
    options = {"env": environment, "cwd": tmp_path}

    script = "import cost_models, hwsearch; print(cost_models.__file__, hwsearch.__file__)"
    places = [Path(place) for place in run(installed / "python", "-c", script, **options).split()]
    assert all(place.is_relative_to(installed.parent) for place in places)

    devices = run(installed / "hwsearch", "list", "devices", **options)
    assert "bitfusion_isca_2018" in devices
    assert "t4_roofline" in devices

    small = ["n_trials=14", "space.weight_bits=[4,8]", "space.activation_bits=[8]"]
    run(installed / "hwsearch", "search", "run_dir=run", "cache_dir=cache", *small, **options)
    pareto = pd.read_csv(tmp_path / "run" / "pareto.csv")
    assert pareto["kind"].tolist()[:3] == ["float", "uniform", "uniform"]
    assert pareto["on_front"].any()
    trials = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert trials["state"].isin(["complete", "dropped"]).sum() == 14
    assert pareto.loc[0, "test_top1"] > 98  # the network came with its weights
