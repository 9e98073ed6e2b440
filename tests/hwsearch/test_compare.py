"""Runs read from their folders, refused or labelled where they differ, and joined into one front."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hwsearch.compare import Comparison, compare_runs, load_run
from hwsearch.pareto import wilson_interval

N_TEST = 1000
INFO = {
    "schema": "hwsearch.run/1",
    "model": "lenet",
    "model_fingerprint": "ab12",
    "data": "digits",
    "data_fingerprint": "cd34",
    "split_seed": 0,
    "hardware": "npu_a",
    "cost_source": "modelled",
    "batch": 1,
    "objectives": ["top1", "latency_s"],
    "constraints": {},
    "quantizer": "requant",
    "calibration": "ef56",
    "n_trials": 60,
    "seed": 0,
    "n_search": 500,
    "n_test": N_TEST,
    "reference_point": {"top1": 80.0, "latency_s": 0.010},
    "warnings": [],
}
# kind, test top-1, latency in s, dominated by uniform
FLOAT = ("float", 90.0, None, False)
UNIFORM = [("uniform", 60.0, 0.002, False), ("uniform", 85.0, 0.005, False), ("uniform", 89.0, 0.010, False)]
MIXED_A = [("mixed", 86.0, 0.004, False), ("mixed", 88.0, 0.006, False), ("mixed", 84.0, 0.0055, True)]
MIXED_B = [("mixed", 87.0, 0.004, False), ("mixed", 87.5, 0.007, False)]


def write_run(folder: Path, rows: list, **info) -> Path:
    """A run folder as ``runs/README.md`` describes it, with costs that follow the latency."""
    folder.mkdir(parents=True)
    info = INFO | info
    table = pd.DataFrame([FLOAT, *rows], columns=["kind", "test_top1", "latency_s", "dominated_by_uniform"])
    table.insert(0, "trial", pd.array([None, *range(len(rows))], dtype="Int64"))
    bounds = [wilson_interval(round(top1 / 100 * N_TEST), N_TEST) for top1 in table["test_top1"]]
    table["on_front"] = [kind == "mixed" for kind in table["kind"]]
    table["search_top1"] = table["test_top1"] + 0.5
    table["test_top1_low"], table["test_top1_high"] = zip(*bounds, strict=True)
    table["energy_j"] = table["latency_s"] * 0.1
    table["size_bytes"] = table["latency_s"].fillna(0.04) * 1e7
    table["bops"] = table["size_bytes"] * 1e4
    table["weight_bits_mean"] = table["activation_bits_mean"] = table["size_bytes"] / 1e5 * 8
    table["cost_source"] = info["cost_source"]
    table.to_csv(folder / "pareto.csv", index=False)
    trials = table[table["kind"] != "float"].rename(columns={"search_top1": "top1"})
    trials = trials[["trial", "kind", "top1", "latency_s", "energy_j", "size_bytes", "bops"]]
    trials.assign(state="complete", feasible=True).to_csv(folder / "trials.csv", index=False)
    precision = {"layer": "conv1", "weight_bits": 8, "activation_bits": 8, "weight_format": "uniform"}
    pd.DataFrame([{"trial": trial, **precision} for trial in range(len(rows))]).to_csv(
        folder / "precisions.csv", index=False
    )
    pd.DataFrame([precision | {"latency_s": 0.01}]).to_csv(folder / "cost_table.csv", index=False)
    (folder / "run.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "a", UNIFORM + MIXED_A), write_run(tmp_path / "b", UNIFORM + MIXED_B)


def of(*folders: Path, **options) -> Comparison:
    return compare_runs([load_run(folder) for folder in folders], **options)


def test_a_run_folder_is_read_to_the_last_bit(tmp_path):
    latencies = (np.random.default_rng(0).random(1000) * 1e-3).tolist()
    run = load_run(write_run(tmp_path / "a", [("uniform", 85.0, latency, False) for latency in latencies]))
    assert run.pareto["latency_s"].tolist()[1:] == latencies
    assert run.info["hardware"] == "npu_a"
    assert run.trials["trial"].tolist() == list(range(1000))
    assert run.pareto["on_front"].dtype == bool
    assert set(run.precisions["layer"]) == {"conv1"}
    assert len(run.cost_table) == 1


@pytest.mark.parametrize("file", ["run.json", "trials.csv", "pareto.csv", "precisions.csv", "cost_table.csv"])
def test_an_unfinished_run_names_the_missing_file(folders, file):
    (folders[0] / file).unlink()
    message = f"Run folder '{folders[0]}' has no {file}: the search may not have finished."
    with pytest.raises(FileNotFoundError) as error:
        load_run(folders[0])
    assert str(error.value) == message


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^No run folder '.*nowhere'; pass a folder that 'hwsearch search' wro"
    ):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"schema": "hwsearch.run/1", "model"',
            r"run\.json' is not a JSON object \(.*\): the search may not have fin",
        ),
        ("[]", r"run\.json' has schema None; this version reads 'hwsearch\.run/1'\."),
        ('{"schema": "hwsearch.run/2"}', r"run\.json' has schema 'hwsearch\.run/2'; this version reads"),
        ('{"schema": "hwsearch.run/1", "model": "lenet"}', r"run\.json' lacks \['model_fingerprint', 'data', "),
    ],
)
def test_a_broken_run_json_is_refused(folders, text, message):
    (folders[0] / "run.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_run(folders[0])


def test_a_pareto_table_without_a_column_is_refused(folders):
    pd.read_csv(folders[0] / "pareto.csv").drop(columns="bops").to_csv(folders[0] / "pareto.csv", index=False)
    with pytest.raises(ValueError, match=r"pareto\.csv' lacks the columns \['bops'\]\.$"):
        load_run(folders[0])


def test_fronts_of_runs_and_of_their_union(folders):
    rows = of(*folders).rows.set_index(["run", "trial"])
    on_run_front = rows.index[rows["on_run_front"]].tolist()
    # a: (60, 2 ms), (86, 4 ms), (88, 6 ms), (89, 10 ms); b: (60, 2 ms), (87, 4 ms), (87.5, 7 ms), (89, 10 ms)
    assert on_run_front == [("a", 0), ("a", 2), ("a", 3), ("a", 4), ("b", 0), ("b", 2), ("b", 3), ("b", 4)]
    on_union_front = rows.index[rows["on_union_front"]].tolist()
    assert on_union_front == [("a", 0), ("a", 2), ("a", 4), ("b", 0), ("b", 2), ("b", 3)]
    assert set(rows["kind"]) == {"uniform", "mixed"}


def test_summary_and_domination_follow_from_the_fronts(folders):
    result = of(*folders)
    assert result.reference_point == {"latency_s": 0.010, "test_top1": 80.0}
    assert result.float_top1 == 90.0
    summary = result.summary.set_index("run")
    assert summary["rows"].to_dict() == {"a": 6, "b": 5}
    assert summary["front_points"].to_dict() == {"a": 4, "b": 4}
    # The union has four distinct points: (60, 2), (87, 4), (88, 6), (89, 10); both runs attain the first and the last.
    assert summary["union_points"].to_dict() == {"a": 3, "b": 3}
    assert summary["union_share"].to_dict() == {"a": 0.75, "b": 0.75}
    # Box of 20 points by 10 ms; a point at 60 % or at 10 ms adds nothing.
    assert summary.loc["a", "hypervolume"] == pytest.approx((6 * 6 + 2 * 4) / 200)
    assert summary.loc["b", "hypervolume"] == pytest.approx((7 * 6 + 0.5 * 3) / 200)
    # b's (87, 4 ms) dominates a's (86, 4 ms); a's (88, 6 ms) dominates b's (87.5, 7 ms); a shared point dominates none.
    assert result.domination.loc["a", "b"] == 0.25
    assert result.domination.loc["b", "a"] == 0.25
    assert result.domination.loc["a", "a"] == 0.0


def test_alike_runs_have_neither_notes_nor_different_labels(folders):
    result = of(*folders)
    assert result.notes == ()
    assert set(result.rows["label"]) == {"modelled for npu_a, batch 1"}


def test_a_single_run_can_be_asked_for_its_best_row(folders):
    result = of(folders[0], where="test_top1 >= 86", best="latency_s")
    assert (result.best["trial"], result.best["latency_s"]) == (3, 0.004)


def test_best_of_an_accuracy_is_the_highest_under_the_condition(folders):
    result = of(*folders, where="latency_s < 0.010", best="test_top1")
    assert (result.best["run"], result.best["trial"]) == ("a", 4)
    assert result.rows["latency_s"].max() < 0.010


def test_ties_of_best_go_to_the_better_accuracy(folders):
    result = of(*folders, where="latency_s >= 0.004", best="latency_s")
    assert (result.best["run"], result.best["test_top1"]) == ("b", 87.0)


def test_a_mixed_row_that_uniform_dominates_never_wins(folders):
    result = of(folders[0], where="latency_s > 0.005 and latency_s < 0.006", best="latency_s")
    assert len(result.rows) == 1
    assert result.best is None


def test_a_run_without_rows_under_the_condition_stays_in_the_summary(folders):
    result = of(*folders, where="test_top1 == 86 or test_top1 == 88")
    summary = result.summary.set_index("run")
    assert summary.loc["b", ["rows", "front_points", "hypervolume", "union_share"]].tolist() == [0, 0, 0.0, 0.0]
    assert result.domination.loc["b"].isna().all()


@pytest.mark.parametrize(
    ("key", "value", "stated"),
    [
        ("model", "resnet8", "model is lenet in 'a'; resnet8 in 'b'"),
        ("model_fingerprint", "ffff", "model_fingerprint is ab12 in 'a'; ffff in 'b'"),
        ("data", "cifar10", "data is digits in 'a'; cifar10 in 'b'"),
        ("data_fingerprint", "ffff", "data_fingerprint is cd34 in 'a'; ffff in 'b'"),
        ("split_seed", 1, "split_seed is 0 in 'a'; 1 in 'b'"),
        ("n_test", 10, "n_test is 1000 in 'a'; 10 in 'b'"),
    ],
)
def test_other_networks_or_images_are_refused(tmp_path, key, value, stated):
    a = write_run(tmp_path / "a", UNIFORM)
    b = write_run(tmp_path / "b", UNIFORM, **{key: value})
    with pytest.raises(ValueError) as error:
        of(a, b)
    assert str(error.value) == f"These runs did not judge the same network on the same images: {stated}."


def test_other_devices_batches_and_cost_sources_are_compared_and_labelled(tmp_path):
    other = {"hardware": "m4_tvm", "cost_source": "measured", "batch": 8, "constraints": {"size_bytes": 6e4}}
    reference = {"top1": 80.0, "latency_s": 0.020}
    a = write_run(tmp_path / "a", UNIFORM + MIXED_A)
    b = write_run(tmp_path / "b", UNIFORM + MIXED_B, **other, reference_point=reference)
    c = write_run(tmp_path / "c", UNIFORM)
    result = of(a, b, c)
    assert result.notes == (
        "Measured and modelled costs are not on one scale: costs are modelled for npu_a in 'a', 'c'; "
        "measured on m4_tvm in 'b'.",
        "Hardware differs, the union front spans devices: npu_a in 'a', 'c'; m4_tvm in 'b'.",
        "Batch differs, costs are per image at that batch: 1 in 'a', 'c'; 8 in 'b'.",
        """The searches had different constraints: {} in 'a', 'c'; {"size_bytes": 60000.0} in 'b'.""",
    )
    labels = result.rows.groupby("run")["label"].unique().map(list).to_dict()
    assert labels["a"] == ["modelled for npu_a, batch 1"]
    assert labels["b"] == ["measured on m4_tvm, batch 8"]
    assert result.reference_point["latency_s"] == 0.020


def test_an_objective_that_was_not_searched_for_is_noted(folders):
    result = of(*folders, x="energy_j")
    assert result.notes == ("Not searched for energy_j: 'a', 'b'.",)
    # run.json's reference point leaves energy out: the costliest uniform row stands in.
    assert result.reference_point["energy_j"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"x": "speed"},
            r"^'speed' is not an objective of pareto\.csv; choose from \['search_top1', 'test_top1', 'lat",
        ),
        ({"y": "kind"}, r"^'kind' is not an objective of pareto\.csv; choose from"),
        ({"best": "trial"}, r"^'trial' is not an objective of pareto\.csv; choose from"),
        ({"x": "test_top1"}, r"^x and y are both 'test_top1'; choose two of \["),
        (
            {"where": "latency < 1"},
            r"^where='latency < 1': no column 'latency'; choose from \['run', 'label', 'hardware",
        ),
        ({"where": "latency_s <"}, r"^where='latency_s <' is not a condition"),
        ({"where": "print(1) == 1"}, r"^where='print\(1\) == 1': (no column 'print'|'print\(1\)' is not allowed)"),
        (
            {"where": "latency_s < 0.001 and kind == 'mixed'"},
            r"latency_s spans 0\.002 to 0\.01, kind is one of \['mixed', 'uniform'\]\.$",
        ),
    ],
)
def test_impossible_questions_are_refused(folders, options, message):
    with pytest.raises(ValueError, match=message):
        of(*folders, **options)


@pytest.mark.parametrize("options", [{"x": "energy_j"}, {"best": "energy_j"}, {"where": "energy_j < 1"}])
def test_an_unknown_cost_is_refused_and_names_the_known_ones(folders, options):
    table = pd.read_csv(folders[1] / "pareto.csv").assign(energy_j=None)
    table.to_csv(folders[1] / "pareto.csv", index=False)
    message = (
        "'energy_j' is unknown in 5 rows of run 'b'; objectives known in every run: "
        "['search_top1', 'test_top1', 'latency_s', 'size_bytes', 'bops']."
    )
    with pytest.raises(ValueError) as error:
        of(*folders, **options)
    assert str(error.value) == message


def test_a_run_without_its_float_row_is_refused(folders):
    table = pd.read_csv(folders[1] / "pareto.csv").query("kind != 'float'")
    table.to_csv(folders[1] / "pareto.csv", index=False)
    with pytest.raises(
        ValueError, match=r"^pareto\.csv of run 'b' must have one row of kind 'float' with its test_top1"
    ):
        of(*folders)


def test_runs_of_equal_names_are_told_apart_by_their_folders(tmp_path):
    folders = [write_run(tmp_path / sweep / "0", UNIFORM) for sweep in ("tpe", "nsga2")]
    assert of(*folders).summary["run"].tolist() == ["tpe/0", "nsga2/0"]


def test_a_run_given_twice_and_no_run_are_refused(folders):
    with pytest.raises(ValueError, match=r"^Run folder '.*a' is given 2 times; give each once\."):
        of(folders[0], folders[0])
    with pytest.raises(ValueError, match=r"^A comparison needs at least one run folder\."):
        compare_runs([])
