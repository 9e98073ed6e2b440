"""Traces of a softmax regression, whose Fisher information and Hessian have a closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from hwsearch.data import Batches, Preprocess
from hwsearch.graph import capture
from hwsearch.sensitivity import fisher_trace, hessian_trace

FEATURES, CLASSES = 6, 4


@pytest.fixture(scope="module")
def images():
    drawn = np.random.default_rng(0).normal(size=(400, 1, FEATURES, 1)).astype(np.float32)
    return Batches(drawn, np.zeros(len(drawn), np.int64), Preprocess(shape=(1, 1, FEATURES)), batch_size=200)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, CLASSES)).eval(), torch.zeros(2, 1, 1, FEATURES))


@pytest.fixture(scope="module")
def exact(network, images):
    """Means per weight and per input value: both matrices are the covariance of a one-hot class, times x x or W W."""
    x = torch.from_numpy(images.inputs).flatten(1)
    weight = network.weight("1")
    p = network.graph(x.view(-1, 1, 1, FEATURES)).softmax(1)
    covariance = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    by_weights = (covariance.diagonal(dim1=1, dim2=2).sum(1) * x.square().sum(1)).mean() / weight.numel()
    by_inputs = (weight.T @ covariance @ weight).diagonal(dim1=1, dim2=2).sum(1).mean() / FEATURES
    return float(by_weights), float(by_inputs)


@pytest.mark.parametrize("trace", [fisher_trace, lambda *arguments: hessian_trace(*arguments, probes=32)])
def test_traces_are_those_of_the_closed_form(network, images, exact, trace):
    found = trace(network, images)
    assert (found.weights["1"], found.activations["1"]) == pytest.approx(exact, rel=0.1)  # both are sampled


def test_traces_are_the_same_again(network, images):
    assert hessian_trace(network, images) == hessian_trace(network, images)


def test_every_layer_of_a_network_has_traces(digits):
    layers = {layer.name for layer in digits.network.layers}
    for trace in (fisher_trace, hessian_trace):
        found = trace(digits.network, digits.images(8))
        assert set(found.weights) == set(found.activations) == layers
        assert all(np.isfinite(value) for means in (found.weights, found.activations) for value in means.values())
