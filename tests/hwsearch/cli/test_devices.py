"""``hwsearch devices``, and the way from a data sheet to a Pareto table that the README shows."""

import re
from pathlib import Path

import pandas as pd
import pytest

from cost_models import LayerSpec, NetworkSpec
from hwsearch.network_file import NETWORK_FILE, network_content
from hwsearch.run_folder import write_json

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.fixture
def npu(tmp_path: Path) -> Path:
    """The README's device, where ``hardware=npu`` finds it."""
    (device,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert device.count("\n") <= 30
    path = tmp_path / "hardware" / "npu.yaml"
    path.parent.mkdir()
    path.write_text(device)
    return path


def test_a_device_is_shown_by_name_and_by_file(hwsearch, npu, tmp_path):
    assert "STM32U575" in hwsearch("devices", "show", "stm32u575_xcubeai").out
    assert "Estimated to ±50%" in hwsearch("devices", "show", npu).out
    assert "Estimated to ±50%" in hwsearch("devices", "show", "npu", "--config-dir", tmp_path).out


def test_an_unknown_device_and_one_that_only_hydra_composes_are_refused(hwsearch):
    result = hwsearch("devices", "show", "t5")
    assert (result.status, result.err.startswith("Error: There is no device 't5'; give a YAML file, or")) == (2, True)
    result = hwsearch("devices", "show", "tvm_rpc")
    assert result.status == 2
    assert "which only a search or a profile does: hardware=tvm_rpc." in result.err


def test_every_mistake_has_a_line(hwsearch, npu):
    npu.write_text(npu.read_text().replace("batch: 1", "batch: 0").replace("bytes_per_s:", "gb_per_s:"))
    result = hwsearch("devices", "check", npu)
    assert result.status == 2
    lines = result.err.splitlines()
    assert lines[0] == f"{npu}: batch: Input should be greater than 0 (got 0)"
    assert lines[1].startswith(f"{npu}: memory[0].gb_per_s: unknown field; choose from ['bytes_per_s', ")
    assert len(lines) == 2


def test_costs_that_make_no_sense_are_mistakes(hwsearch, npu):
    npu.write_text(npu.read_text().replace("macs_per_s: 8.0e+9", 'macs_per_s: "8e9 * (8 - weight_bits)"'))
    result = hwsearch("devices", "check", npu)
    assert result.status == 2
    assert (
        f"{npu}: Hardware 'npu' has no cost for layer 'conv' at W4A8: "
        "macs_per_s is 0 (8e9 * (8 - weight_bits)), not above 0.\n"
    ) in result.err


def test_from_a_data_sheet_to_a_pareto_table(hwsearch, npu, tmp_path):
    result = hwsearch("devices", "check", npu)
    assert (result.status, result.err) == (0, "")
    assert f"{npu} is sound: 'npu' runs W4A4, W4A8, W8A8 at batch 1." in result.out
    result = hwsearch("search", "--config-dir", tmp_path, "hardware=npu", "n_trials=6", f"run_dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    assert "Note on npu: Estimated to ±50%: compute[0], compute[2] (half of the peak)." in result.out
    pareto = pd.read_csv(tmp_path / "run" / "pareto.csv")
    assert {"float", "uniform"} <= set(pareto["kind"])
    assert pareto["on_front"].any()
    assert "mixed" in set(pd.read_csv(tmp_path / "run" / "trials.csv")["kind"])


def test_a_calibration_is_reported_and_written(hwsearch, npu, tmp_path):
    for name, features in (("small", 100), ("large", 1000)):
        (tmp_path / name).mkdir()
        network = NetworkSpec.chain([LayerSpec("fc", "linear", features, features)])
        write_json(network_content(network), tmp_path / name / NETWORK_FILE)
    npu.write_text(npu.read_text() + 'calibration: {fitted: ["compute[0].efficiency"]}\n')
    (tmp_path / "desk.csv").write_text(
        "network,weight_bits,activation_bits,latency_s\nsmall,8,8,9e-6\nlarge,8,8,6e-4\n"
    )
    result = hwsearch(
        "devices", "calibrate", npu, "--measurements", tmp_path / "desk.csv", "--out", tmp_path / "a.yaml"
    )
    assert result.status == 0, result.err
    assert "desk.csv: 2 latencies of 2 networks" in result.out
    assert "held out" in result.out
    assert hwsearch("devices", "check", tmp_path / "a.yaml").status == 0
