"""The Pareto table of a small study."""

import math

import pandas as pd
import pytest

from cost_models import FLOAT, BitConfig, LayerSpec, Precision
from hwsearch.evaluate import Accuracy
from hwsearch.front import mark_front, pareto_table
from hwsearch.pareto import wilson_interval

LAYERS = (
    LayerSpec("conv", "conv2d", 1, 10, (3, 3), in_size=(10, 10), out_size=(8, 8)),  # 90 weights, 100 inputs
    LayerSpec("fc", "linear", 30, 1),  # 30 weights, 30 inputs
)
W8A8, W4A4, W2A2, W4A8 = Precision(8, 8), Precision(4, 4), Precision(2, 2), Precision(4, 8)
OBJECTIVES = ["top1", "latency_s"]

# trial, state, kind, feasible, top1, latency_s
TRIALS = [
    (0, "complete", "uniform", True, 90.0, 8.0),
    (1, "complete", "uniform", True, 70.0, 5.0),  # dominated by 3
    (2, "failed", "mixed", None, None, None),
    (3, "complete", "mixed", True, 80.0, 4.0),
    (4, "complete", "mixed", True, 80.0, 4.0),  # equal to 3: neither dominates
    (5, "duplicate", "mixed", None, None, None),
    (6, "complete", "mixed", True, 79.0, 6.0),  # dominated by 3
    (7, "complete", "mixed", False, 99.0, 1.0),  # would dominate all, but is infeasible
    (8, "complete", "uniform", False, 60.0, 0.5),  # infeasible, but a reference
    (9, "complete", "mixed", True, 95.0, 9.0),
]
CONFIGS: dict[int, BitConfig] = {
    0: {"conv": W8A8, "fc": W8A8},
    1: {"conv": W4A4, "fc": W4A4},
    3: {"conv": W4A4, "fc": W8A8},
    4: {"conv": W8A8, "fc": W4A4},
    6: {"conv": W2A2, "fc": W8A8},
    7: {"conv": W2A2, "fc": W4A4},
    8: {"conv": W2A2, "fc": W2A2},
    9: {"conv": W4A8, "fc": W8A8},
}
CORRECT = {0: 171, 1: 140, 3: 175, 4: 150, 8: 120, 9: 180}
"""Of 200 test images. Trial 4 is worse on the test split than uniform trial 0, but faster; trial 9 better."""


def trials() -> pd.DataFrame:
    table = pd.DataFrame(TRIALS, columns=["trial", "state", "kind", "feasible", "top1", "latency_s"])
    table = table.assign(
        kl=float("nan"), agreement=float("nan"), energy_j=float("nan"), size_bytes=100.0 * table["latency_s"], bops=7.0
    )
    return table.astype({"feasible": "boolean"})


def judge(config: BitConfig) -> Accuracy:
    if all(precision == FLOAT for precision in config.values()):
        return Accuracy(190, 200)
    return Accuracy(next(CORRECT[trial] for trial, known in CONFIGS.items() if known == config), 200)


FLOAT_COSTS = {"latency_s": float("nan"), "energy_j": float("nan"), "size_bytes": 500.0, "bops": 99.0}


def table(trials: pd.DataFrame) -> pd.DataFrame:
    return pareto_table(trials, CONFIGS, LAYERS, OBJECTIVES, Accuracy(96, 100), FLOAT_COSTS, judge, "modelled")


def test_the_front_is_what_no_feasible_complete_trial_dominates_on_the_search_split():
    marked = mark_front(trials(), OBJECTIVES)
    assert list(marked[marked].index) == [0, 3, 4, 9]
    assert len(marked) == len(TRIALS)


def test_rows_are_float_every_uniform_and_every_front_trial_in_order():
    rows = table(trials())
    assert rows["trial"].tolist() == [pd.NA, 0, 1, 3, 4, 8, 9]
    assert rows["kind"].tolist() == ["float", "uniform", "uniform", "mixed", "mixed", "uniform", "mixed"]
    assert rows["on_front"].tolist() == [False, True, False, True, True, False, True]


def test_the_front_is_filtered_again_on_the_test_split():
    # (top-1, latency): 0 (85.5, 8) and 1 (70, 5) are dominated by 3 (87.5, 4), as is 4 (75, 4); 8 is infeasible.
    rows = table(trials()).set_index("trial")
    assert rows.index[rows["on_test_front"]].tolist() == [3, 9]


def test_a_search_by_divergence_is_compared_by_accuracy_on_the_test_split():
    by_kl = trials().assign(kl=lambda t: 1 - t["top1"] / 100)
    rows = pareto_table(by_kl, CONFIGS, LAYERS, ["kl", "latency_s"], Accuracy(96, 100), FLOAT_COSTS, judge, "modelled")
    assert rows["search_kl"].tolist() == pytest.approx([0.0, 0.1, 0.3, 0.2, 0.2, 0.4, 0.05])
    for flag in ("on_front", "on_test_front", "dominated_by_uniform"):
        assert rows[flag].tolist() == table(trials())[flag].tolist()


def test_a_search_by_agreement_is_compared_by_accuracy_on_the_test_split():
    by_agreement = trials().assign(agreement=lambda t: t["top1"])
    objectives = ["agreement", "latency_s"]
    rows = pareto_table(by_agreement, CONFIGS, LAYERS, objectives, Accuracy(96, 100), FLOAT_COSTS, judge, "modelled")
    assert rows["search_agreement"].tolist() == [100.0, 90.0, 70.0, 80.0, 80.0, 60.0, 95.0]
    for flag in ("on_front", "on_test_front", "dominated_by_uniform"):
        assert rows[flag].tolist() == table(trials())[flag].tolist()


def test_rows_keep_their_search_scores_and_get_test_scores_with_intervals():
    rows = table(trials())
    assert rows["search_top1"].tolist() == [96.0, 90.0, 70.0, 80.0, 80.0, 60.0, 95.0]
    correct = [190, 171, 140, 175, 150, 120, 180]
    assert rows["test_top1"].tolist() == [100 * c / 200 for c in correct]
    intervals = list(zip(rows["test_top1_low"], rows["test_top1_high"], strict=True))
    assert intervals == [wilson_interval(c, 200) for c in correct]


def test_only_test_split_scores_decide_what_a_uniform_row_dominates():
    # On the test split (top-1, latency): uniform rows are 0 (85.5, 8), 1 (70, 5) and 8 (60, 0.5); mixed rows are
    # 3 (87.5, 4), 4 (75, 4) and 9 (90, 9). None of them is dominated.
    assert not table(trials())["dominated_by_uniform"].any()
    slower = trials()
    slower.loc[slower["trial"] == 9, "latency_s"] = 8.5
    assert not table(slower)["dominated_by_uniform"].any()
    # If uniform trial 0 took 3 s, it would be faster than 4 and better on the test split, though not on the search split.
    faster = trials()
    faster.loc[faster["trial"] == 0, ["latency_s", "top1"]] = [3.0, 79.0]
    rows = table(faster).set_index("trial")
    assert rows.index[rows["dominated_by_uniform"]].tolist() == [4]
    assert rows.loc[4, "on_front"]
    faster.loc[faster["trial"] == 0, "feasible"] = False
    assert not table(faster)["dominated_by_uniform"].any()


def test_costs_are_those_of_the_trials_and_of_the_float_network():
    rows = table(trials())
    assert math.isnan(rows["latency_s"][0])
    assert rows["latency_s"].tolist()[1:] == [8.0, 5.0, 4.0, 4.0, 0.5, 9.0]
    assert rows["size_bytes"].tolist() == [500.0, 800.0, 500.0, 400.0, 400.0, 50.0, 900.0]
    assert rows["bops"].tolist() == [99.0] + [7.0] * 6
    assert rows["energy_j"].isna().all()
    assert set(rows["cost_source"]) == {"modelled"}


def test_whole_networks_are_measured_where_the_hardware_can():
    def network_latency_s(config: BitConfig) -> float:
        return config["conv"].weight_bits / 1000

    assert table(trials())["measured_latency_s"].isna().all()
    rows = pareto_table(
        trials(), CONFIGS, LAYERS, OBJECTIVES, Accuracy(96, 100), FLOAT_COSTS, judge, "measured", network_latency_s
    )
    assert math.isnan(rows["measured_latency_s"][0])
    assert rows["measured_latency_s"].tolist()[1:] == [0.008, 0.004, 0.004, 0.008, 0.002, 0.004]
    assert rows["latency_s"].equals(table(trials())["latency_s"])


def test_mean_widths_weigh_layers_by_their_weights_and_inputs():
    rows = table(trials()).set_index("trial")
    weights = [(4 * 90 + 8 * 30) / 120, (8 * 90 + 4 * 30) / 120, (4 * 90 + 8 * 30) / 120]
    inputs = [(4 * 100 + 8 * 30) / 130, (8 * 100 + 4 * 30) / 130, 8.0]
    assert rows.loc[[3, 4, 9], "weight_bits_mean"].tolist() == weights
    assert rows.loc[[3, 4, 9], "activation_bits_mean"].tolist() == inputs
    assert rows["weight_bits_mean"].iloc[0] == rows["activation_bits_mean"].iloc[0] == 32
    assert (rows.loc[8, "weight_bits_mean"], rows.loc[0, "weight_bits_mean"]) == (2, 8)


def test_columns_are_those_of_the_run_folders_contract():
    assert list(table(trials()).columns) == [
        "trial",
        "kind",
        "on_front",
        "on_test_front",
        "dominated_by_uniform",
        "search_top1",
        "search_kl",
        "search_agreement",
        "test_top1",
        "test_top1_low",
        "test_top1_high",
        "latency_s",
        "measured_latency_s",
        "energy_j",
        "size_bytes",
        "bops",
        "weight_bits_mean",
        "activation_bits_mean",
        "cost_source",
    ]


@pytest.mark.parametrize("state", ["failed", "duplicate"])
def test_without_a_complete_trial_only_the_float_row_remains(state):
    rows = table(trials().assign(state=state))
    assert rows["kind"].tolist() == ["float"]
    assert not rows["on_front"].any()


def test_without_a_feasible_trial_the_references_remain():
    rows = table(trials().assign(feasible=pd.array([False] * len(TRIALS), dtype="boolean")))
    assert rows["trial"].tolist() == [pd.NA, 0, 1, 8]
    assert not rows["on_front"].any()
