"""Per-layer bit-widths of a trained network for a target device.

The command line's steps as plain functions::

    network = capture(module, example)                            # the float network as one graph
    database = build_database(network, requant)                   # integer weights of every (layer, weight_bits)
    ranges = calibrate(network, batches, mse)                     # grid of every (tensor, activation_bits)
    engine = FakeQuantNetwork(network, database, ranges)          # which a judge configures and runs
    device = load_device("device.yaml")
    costs = cost_table(network.layers, device)
    space = build_space(network.layers, device)
    study = search_precisions(space, pricing(costs, network.spec, device), judge, n_trials=100)
    trials = trials_table(study, space)
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "cost_models": "FLOAT BitConfig Cost CostModel LayerSpec NetworkSpec OperatorSpec Precision load_device",
    "hwsearch.compare": "compare_runs load_run",
    "hwsearch.costs": "cost_table pricing",
    "hwsearch.data": "Batches Dataset Preprocess stratified_halves",
    "hwsearch.evaluate": "Accuracy FakeQuantNetwork accuracy",
    "hwsearch.front": "mark_front pareto_table",
    "hwsearch.graph": "CaptureError Network capture",
    "hwsearch.pareto": "hypervolume non_dominated reference_point wilson_interval",
    "hwsearch.quantize": "build_database calibrate minmax mse mse_grid percentile requant",
    "hwsearch.run_folder": "RunInfo write_run",
    "hwsearch.search": (
        "Chain Judgement SearchSpace build_space judged_configs precisions_table search_precisions trials_table"
    ),
    "hwsearch.sensitivity": "Quantized kl_divergence output_change perturbation",
    "hwsearch.transfer": "transfer_runs",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that reading a run folder does not load torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'hwsearch' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
