"""What the terminal and the files of a comparison show."""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console, RenderableType

from hwsearch.compare import Comparison, Run, compare_runs
from hwsearch.report import render, render_pareto, write_comparison

# trial, kind, on_front, on_test_front, dominated_by_uniform, test top-1, latency in s
ROWS = [
    (None, "float", False, False, False, 90.0, None),
    (0, "uniform", False, False, False, 85.0, 0.005),
    (1, "uniform", True, True, False, 89.0, 0.010),
    (2, "mixed", True, True, False, 86.0, 0.0004),
    (3, "mixed", True, False, True, 84.0, 0.006),
]


def pareto() -> pd.DataFrame:
    columns = ["trial", "kind", "on_front", "on_test_front", "dominated_by_uniform", "test_top1", "latency_s"]
    table = pd.DataFrame(ROWS, columns=columns).astype({"trial": "Int64"})
    table = table.assign(search_top1=table["test_top1"], energy_j=float("nan"), size_bytes=45_600.0, bops=1.5e9)
    table = table.assign(measured_latency_s=float("nan"))
    table = table.assign(test_top1_low=table["test_top1"] - 1.25, test_top1_high=table["test_top1"] + 1)
    return table.assign(weight_bits_mean=4.5, activation_bits_mean=6.0, cost_source="modelled")


def shown(renderable: RenderableType) -> list[str]:
    console = Console(width=200, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(renderable)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.fixture
def comparison() -> Comparison:
    info = dict.fromkeys(["model", "model_fingerprint", "data", "data_fingerprint", "quantizer", "calibration"], "same")
    info |= {
        "split_seed": 0,
        "n_test": 1000,
        "n_trials": 60,
        "batch": 1,
        "objectives": ["top1", "latency_s"],
        "constraints": {},
    }
    info |= {"cost_source": "modelled", "reference_point": {"top1": 80.0, "latency_s": 0.010}}
    empty = pd.DataFrame()
    runs = [
        Run(Path("runs/[a]"), info | {"hardware": "npu_a"}, empty, pareto(), empty, empty),
        Run(Path("runs/b"), info | {"hardware": "npu_b"}, empty, pareto().head(3), empty, empty),
    ]
    return compare_runs(runs, best="latency_s")


def test_a_pareto_table_has_human_units_and_is_sorted_by_latency():
    lines = shown(render_pareto(pareto()))
    assert lines[1].split()[-5:] == ["95", "%", "latency", "size", "bops"]  # and no energy, which no row knows
    assert lines[2].split() == ["trial", "kind", "bits", "bits", "%", "interval", "ms", "KB", "GBOPs"]
    lines = lines[2:]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["2", "mixed"],
        ["0", "uniform"],
        ["3", "mixed"],
        ["1", "uniform"],
    ]
    assert lines[1].split() == [
        "2",
        "mixed",
        "*",
        "4.50",
        "6.00",
        "86.00",
        "84.8-87.0",
        "0.4",
        "45.6",
        "1.5",
    ]
    assert lines[5].split()[0] == "float"


def test_a_pareto_table_shows_measured_networks_beside_the_sums():
    lines = shown(render_pareto(pareto().assign(measured_latency_s=[None, 0.0051, None, 0.00041, 0.0063])))
    assert lines[1].split()[-4:] == ["latency", "measured", "size", "bops"]
    assert lines[2].split()[-4:] == ["ms", "ms", "KB", "GBOPs"]
    assert lines[3].split()[-4:] == ["0.4", "0.41", "45.6", "1.5"]
    assert lines[6].split()[-3:] == ["10", "45.6", "1.5"]
    assert "latency: the sum of the parts; measured: the whole compiled network." in " ".join(lines)


def test_a_pareto_table_marks_what_uniform_precision_dominates():
    lines = shown(render_pareto(pareto()))
    assert lines[5].split()[2] == "u"
    assert " ".join(lines).endswith("u: a uniform row dominates it on the test split.")


def test_a_comparison_shows_summary_domination_best_reference_and_notes(comparison):
    lines = shown(render(comparison))
    assert lines[0] == "test top-1 against latency per image"
    # [a]: (86, 0.4 ms) and (89, 10 ms), the latter on the box's edge: 6/20 * 9.6/10. b: (85, 5 ms): 5/20 * 5/10.
    rows = [line.split() for line in lines]
    assert ["1", "[a]", "4", "2", "0.2880", "100%"] in rows
    assert ["modelled", "for", "npu_a,", "batch", "1"] in rows
    assert ["2", "b", "2", "2", "0.1250", "50%"] in rows
    assert ["2", "50%", "0%"] in rows  # run 2's front: half of it is dominated by run 1's
    assert (
        "Lowest latency per image: run '[a]', trial 2 (mixed, mean 4.50 weight and 6.00 activation bits): "
        "test top-1 86.00 %, latency per image 400 µs."
    ) in lines
    assert "Reference point of the hypervolumes: latency per image 10 ms, test top-1 80.00 %." in lines
    assert "Note: Hardware differs, the union front spans devices: npu_a in '[a]'; npu_b in 'b'." in lines


def test_a_comparison_is_written_as_three_tables_and_a_picture(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "compare.csv",
        "compare.png",
        "domination.csv",
        "summary.csv",
    ]
    assert pd.read_csv(folder / "compare.csv")[["run", "trial", "kind", "label", "cost_source"]].iloc[0].tolist() == [
        *("[a]", 0, "uniform", "modelled for npu_a, batch 1", "modelled")
    ]
    assert pd.read_csv(folder / "domination.csv").columns.tolist() == ["front_of", "[a]", "b"]
    assert pd.read_csv(folder / "summary.csv")["union_share"].tolist() == [1.0, 0.5]
