"""``hwsearch export``: a trial of a run folder becomes a folder that runs without hwsearch."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import layer_database, load_task
from hwsearch.evaluate import FakeQuantNetwork, read_precisions
from hwsearch.export.run import Classifier
from hwsearch.lowering import input_codes, lower, run
from hwsearch.quantize.calibrate import read_ranges

from .conftest import QUICK, SMALL, TINY, status_of

ALONE = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(['hwsearch', 'cost_models', 'torch'])); sys.argv.pop(0); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs a script where neither hwsearch nor torch can be imported."""


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    assert status_of("search", *tiny, *SMALL, f"run_dir={folder / 'run'}", f"cache_dir={folder / 'cache'}") == 0
    return folder / "run"


@pytest.fixture
def searched(finished, tmp_path):
    """A finished search on the tiny network."""
    return shutil.copytree(finished, tmp_path / "run")


def run_alone(script, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE, script, *arguments]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=script.parent, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rebuilt(folder, trial):
    """The task and the integer network of a trial, and its fake quantization."""
    config = SearchConfig.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
    task = load_task(config)
    precisions = read_precisions(folder / "precisions.csv", trial)
    database, ranges = layer_database(config, task, set(precisions.values())), read_ranges(folder / "ranges.csv")
    fake = FakeQuantNetwork(task.network, database, ranges)
    fake.configure(precisions)
    return task, lower(task.network, precisions, database, ranges), fake


def test_a_trial_runs_without_hwsearch_and_equals_the_integer_reference(hwsearch, searched, tmp_path):
    trial = int(pd.read_csv(searched / "precisions.csv").query("weight_bits == 4")["trial"].iloc[-1])
    for kind in ("float32", "fixed_point"):
        out = tmp_path / kind
        result = hwsearch("export", searched, "--trial", trial, "--requantization", kind, "--out", out)
        assert result.status == 0, result.err
        assert result.out.endswith(f"{out}\nIt checks itself: python {out / 'run.py'}\n")
        checked = run_alone(out / "run.py")
        assert checked[0] == "The logits of the example are those expected, bit for bit."

        task, integers, _ = rebuilt(searched, trial)
        images = task.data.inputs[:100]
        expected = run(integers, input_codes(integers, task.preprocess(images).numpy()), kind)
        classifier = Classifier(out)
        np.testing.assert_array_equal([classifier.logits(image) for image in images], expected)
        np.save(tmp_path / "image.npy", images[7])
        (line,) = run_alone(out / "run.py", tmp_path / "image.npy")
        assert line.startswith(f"class {expected[7].argmax()}, ")


def test_the_default_folder_lies_in_the_run_and_says_where_it_is_from(hwsearch, searched):
    assert hwsearch("export", searched, "--trial", 0).status == 0
    about = json.loads((searched / "export" / "trial_0_tvm" / "network.json").read_text())
    run_info = json.loads((searched / "run.json").read_text())
    assert (about["model"], about["run"], about["trial"]) == ("tiny", "run", 0)
    assert about["model_fingerprint"] == run_info["model_fingerprint"]
    precisions = read_precisions(searched / "precisions.csv", 0)
    assert about["precisions"] == {layer: str(precision) for layer, precision in precisions.items()}


def test_a_measured_run_has_whole_networks_measured_and_exports_its_kernels(hwsearch, tiny, tmp_path):
    measured = ["hardware=tvm_cpu", "hardware.requantization=fixed_point", *QUICK]
    measured += [f"hardware.cache_dir={tmp_path / 'kernels'}", f"run_dir={tmp_path / 'run'}"]
    result = hwsearch("search", *tiny, *SMALL, *measured)
    assert result.status == 0, result.err
    assert "measured: the whole compiled network" in " ".join(result.out.split())
    pareto = pd.read_csv(tmp_path / "run" / "pareto.csv")
    known = pareto[pareto["kind"] != "float"]
    assert (known["measured_latency_s"] > 0).all()
    assert pareto.loc[pareto["kind"] == "float", "measured_latency_s"].isna().all()
    assert set(known["cost_source"]) == {"measured"}
    result = hwsearch("export", tmp_path / "run", "--trial", 0)
    assert result.status == 0, result.err
    out = tmp_path / "run" / "export" / "trial_0_tvm"
    assert run_alone(out / "run.py")[0].startswith("The logits of the example")
    assert json.loads((out / "network.json").read_text())["requantization"] == "fixed_point"  # as measured


def test_an_operator_that_no_integer_kernel_computes_is_named(hwsearch, tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    softmax = TINY.replace("torch.nn.ReLU", "torch.nn.Softmax, dim: 1")
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text(softmax)
    own = ["--config-dir", tmp_path / "conf", "model=tiny", f"run_dir={tmp_path / 'run'}"]
    measured = ["hardware=tvm_cpu", *QUICK, f"hardware.cache_dir={tmp_path / 'kernels'}"]
    result = hwsearch("search", *own, *SMALL, *measured)
    assert result.status == 2
    assert result.err == "Error: No integer kernel computes operator 'softmax' of type 'softmax'.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", 99], "Error: Precision file '{run}/precisions.csv' has no trial 99; it has {trials}.\n"),
        (["--trial", 0, "--format", "onnx"], "Error: --format is one of ['tvm'], not 'onnx'.\n"),
        (
            ["--trial", 0, "--requantization", "int8"],
            "Error: --requantization is one of ['float32', 'fixed_point'], not 'int8'.\n",
        ),
        (
            ["--trial", 0, "--target", "{kind: llvm, mtriple: aarch64-linux-gnu, mcpu: cortex-a67}"],
            "Error: Target: unknown aarch64 mcpu 'cortex-a67'; choose from ['cortex-a78', 'cortex-a77', 'cortex-a76', "
            "'cortex-a75', 'cortex-a73'].\n",
        ),
        (
            ["--trial", 0, "--out", "/dev/null/out"],
            "Error: '/dev/null/out' can't be written: File exists. Choose another --out.\n",
        ),
    ],
)
def test_wrong_options_say_what_to_choose(hwsearch, searched, arguments, message):
    result = hwsearch("export", searched, *arguments)
    trials = ", ".join(map(str, sorted(pd.read_csv(searched / "precisions.csv")["trial"].unique())))
    assert (result.status, result.err) == (2, message.replace("{run}", str(searched)).replace("{trials}", trials))
    assert not (searched / "export").exists()


def test_a_folder_that_is_no_finished_run_or_has_changed_is_refused(hwsearch, searched, tmp_path):
    result = hwsearch("export", tmp_path / "nowhere", "--trial", 0)
    assert (result.status, result.err) == (
        2,
        f"Error: No run folder '{tmp_path / 'nowhere'}'; pass a folder that 'hwsearch search' wrote.\n",
    )
    other = shutil.copytree(searched, tmp_path / "other")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("out_channels: 8", "out_channels: 4").replace("512", "256"))
    result = hwsearch("export", other, "--trial", 0)
    assert result.status == 2
    assert result.err.startswith(f"Error: Run '{other}' has model_fingerprint ")
    assert result.err.endswith("; a file has changed since the search.\n")
    (other / "config.yaml").unlink()
    result = hwsearch("export", other, "--trial", 0)
    assert (result.status, result.err) == (
        2,
        f"Error: Run folder '{other}' has no config.yaml, which names network and data.\n",
    )
