"""Measurements read from a CSV, constants fitted to them, files that keep their comments."""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from cost_models import LayerSpec, NetworkSpec, Precision, load_device, total_cost
from hwsearch.calibration import calibrate_file, read_measurements, render_calibration
from hwsearch.network_file import NETWORK_FILE, network_content
from hwsearch.run_folder import write_json

# Round numbers: no real device.
DEVICE = """# Source: round numbers
_target_: cost_models.Analytic
name: board
chip: none
runtime: none
batch: 1
source: sheet
sources:
  sheet: {kind: datasheet, cite: "round numbers"}
clock_hz: 1.0e+8
compute:  # two MACs a cycle
  - {weight_bits: [4, 8], activation_bits: 8, macs_per_cycle: 2, efficiency: 0.5, source: sheet}
output_bits: 8
overlap: sum
overhead: {layer_s: 1.0e-4, source: sheet}  # a guess
calibration: {fitted: ["compute[0].efficiency", overhead.layer_s]}
validation:
  - {data: "something older", metric: mape, value: 0.1}
notes: ["Nothing else."]
"""
TRUTH = DEVICE.replace("efficiency: 0.5", "efficiency: 0.8").replace("layer_s: 1.0e-4", "layer_s: 3.0e-4")
NETWORKS = {
    name: NetworkSpec.chain([LayerSpec(f"fc{i}", "linear", 64 * i, 64 * width) for i in range(1, depth)])
    for name, width, depth in (("small", 2, 3), ("wide", 90, 4), ("deep", 3, 9))
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A device file, and folders of three networks."""
    (tmp_path / "board.yaml").write_text(DEVICE)
    (tmp_path / "truth.yaml").write_text(TRUTH)
    for name, network in NETWORKS.items():
        (tmp_path / name).mkdir()
        write_json(network_content(network), tmp_path / name / NETWORK_FILE)
    return tmp_path


def latency_s(folder: Path, name: str, bits: int = 8) -> float:
    """What the board with the true constants takes."""
    network = NETWORKS[name]
    device = load_device(folder / "truth.yaml")
    found = total_cost(device, network, {layer.name: Precision(bits, 8) for layer in network.layers}).latency_s
    assert found is not None
    return found


def csv(folder: Path, *rows: str, columns: str = "network,weight_bits,activation_bits,latency_s") -> Path:
    path = folder / "board.csv"
    path.write_text("\n".join(["# a board on a desk", columns, *rows]) + "\n")
    return path


def test_true_constants_are_found_and_written_and_comments_stay(folder: Path) -> None:
    path = csv(folder, *(f"{name}, 8, 8, {latency_s(folder, name)!r}" for name in NETWORKS))
    calibration = calibrate_file(folder / "board.yaml", read_measurements(path), path.name, folder / "fitted.yaml")
    assert calibration.before == {"compute[0].efficiency": 0.5, "overhead.layer_s": 1e-4}
    assert calibration.after == {"compute[0].efficiency": 0.8, "overhead.layer_s": 3e-4}
    assert calibration.agreements["first guesses"]["mape"] > 0.3
    assert calibration.agreements["held out"]["mape"] < 1e-4
    assert (folder / "board.yaml").read_text() == DEVICE
    changed = (folder / "fitted.yaml").read_text().splitlines()
    same = [line for line in DEVICE.splitlines() if "efficiency:" not in line and "layer_s" not in line]
    assert set(same) - set(changed) == {'  - {data: "something older", metric: mape, value: 0.1}'}
    assert any(line.endswith("# a guess") and "layer_s: 0.0003" in line for line in changed)
    device = load_device(folder / "fitted.yaml")
    assert device.calibration.data == "board.csv: 3 latencies of 3 networks"
    assert {entry.metric for entry in device.validation} >= {"mape", "within_5_percent", "bias", "spearman", "kendall"}
    assert all(entry.held_out and entry.data.endswith("leaving one network out") for entry in device.validation)


def test_a_report_sets_first_guesses_fit_and_held_out_side_by_side(folder: Path) -> None:
    path = csv(folder, *(f"{name},8,8,{latency_s(folder, name)!r}" for name in NETWORKS))
    calibration = calibrate_file(folder / "board.yaml", read_measurements(path), path.name, folder / "board.yaml")
    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_calibration(calibration))
    text = " ".join(console.export_text().split())
    assert "compute[0].efficiency 0.5 0.8" in text
    assert "error of latencies first guesses fitted held out mape" in text
    assert "% 100.0% 100.0% within 10 percent" in text
    assert "kendall 1.000 1.000 1.000" in text


def test_measurements_of_layers_and_of_trials(folder: Path) -> None:
    precisions = pd.DataFrame({"trial": 3, "layer": ["fc1", "fc2"], "weight_bits": [4, 8], "activation_bits": 8})
    precisions.to_csv(folder / "small" / "precisions.csv", index=False)
    columns = "network,layer,weight_bits,activation_bits,trial,latency_s"
    path = csv(folder, "small,,,,3,0.5", "wide,fc2,4,8,,0.25", columns=columns)
    trial, layer = read_measurements(path)
    assert (trial.subject, trial.latency_s) == (NETWORKS["small"], 0.5)
    assert trial.config == {"fc1": Precision(4, 8), "fc2": Precision(8, 8)}
    assert (layer.subject, layer.config["fc2"]) == (NETWORKS["wide"].layers[1], Precision(4, 8))


def test_the_same_network_in_two_folders_is_held_out_as_one(folder: Path) -> None:
    (folder / "again").mkdir()
    write_json(network_content(NETWORKS["small"]), folder / "again" / NETWORK_FILE)
    path = csv(folder, *(f"{name},{bits},8,{latency_s(folder, 'small', bits)!r}" for name in ("small", "again") for bits in (4, 8)))  # fmt: skip
    measurements = read_measurements(path)
    assert {measurement.group for measurement in measurements} == {"small"}
    assert [m.config["fc1"].weight_bits for m in measurements] == [4, 8, 4, 8]


def test_one_network_alone_leaves_nothing_to_hold_out(folder: Path) -> None:
    layers = [(layer.name, 1e-4 + layer.macs / 1e8) for layer in NETWORKS["deep"].layers]
    rows = [f"deep,{name},8,8,{seconds!r}" for name, seconds in layers]
    path = csv(folder, *rows, columns="network,layer,weight_bits,activation_bits,latency_s")
    calibration = calibrate_file(folder / "board.yaml", read_measurements(path), path.name, folder / "board.yaml")
    assert set(calibration.agreements) == {"first guesses", "fitted"}
    assert not any(entry.held_out for entry in load_device(folder / "board.yaml").validation)
    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_calibration(calibration))
    assert "All measurements are of one network" in console.export_text()


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("network,ms", "small,1", r"board\.csv' has 1 rows and the columns \['network', 'ms'\]; required are \['latency_s', 'network'\], possible"),
        ("network,latency_s", "small,1", r"row 1: give either weight_bits and activation_bits, or a trial\."),
        ("network,weight_bits,activation_bits,trial,latency_s", "small,8,8,1,1", r"row 1: give either weight_bits and"),
        ("network,weight_bits,activation_bits,latency_s", "small,eight,8,1", r"row 1: weight_bits is 'eight', not a whole number\."),
        ("network,weight_bits,activation_bits,latency_s", "small,8,8,-1", r"row 1: latency_s is '-1', not a positive number of seconds\."),
        ("network,weight_bits,activation_bits,latency_s", "small,8,8,fast", r"row 1: latency_s is 'fast', not a positive"),
        ("network,layer,weight_bits,activation_bits,latency_s", "small,fc9,8,8,1", r"row 1: network 'small' has no layer 'fc9'; it has fc1, fc2\."),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(folder: Path, columns, row, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_measurements(csv(folder, row, columns=columns))


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file of measurements '.*none\.csv'"):
        read_measurements(folder / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"has no network\.json"):
        read_measurements(csv(folder, "nowhere,8,8,1"))


def test_a_file_that_leaves_nothing_open_is_refused(folder: Path) -> None:
    file = folder / "board.yaml"
    file.write_text("".join(line for line in DEVICE.splitlines(keepends=True) if not line.startswith("calibration")))
    with pytest.raises(ValueError, match=r"board\.yaml names no constants to fit; add calibration: \{fitted: "):
        calibrate_file(file, read_measurements(csv(folder, "small,8,8,1")), "board.csv", file)
