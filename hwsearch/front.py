"""The Pareto table: non-dominated trials and the references beside them, re-scored on the test split."""

from collections.abc import Callable, Mapping, Sequence
from math import nan

import pandas as pd

from cost_models import FLOAT, BitConfig, LayerSpec
from hwsearch.evaluate import Accuracy
from hwsearch.pareto import COSTS, mark_dominated_by_uniform, non_dominated, test_objectives, wilson_interval
from hwsearch.progress import track


def mark_front(trials: pd.DataFrame, objectives: Sequence[str]) -> "pd.Series[bool]":
    """Mark the non-dominated of the feasible complete trials, by the search split's measures.

    Args:
        trials: From :func:`hwsearch.search.trials_table`.
        objectives: The search's objectives.
    """
    candidates = trials[(trials["state"] == "complete") & trials["feasible"].fillna(False)]
    return non_dominated(candidates, objectives).reindex(trials.index, fill_value=False)


def pareto_table(
    trials: pd.DataFrame,
    configs: Mapping[int, BitConfig],
    layers: Sequence[LayerSpec],
    objectives: Sequence[str],
    float_search: Accuracy,
    float_costs: Mapping[str, float],
    test: Callable[[BitConfig], Accuracy],
    cost_source: str,
    network_latency_s: Callable[[BitConfig], float] = lambda config: nan,
) -> pd.DataFrame:
    """Score the float network, every uniform configuration and every front configuration on the test split.

    Args:
        trials: From :func:`hwsearch.search.trials_table`.
        configs: Configuration of each complete trial.
        layers: The network's layers.
        objectives: The search's objectives.
        float_search: The float network on the search split.
        float_costs: Its costs; NaN where unknown.
        test: Judges a configuration on the test split.
        cost_source: ``"modelled"`` or ``"measured"``.
        network_latency_s: Measures a configuration's whole network, in seconds per image; NaN where that can't be.

    Returns:
        ``pareto.csv`` as ``runs/README.md`` describes it; float first, then by trial.
    """
    on_front = mark_front(trials, objectives)
    shown = (trials["state"] == "complete") & (on_front | (trials["kind"] == "uniform"))
    records = trials.assign(on_front=on_front)[shown].to_dict("records")
    float_config = {layer.name: FLOAT for layer in layers}
    rows = [
        {"trial": None, "kind": "float", "on_front": False, "search_top1": float_search.top1, "search_kl": 0.0}
        | {"search_agreement": 100.0, "feasible": False, **float_costs}
        | _judged(float_config, layers, test(float_config))
    ]
    for trial in track(records, "scoring the front on the test split"):
        config = configs[int(trial["trial"])]
        rows.append(
            {
                "trial": trial["trial"],
                "kind": trial["kind"],
                "on_front": trial["on_front"],
                "feasible": trial["feasible"],
                "search_top1": trial["top1"],
                "search_kl": trial["kl"],
                "search_agreement": trial["agreement"],
            }
            | {cost: trial[cost] for cost in COSTS}
            | _judged(config, layers, test(config))
        )
    table = pd.DataFrame(rows).assign(cost_source=cost_source).astype({"trial": "Int64"})
    table["dominated_by_uniform"] = mark_dominated_by_uniform(table, objectives)
    table["on_test_front"] = _mark_test_front(table, objectives)
    measured = [network_latency_s(configs[int(trial["trial"])]) for trial in track(records, "measuring whole networks")]
    table["measured_latency_s"] = [nan, *measured]
    first = [
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
    ]
    costs = ["latency_s", "measured_latency_s", "energy_j", "size_bytes", "bops"]
    return table[[*first, *costs, "weight_bits_mean", "activation_bits_mean", "cost_source"]]


def _mark_test_front(table: pd.DataFrame, objectives: Sequence[str]) -> "pd.Series[bool]":
    """Mark what is still non-dominated among the feasible rows, once all are judged on the test split."""
    candidates = table[table["feasible"].eq(True)]
    return non_dominated(candidates, test_objectives(objectives)).reindex(table.index, fill_value=False)


def _judged(config: BitConfig, layers: Sequence[LayerSpec], accuracy: Accuracy) -> dict[str, float]:
    low, high = wilson_interval(accuracy.correct, accuracy.n)
    weights = [(config[layer.name].weight_bits, layer.weight_count) for layer in layers]
    inputs = [(config[layer.name].activation_bits, layer.in_count) for layer in layers]
    means = [
        sum(bits * count for bits, count in pairs) / sum(count for _, count in pairs) for pairs in (weights, inputs)
    ]
    return {
        "test_top1": accuracy.top1,
        "test_top1_low": low,
        "test_top1_high": high,
        "weight_bits_mean": means[0],
        "activation_bits_mean": means[1],
    }
