"""Real weights on real images; expected top-1 is what the weights' publishers or the data's README state."""

import json

import pandas as pd
import pytest

CIFAR = ["data=cifar10", "data.root={shared}/cifar10"]
NETWORKS = [
    ("cifar_resnet20", "cifar10/resnet20.pth", CIFAR, 91.73),
    ("cifar_resnet32", "cifar10/resnet32.pth", CIFAR, 92.62),
    ("mlperf_tiny_resnet8", "cifar10/resnet8_mlperf_tiny.pth", CIFAR, 87.20),
    ("mlperf_tiny_dscnn", "kws/dscnn_mlperf_tiny.pth", ["data=kws", "data.root={shared}/kws"], 91.34),
    ("mlperf_tiny_vww", "vww/vww96_mlperf_tiny.pth", ["data=vww", "data.root={shared}/vww"], 85.50),
    (
        "mobilenet_v1_075",
        "imagenet/mobilenet_v1_075_224.pth",
        ["data=imagenet_nips17", "data.root={shared}/imagenet"],
        80.4,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "checkpoint", "data", "expected"), NETWORKS, ids=[row[0] for row in NETWORKS])
def test_float_top1_is_the_published_one(hwsearch, shared, tmp_path, model, checkpoint, data, expected):
    images = [option.format(shared=shared) for option in data]
    run = hwsearch(
        "evaluate", f"model={model}", f"model.checkpoint={shared / checkpoint}", *images, f"run_dir={tmp_path}"
    )
    assert run.status == 0, run.err
    assert json.loads((tmp_path / "result.json").read_text())["top1"] == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "loss"), [("W8A8", 0.2), ("W6A8", 0.6), ("W4A32", 0.8), ("W3A32", 4.7)])
def test_uniform_bits_lose_little_on_resnet20(hwsearch, shared, tmp_path, precision, loss):
    """The project's own bars, but for 6 bits: the paper's "almost no loss" read as 0.6 points."""
    weights, images = f"model.checkpoint={shared / 'cifar10' / 'resnet20.pth'}", f"data.root={shared / 'cifar10'}"
    options = ["model=cifar_resnet20", weights, "data=cifar10", images, f"precisions={precision}"]
    run = hwsearch("evaluate", *options, f"run_dir={tmp_path}")
    assert run.status == 0, run.err
    assert json.loads((tmp_path / "result.json").read_text())["top1"] >= 91.73 - loss


@pytest.mark.slow
def test_experiment_on_resnet20_runs_small(hwsearch, shared, tmp_path):
    weights, images = f"model.checkpoint={shared / 'cifar10' / 'resnet20.pth'}", f"data.root={shared / 'cifar10'}"
    small = ["n_trials=8", "space.weight_bits=[4,8]", "space.activation_bits=[4,8]"]
    run = hwsearch("search", "experiment=resnet20_bitfusion", weights, images, *small, f"run_dir={tmp_path}")
    assert run.status == 0, run.err
    pareto = pd.read_csv(tmp_path / "pareto.csv")
    assert pareto.loc[pareto["kind"] == "float", "search_top1"].item() == pytest.approx(91.73, abs=1.0)
    eight = pareto[(pareto["weight_bits_mean"] == 8) & (pareto["activation_bits_mean"] == 8)].iloc[0]
    four = pareto[(pareto["weight_bits_mean"] == 4) & (pareto["activation_bits_mean"] == 4)].iloc[0]
    assert eight["test_top1"] > four["test_top1"]
    assert eight["latency_s"] > four["latency_s"]
