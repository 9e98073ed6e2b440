"""Figures say what they show: names, units, reference point, what was clipped; and leave no global state."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hwsearch.compare import Run, compare_runs
from hwsearch.figures import compare_figure, pareto_figure
from hwsearch.pareto import non_dominated

OBJECTIVES = ["top1", "latency_s", "energy_j"]
REFERENCE = {"top1": 80.0, "latency_s": 0.0081, "energy_j": 6.4e-5}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials with 2 to 8 bits: accuracy saturates, latency is linear and energy quadratic in the bits."""
    rng = np.random.default_rng(0)
    bits = np.concatenate([[2.0, 4.0, 8.0], rng.uniform(2, 8, 60)])
    trials = pd.DataFrame({"trial": range(len(bits)), "state": "complete", "feasible": True})
    trials["kind"] = ["uniform"] * 3 + ["mixed"] * 60
    trials["top1"] = 90 - 400 * 3.0**-bits - np.r_[0, 0, 0, rng.uniform(0, 3, 60)]
    trials["latency_s"], trials["energy_j"] = bits * 1e-3 + 1e-4, bits**2 * 1e-6
    trials["size_bytes"], trials["bops"] = bits * 1000, bits**2 * 1e6
    trials["weight_bits_mean"] = trials["activation_bits_mean"] = bits
    on_front = non_dominated(trials, OBJECTIVES)
    pareto = trials.assign(on_front=on_front)[on_front | (trials["kind"] == "uniform")]
    pareto = pareto.rename(columns={"top1": "search_top1"}).drop(columns=["state", "feasible"])
    reference = {"kind": "float", "on_front": False, "search_top1": 90.0, "size_bytes": 32e3}
    pareto = pd.concat([pareto, pd.DataFrame([reference])], ignore_index=True)
    pareto["test_top1"] = pareto["search_top1"] - 0.3
    pareto["test_top1_low"], pareto["test_top1_high"] = pareto["test_top1"] - 1, pareto["test_top1"] + 1
    return trials, pareto.assign(dominated_by_uniform=pareto.index == 5, cost_source="modelled")


def drawn(figure: Figure) -> str:
    """All text of a figure."""
    figure.canvas.draw()
    legend = [text.get_text() for box in figure.legends for text in (box.get_title(), *box.get_texts())]
    inside = [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]
    return "\n".join([*legend, *inside, figure.get_supxlabel()]).replace("\n", " | ")


@pytest.fixture
def runs() -> list[Run]:
    trials, pareto = tables()
    info = dict.fromkeys(["model", "model_fingerprint", "data", "data_fingerprint", "quantizer", "calibration"], "same")
    info |= {"split_seed": 0, "n_test": 1000, "n_trials": 60, "batch": 1, "objectives": OBJECTIVES, "constraints": {}}
    info |= {"hardware": "npu_a", "cost_source": "modelled", "reference_point": REFERENCE}
    worse = pareto.assign(test_top1=pareto["test_top1"] - 0.5 * (pareto["kind"] == "mixed"), cost_source="measured")
    other = info | {"hardware": "m4_tvm", "cost_source": "measured"}
    return [
        Run(Path("runs/tpe"), info, trials, pareto, pd.DataFrame(), pd.DataFrame()),
        Run(Path("runs/nsga2"), other, trials, worse, pd.DataFrame(), pd.DataFrame()),
    ]


def test_one_panel_per_cost_with_names_and_units():
    figure = pareto_figure(*tables(), OBJECTIVES, REFERENCE, "lenet on digits")
    assert [ax.get_xlabel() for ax in figure.axes] == ["latency per image / ms", "energy per image / µJ"]
    assert figure.axes[0].get_ylabel() == "top-1 / %"
    text = drawn(figure)
    for part in (
        "lenet on digits",
        "trials (search top-1)",
        "mixed (test top-1)",
        "uniform (test top-1)",
        "W4A4",
        "W8A8",
    ):
        assert part in text


def test_the_caption_has_the_reference_point_and_where_costs_come_from():
    text = drawn(pareto_figure(*tables(), OBJECTIVES, REFERENCE, "lenet"))
    assert "its reference point: top-1 80.00 %, latency per image 8.1 ms, energy per image 64 µJ." in text.replace(
        " | ", " "
    )
    assert "Costs are modelled." in text


def test_the_step_line_joins_the_rows_that_are_non_dominated_on_the_two_axes():
    trials, pareto = tables()
    figure = pareto_figure(trials, pareto, OBJECTIVES, REFERENCE, "lenet")
    rows = pareto[pareto["kind"] != "float"]
    front = rows[non_dominated(rows, ["test_top1", "latency_s"])].sort_values("latency_s")
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "non-dominated on these two axes"]
    assert line.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(line.get_ydata(), front["test_top1"])
    np.testing.assert_array_equal(line.get_xdata(), front["latency_s"] / 1e-3)


def test_what_lies_below_the_axis_is_counted_and_uniform_rows_stay_named():
    trials, pareto = tables()
    figure = pareto_figure(trials, pareto, OBJECTIVES, REFERENCE, "lenet")
    bottom = figure.axes[0].get_ylim()[0]
    below = int((trials["top1"] < bottom).sum())
    text = drawn(figure)
    assert below > 0
    assert f"{below} of 63 trials lie below the axis." in text
    assert "W2A2: 45 %" in text  # 90 - 400 / 9 - 0.3


def test_duplicate_trials_are_not_drawn():
    trials, pareto = tables()
    copy = trials.assign(state="duplicate", top1=np.nan)
    figure = pareto_figure(pd.concat([trials, copy]), pareto, ["top1", "bops"], REFERENCE | {"bops": 6.4e7}, "lenet")
    assert len(figure.axes[0].collections[0].get_offsets()) == len(trials)


def test_a_search_without_a_cost_is_drawn_against_size():
    (ax,) = pareto_figure(*tables(), ["top1"], REFERENCE, "lenet").axes
    assert ax.get_xlabel().startswith("storage size")


def test_a_comparison_names_runs_reference_point_and_notes(runs):
    comparison = compare_runs(runs, best="latency_s", where="test_top1 > 80")
    text = drawn(compare_figure(comparison)).replace(" | ", " ")
    for part in (
        "test top-1 against latency per image, where test_top1 > 80",
        "tpe (modelled for npu_a, batch 1)",
        "nsga2 (measured on m4_tvm, batch 1)",
        "Reference point of the hypervolumes: latency per image 8.1 ms, test top-1 79.70 %.",
        "best latency per image: tpe, trial",
        "Hardware differs, the union front spans devices",
    ):
        assert part in text


def test_a_comparison_of_two_costs_has_units_on_both_axes(runs):
    (ax,) = compare_figure(compare_runs(runs, x="latency_s", y="energy_j")).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latency per image / ms", "energy per image / µJ")


def test_a_picture_is_written_without_pyplot(tmp_path):
    pareto_figure(*tables(), OBJECTIVES, REFERENCE, "lenet").savefig(tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    check = "import hwsearch.figures, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
