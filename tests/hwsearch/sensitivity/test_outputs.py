"""Sensitivities that are measured at the outputs."""

from math import log

import pytest
import torch

from cost_models import Precision
from hwsearch.sensitivity import kl_divergence, noise_to_signal, output_change, prediction_change


@pytest.fixture(scope="module")
def table(digits, choices):
    return output_change(digits, choices, measure=kl_divergence, images=64)


def loss_of(table, layer, operand, bits):
    rows = table[(table["layer"] == layer) & (table["operand"] == operand) & (table["bits"] == bits)]
    return rows["loss"].item()


def test_every_layer_operand_and_width_has_a_row(digits, table):
    assert len(table) == len(digits.network.layers) * (3 + 2)
    assert set(table["weight_format"]) == {"uniform", ""}


def test_a_loss_is_the_change_beside_the_widest(digits, table):
    inputs = digits.images(64).preprocess(digits.images(64).inputs)
    expected = digits.network.graph(inputs)
    widest = {layer.name: Precision(8, 8) for layer in digits.network.layers}

    def divergence(config):
        digits.engine.configure(config)
        return kl_divergence(expected, digits.engine(inputs))

    narrowed = divergence({**widest, "block2.conv1": Precision(2, 8)})
    assert loss_of(table, "block2.conv1", "weights", 2) == pytest.approx(narrowed - divergence(widest), abs=1e-6)


def test_the_widest_loses_nothing_and_the_narrowest_the_most(digits, table):
    for layer in digits.network.layers:
        losses = [loss_of(table, layer.name, "weights", bits) for bits in (2, 4, 8)]
        assert losses[0] > losses[1] > losses[2] == 0


def test_divergence_is_that_of_the_definition():
    expected, found = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert kl_divergence(expected, found) == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))


def test_a_changed_prediction_counts_once():
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert prediction_change(expected, torch.tensor([[2.0, 1.0], [2.0, 1.0]])) == 50


def test_noise_to_signal_is_a_ratio_of_powers():
    assert noise_to_signal(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.5]])) == pytest.approx(0.01)
