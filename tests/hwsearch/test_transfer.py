"""Stored runs priced on other devices: by brute force, and with what a device does not run left out."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cost_models import Analytic, CostModel, LayerSpec, NetworkSpec, Precision, load_device, total_cost
from hwsearch.compare import load_run
from hwsearch.network_file import NETWORK_FILE, network_content
from hwsearch.pareto import hypervolume, non_dominated, wilson_interval
from hwsearch.run_folder import write_json
from hwsearch.transfer import Transfer, transfer_runs
from hwsearch.transfer_report import render_transfer, write_transfer

LAYERS = (
    LayerSpec("null", "conv2d", 3, 16, (3, 3), in_size=(10, 10), out_size=(8, 8)),  # a name that tables must not lose
    LayerSpec("1.10", "conv2d", 16, 16, (3, 3), groups=16, in_size=(8, 8), out_size=(6, 6)),
    LayerSpec("fc", "linear", 16, 10),
)
NETWORK = NetworkSpec.chain(LAYERS)
BITS = (2, 4, 8)


def device(name: str, *rates: dict[str, object], **fields: object) -> Analytic:
    """Round numbers: no real device."""
    base = {"chip": "none", "runtime": "none", "batch": 1, "output_bits": 8, "overlap": "max", "source": "sheet"}
    sources = {"sheet": {"kind": "datasheet", "cite": "round numbers"}}
    compute = [{"activation_bits": 8, "source": "sheet", **rate} for rate in rates]
    return Analytic(**base | {"name": name, "sources": sources, "compute": compute} | fields)


SERIAL = device("serial", {"weight_bits": list(BITS), "macs_per_s": "8e9 / weight_bits"})
FOUR_IS_SLOW = device(
    "four_is_slow",
    *({"weight_bits": bits, "macs_per_s": rate} for bits, rate in ((2, 8e9), (4, 1e9), (8, 4e9))),
)
NARROW_ONLY_DENSE = device(
    "narrow_only_dense",
    {"weight_bits": [4, 8], "macs_per_s": "8e9 / weight_bits", "ops": ["conv2d", "linear"]},
    {"weight_bits": 8, "macs_per_s": 1e9, "ops": "depthwise"},
    overhead={"inference_s": 1e-3, "source": "sheet"},
)
CONFIGS = [dict(zip([layer.name for layer in LAYERS], (Precision(b, 8) for b in bits), strict=True)) for bits in product(BITS, repeat=3)]  # fmt: skip


def top1(config: dict[str, Precision]) -> float:
    """More bits are better, in the first layer most."""
    return 70 + sum(weight * np.log2(config[layer.name].weight_bits) for weight, layer in zip((3, 2, 1), LAYERS, strict=True))  # fmt: skip


def write_run(folder: Path, hardware: CostModel, numbers: range) -> Path:
    """A run that judged some of the configurations; every other front row has a test top-1."""
    folder.mkdir()
    configs = [CONFIGS[number] for number in numbers]
    trials = pd.DataFrame({"trial": range(len(configs)), "state": "complete", "feasible": True})
    trials["kind"] = ["uniform" if len(set(config.values())) == 1 else "mixed" for config in configs]
    trials["top1"] = [top1(config) for config in configs]
    trials["latency_s"] = [total_cost(hardware, NETWORK, config).latency_s for config in configs]
    failed = {"trial": len(configs), "state": "failed", "kind": "mixed"}
    pd.concat([trials, pd.DataFrame([failed])]).to_csv(folder / "trials.csv", index=False)
    precisions = [
        {"trial": trial, "layer": layer, "weight_bits": p.weight_bits, "activation_bits": 8, "weight_format": "uniform"}
        for trial, config in enumerate(configs)
        for layer, p in config.items()
    ]
    pd.DataFrame(precisions).to_csv(folder / "precisions.csv", index=False)
    pareto = trials.drop(columns=["state", "feasible"]).rename(columns={"top1": "search_top1"})
    pareto["on_front"] = non_dominated(pareto, ["search_top1", "latency_s"])
    pareto = pareto[pareto["on_front"] | (pareto["kind"] == "uniform")]
    pareto = pd.concat([pd.DataFrame([{"kind": "float", "search_top1": 90.0, "on_front": False}]), pareto])
    pareto = pareto.assign(dominated_by_uniform=False, test_top1=pareto["search_top1"] - 0.5, energy_j=None, bops=1.0)
    pareto["test_top1_low"], pareto["test_top1_high"] = wilson_interval(800, 1000)
    pareto = pareto.assign(size_bytes=1.0, weight_bits_mean=8.0, activation_bits_mean=8.0, cost_source="modelled")
    pareto.to_csv(folder / "pareto.csv", index=False)
    pd.DataFrame([{"layer": "fc", "weight_bits": 8}]).to_csv(folder / "cost_table.csv", index=False)
    same = dict.fromkeys(["model", "model_fingerprint", "data", "data_fingerprint", "quantizer", "calibration"], "same")
    info = same | {"schema": "hwsearch.run/1", "split_seed": 0, "n_test": 1000, "n_trials": len(configs)}
    info |= {"hardware": hardware.name, "cost_source": "modelled", "batch": 1, "constraints": {}}
    info |= {"objectives": ["top1", "latency_s"], "reference_point": {"top1": 80.0, "latency_s": 1e-4}}
    (folder / "run.json").write_text(json.dumps(info))
    write_json(network_content(NETWORK), folder / NETWORK_FILE)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The first judged everything, the second only what starts with 4 or 8 bits."""
    return write_run(tmp_path / "a", SERIAL, range(27)), write_run(tmp_path / "b", FOUR_IS_SLOW, range(9, 27))


def of(folders: tuple[Path, ...], *devices: CostModel, **options: Any) -> Transfer:
    return transfer_runs([load_run(folder) for folder in folders], devices, **options)


def test_every_candidate_has_the_price_that_the_device_gives(folders):
    rows = of(folders, FOUR_IS_SLOW).rows
    assert len(rows) == 27 + 18
    first = rows[rows["run"] == "a"]
    expected = [total_cost(FOUR_IS_SLOW, NETWORK, config).latency_s for config in CONFIGS]
    assert first["latency_s"].tolist() == pytest.approx(expected)
    assert first["search_top1"].tolist() == pytest.approx([top1(config) for config in CONFIGS])
    weights = [layer.weight_count for layer in LAYERS]
    bits = [[config[layer.name].weight_bits for layer in LAYERS] for config in CONFIGS]
    assert first["weight_bits_mean"].tolist() == pytest.approx(np.average(bits, axis=1, weights=weights).tolist())
    assert set(first["activation_bits_mean"]) == {8.0}


@pytest.mark.slow
def test_a_device_that_measures_runs_what_the_quantizer_of_each_run_stores(tmp_path):
    quick = {"procedure": {"rounds": 1, "samples": 1, "sample_s": 1e-5}, "search_s": 1e-3, "tiles": 1}
    widths = {"weight_bits": [2], "activation_bits": [8], "cache_dir": str(tmp_path / "kernels")}
    cpu = load_device({"_target_": "cost_models.tvm.TvmCpu", "name": "cpu", **quick, **widths})
    runs = [write_run(tmp_path / name, SERIAL, range(1)) for name in "ab"]  # of W2A8 in every layer

    def coded_kernels() -> int:
        return sum('"codebook"' in path.read_text() for path in (tmp_path / "kernels").rglob("record.json"))

    uniform = total_cost(cpu, NETWORK, CONFIGS[0]).latency_s
    assert coded_kernels() == 0
    result = of(runs, cpu, codebook_bits=[(), (2,)])
    coded = total_cost(cpu.storing([2]), NETWORK, CONFIGS[0]).latency_s
    assert result.rows["latency_s"].tolist() == pytest.approx([uniform, coded], rel=1e-12)
    assert coded_kernels() > 0
    assert not any("codebooks" in note for note in result.notes)


def test_a_device_that_tells_no_codebooks_apart_says_so(folders):
    rows = of(folders, SERIAL).rows
    told = of(folders, SERIAL, codebook_bits=[(2,), (2, 4)])
    pd.testing.assert_frame_equal(told.rows, rows)
    # the second run has 2 bits, too: not in its first layer
    widths = [note.split("weights of ")[1].split(" as ")[0] for note in told.notes if "codebooks" in note]
    assert widths == ["2 bits", "2 and 4 bits"]


def test_a_front_is_set_against_the_best_front_on_the_device(folders):
    result = of(folders, SERIAL, FOUR_IS_SLOW)
    summary = result.summary.set_index(["device", "run"])
    for name in ("serial", "four_is_slow"):
        rows, reference = result.rows[result.rows["device"] == name], result.reference_points[name]
        assert reference["search_top1"] == 80.0
        best = hypervolume(rows, ["search_top1", "latency_s"], reference)
        for run in ("a", "b"):
            front = rows[(rows["run"] == run) & rows["on_run_front"]]
            own = hypervolume(front, ["search_top1", "latency_s"], reference)
            assert summary.loc[(name, run), "hypervolume"] == pytest.approx(own)
            assert summary.loc[(name, run), "device_hypervolume"] == pytest.approx(best)
            assert summary.loc[(name, run), "share"] == pytest.approx(own / best)
    # a judged all configurations, so on its own device its front is the best; elsewhere it is not
    assert summary.loc[("serial", "a"), "share"] == pytest.approx(1)
    assert summary.loc[("four_is_slow", "a"), "share"] < 1
    assert result.reference_points["serial"]["latency_s"] == pytest.approx(total_cost(SERIAL, NETWORK, CONFIGS[-1]).latency_s)  # fmt: skip


def test_candidates_on_every_front_are_those_of_brute_force(folders):
    result = of(folders, SERIAL, FOUR_IS_SLOW)
    fronts = []
    for hardware in (SERIAL, FOUR_IS_SLOW):
        points = pd.DataFrame({"top1": [top1(c) for c in CONFIGS], "latency_s": [total_cost(hardware, NETWORK, c).latency_s for c in CONFIGS]})  # fmt: skip
        fronts.append(set(points.index[non_dominated(points, ["top1", "latency_s"])]))
    found = result.on_every_front()
    assert set(found["trial"]) == fronts[0] & fronts[1]
    assert set(found["run"]) == {"a"}  # the second's are the same configurations
    assert found["search_top1"].is_monotonic_decreasing
    assert found["serial"].gt(0).all() and found["four_is_slow"].gt(0).all()


def test_what_a_device_does_not_run_is_named_counted_and_left_out(folders):
    result = of(folders, NARROW_ONLY_DENSE)
    # 2 bits nowhere, 4 bits not in the depthwise layer: 2 * 1 * 2 of 27, and of the 18
    assert len(result.rows) == 4 + 4
    assert (
        "narrow_only_dense does not run W2A8 in layer 'null'; W4A8 in layer '1.10': 37 of 45 candidates are left out."
        in result.notes
    )
    summary = result.summary.set_index("run")
    assert summary["left_out"].to_dict() == {"a": 23, "b": 14}
    assert summary["rows"].to_dict() == {"a": 4, "b": 4}


def test_a_front_that_a_device_does_not_run_at_all_is_said_to(folders):
    only_four = device("only_four", {"weight_bits": [4, 8], "macs_per_s": "8e9 / weight_bits"})
    table = pd.read_csv(folders[0] / "pareto.csv").assign(on_front=False)
    table.to_csv(folders[0] / "pareto.csv", index=False)
    result = of(folders, only_four)
    assert result.summary.set_index("run")["front_rows"]["a"] == 0
    console = Console(width=160, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_transfer(result))
    assert "none of it" in console.export_text()


def test_test_accuracy_is_known_for_the_rows_of_pareto_csv(folders):
    result = of(folders, SERIAL, y="test_top1")
    shown = sum((pd.read_csv(folder / "pareto.csv")["kind"] != "float").sum() for folder in folders)
    assert len(result.rows) == shown
    assert result.float_top1 == 89.5
    assert not any("search split alone" in note for note in result.notes)
    assert any("search split alone" in note for note in of(folders, SERIAL).notes)


def test_a_condition_holds_on_each_device(folders):
    result = of(folders, SERIAL, FOUR_IS_SLOW, where="latency_s < 2e-5")
    assert result.rows["latency_s"].max() < 2e-5


@pytest.mark.parametrize(
    ("devices", "options", "message"),
    [
        ([SERIAL], {"x": "test_top1"}, r"^x is 'test_top1'; devices are compared by one of \['latency_s', "),
        ([SERIAL], {"y": "kind"}, r"^y is 'kind'; candidates are judged by one of \['search_top1', 'test_top1'\]\.$"),
        ([SERIAL], {"x": "energy_j"}, r"^'serial' does not know energy_j; it knows \['latency_s', 'size_bytes', 'bops'\]"),
        ([SERIAL], {"where": "latency_s < 0"}, r"^No candidate satisfies where='latency_s < 0' on 'serial'\.$"),
        ([SERIAL, SERIAL], {}, r"^Device 'serial' is given 2 times; give each once\.$"),
        ([device("sixteen", {"weight_bits": 16, "macs_per_s": 1.0})], {}, r"^No candidate can be priced: sixteen does not run W2A8 in layer 'null'; "),
        ([device("tiny", {"weight_bits": list(BITS), "macs_per_s": 1.0}, memory=[{"name": "ram", "capacity_bytes": 9, "source": "sheet"}])], {}, r"^No candidate fits 'tiny'\.$"),
    ],
)  # fmt: skip
def test_impossible_questions_are_refused(folders, devices, options, message):
    with pytest.raises(ValueError, match=message):
        of(folders, *devices, **options)


def test_incomplete_folders_are_named(folders):
    precisions = pd.read_csv(folders[1] / "precisions.csv", keep_default_na=False)
    precisions[precisions["layer"] != "fc"].to_csv(folders[1] / "precisions.csv", index=False)
    with pytest.raises(
        ValueError, match=r"^precisions\.csv of run 'b' gives no precision for layer 'fc' in trial 0\.$"
    ):
        of(folders, SERIAL)
    for folder in folders:
        (folder / NETWORK_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"a' has no network\.json"):
        of(folders, SERIAL)


def test_tables_and_a_picture_are_shown_and_written(folders, tmp_path):
    result = of(folders, SERIAL, FOUR_IS_SLOW)
    console = Console(width=160, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_transfer(result))
    text = console.export_text()
    assert "on serial" in text and "on four_is_slow" in text
    assert "On the fronts of all devices" in text
    assert "Reference point of the hypervolumes on serial: search top-1 80.00 %, latency" in text
    write_transfer(result, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "transfer.csv",
        "transfer_summary.csv",
        "transfer.png",
    }
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "transfer_summary.csv"), result.summary, check_dtype=False
    )
