"""``hwsearch solve``: other bounds and devices from stored sensitivities."""

import shutil

import numpy as np
import pandas as pd
import pytest

from hwsearch.evaluate import read_precisions

from .conftest import SMALL, status_of


@pytest.fixture(scope="module")
def searched(tiny, tmp_path_factory):
    """A finished search on the tiny network, at W{4,8}A8."""
    folder = tmp_path_factory.mktemp("solve")
    assert status_of("search", *tiny, *SMALL, f"run_dir={folder / 'run'}", f"cache_dir={folder / 'cache'}") == 0
    return folder / "run"


def test_a_bound_gives_one_configuration_that_keeps_it(hwsearch, searched, tmp_path):
    bound = 0.8 * pd.read_csv(searched / "trials.csv")["size_bytes"].max()
    result = hwsearch("solve", searched, f"constraints.size_bytes={bound}", f"run_dir={tmp_path / 'out'}")
    assert result.status == 0, result.err
    assert "predicted, not judged" in result.out
    solutions = pd.read_csv(tmp_path / "out" / "solutions.csv")
    assert len(solutions) == 1
    assert solutions["size_bytes"].item() <= bound
    assert len(read_precisions(tmp_path / "out" / "precisions.csv")) == 2


def test_without_a_bound_it_gives_a_front_on_another_device(hwsearch, searched, tmp_path):
    result = hwsearch("solve", searched, "hardware=x86_avx512_vnni", "cost=size_bytes", f"run_dir={tmp_path / 'out'}")
    assert result.status == 0, result.err
    solutions = pd.read_csv(tmp_path / "out" / "solutions.csv")
    assert len(solutions) > 1
    assert solutions["size_bytes"].is_monotonic_increasing
    assert solutions["predicted_loss"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["constraints.size_bytes=10"], "No candidate meets constraints.size_bytes=10"),
        (["cost=speed"], "cost=speed is no cost"),
        (["hardware=t4_roofline", "constraints.top1=90"], "Unknown key 'constraints.top1'"),
    ],
)
def test_what_cannot_be_solved_is_explained(hwsearch, searched, tmp_path, overrides, message):
    result = hwsearch("solve", searched, *overrides, f"run_dir={tmp_path / 'out'}")
    assert result.status == 2
    assert message in result.err


def test_a_folder_without_a_search_is_refused(hwsearch, tmp_path):
    result = hwsearch("solve", tmp_path, f"run_dir={tmp_path / 'out'}")
    assert result.status == 2
    assert "has no config.yaml" in result.err


@pytest.mark.parametrize("bounds", [[], ["constraints.latency_s=1"]])
def test_solutions_fit_the_device(hwsearch, searched, tmp_path, bounds):
    """5192 weights, of which the memory holds less than half as bytes."""
    flash = "{name: flash, inputs: 0, outputs: 0, capacity_bytes: 4000, source: plinio}"
    result = hwsearch(
        "solve",
        searched,
        "hardware=mpic_riscv",
        f"++hardware.memory=[{flash}]",
        *bounds,
        f"run_dir={tmp_path / 'out'}",
    )
    assert result.status == 0, result.err
    solutions = pd.read_csv(tmp_path / "out" / "solutions.csv")
    assert len(solutions)
    assert np.isfinite(solutions["latency_s"]).all()
    precisions = read_precisions(tmp_path / "out" / "precisions.csv", 0)
    assert {str(precision) for precision in precisions.values()} <= {"W4A8", "W8A8"}
    assert str(precisions["3"]) == "W4A8"


@pytest.fixture(scope="module")
def of_two_widths(tiny, tmp_path_factory):
    """A search on a device that runs W4A4 and W8A8 only."""
    folder = tmp_path_factory.mktemp("two")
    options = ["hardware=t4_roofline", "n_trials=3", f"run_dir={folder / 'run'}", f"cache_dir={folder / 'cache'}"]
    assert status_of("search", *tiny, *options) == 0
    return folder / "run"


def test_another_device_chooses_between_what_was_measured(hwsearch, of_two_widths, tmp_path):
    result = hwsearch("solve", of_two_widths, "hardware=bitfusion_isca_2018", f"run_dir={tmp_path / 'out'}")
    assert result.status == 0, result.err
    assert "Left out, since the run stored no sensitivities of them: W2A2" in result.out
    precisions = pd.read_csv(tmp_path / "out" / "precisions.csv")
    assert set(precisions["weight_bits"]) <= {4, 8}
    assert set(precisions["activation_bits"]) <= {4, 8}


def test_a_layer_of_which_nothing_was_measured_is_named(hwsearch, of_two_widths, tmp_path):
    run = shutil.copytree(of_two_widths, tmp_path / "run")
    table = pd.read_csv(run / "sensitivity.csv", dtype={"layer": str})
    table[table["layer"] != "3"].to_csv(run / "sensitivity.csv", index=False)
    result = hwsearch("solve", run, f"run_dir={tmp_path / 'out'}")
    assert (result.status, result.err) == (
        2,
        "Error: Hardware 't4_roofline' runs layers ['3'] at W4A4, W8A8, of which the run stored no sensitivities; "
        "search with this hardware.\n",
    )
