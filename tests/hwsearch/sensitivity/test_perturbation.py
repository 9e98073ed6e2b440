"""Curvature times perturbation, and how well it ranks what the outputs show."""

from functools import partial

import pytest
import torch
from scipy.stats import spearmanr

from hwsearch.sensitivity import (
    fisher_trace,
    hessian_trace,
    kl_divergence,
    noise_to_signal,
    output_change,
    perturbation,
)


def weights_of(table):
    return table[(table["operand"] == "weights") & (table["bits"] < 8)]["loss"]


def test_without_curvature_it_is_the_mean_squared_error(digits, choices):
    table = perturbation(digits, choices, images=16).set_index(["layer", "operand", "bits"])["loss"]
    weight = digits.network.weight("fc")
    error = weight - digits.database["fc", 4, "uniform"].dequantize()
    assert table["fc", "weights", 4] == pytest.approx(float(error.square().mean()))
    assert table["fc", "activations", 4] > table["fc", "activations", 8] > 0


@pytest.mark.parametrize("curvature", [fisher_trace, hessian_trace])
def test_curvature_scales_each_layer(digits, choices, curvature):
    plain = perturbation(digits, choices, images=16)
    scaled = perturbation(digits, choices, curvature=curvature, images=16)
    assert plain.drop(columns="loss").equals(scaled.drop(columns="loss"))
    ratio = (scaled["loss"] / plain["loss"])[(plain["layer"] == "fc") & (plain["operand"] == "weights")]
    assert ratio.max() == pytest.approx(ratio.min())
    trace = curvature(digits.network, digits.images(16)).weights["fc"]
    assert ratio.iloc[0] == pytest.approx(trace * digits.network.weight("fc").numel() / 2)


def test_measures_agree_with_the_true_divergence(digits, choices):
    true = weights_of(output_change(digits, choices, measure=kl_divergence, images=64))
    methods = {
        "noise": partial(output_change, measure=noise_to_signal, images=64),
        "fit": partial(perturbation, curvature=fisher_trace, images=32),
        "hessian": partial(perturbation, curvature=partial(hessian_trace, probes=16), images=64),
    }
    found = {name: spearmanr(true, weights_of(method(digits, choices)))[0] for name, method in methods.items()}
    assert min(found.values()) > 0.6, found


def test_nothing_of_the_network_changes(digits, choices):
    before = digits.network.fingerprint
    perturbation(digits, choices, curvature=fisher_trace, images=4)
    assert digits.network.fingerprint == before
    assert not any(tensor.requires_grad for tensor in digits.network.graph.buffers())
    assert torch.is_grad_enabled()
