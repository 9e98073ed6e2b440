"""Scales and biases that are set right after rounding, against least squares and measured outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cost_models import Precision
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.quantize import (
    InputMoments,
    build_database,
    input_moments,
    least_squares,
    match_deviation,
    minmax,
    output_mean,
    quantize_weight,
)


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    module = nn.Conv2d(4, 6, 3, padding=1, groups=2)
    images = torch.rand(8, 4, 9, 9) + 0.3
    network = capture(nn.Sequential(module, nn.Flatten()), images)
    return network, images, network.weight("0"), input_moments(network, [images], positions=1000)["0"]


def clip_of(weight, granularity):
    rows = weight.flatten(1) if granularity == "per_channel" else weight.reshape(1, -1)
    return 0.6 * rows.abs().amax(1)


def outputs(images, weight):
    return F.conv2d(images, weight, padding=1, groups=2).transpose(0, 1).flatten(1)  # [O, samples]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_deviations_are_those_of_the_float_weights(layer, granularity):
    _, _, weight, moments = layer
    quantized = quantize_weight(weight, clip_of(weight, granularity), 3)
    found = match_deviation(weight, quantized, lambda: moments)
    assert torch.equal(found.codes, quantized.codes)
    shape = (len(found.scale), -1)
    before, after = (w.reshape(shape).std(1) for w in (weight, found.dequantize()))
    torch.testing.assert_close(before, after, rtol=1e-5, atol=0)


def test_deviations_of_groups_are_matched_one_by_one(layer):
    _, _, weight, moments = layer
    quantized = quantize_weight(weight, weight.reshape(6, 2, 9).abs().amax(2), 3)
    found = match_deviation(weight, quantized, lambda: moments).dequantize()
    torch.testing.assert_close(weight.reshape(6, 2, 9).std(2), found.reshape(6, 2, 9).std(2), rtol=1e-5, atol=0)


def test_constant_channels_keep_their_scale():
    weight = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.1, 0.4]])
    quantized = quantize_weight(weight, weight.abs().amax(1), 2)
    found = match_deviation(weight, quantized, lambda: None)
    assert torch.equal(found.scale[:2], quantized.scale[:2])
    assert found.scale.isfinite().all()


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_no_other_scale_has_less_error_of_the_outputs(layer, granularity):
    _, images, weight, moments = layer
    quantized = quantize_weight(weight, clip_of(weight, granularity), 3)
    found = least_squares(weight, quantized, lambda: moments)

    def error(scale):
        difference = outputs(images, weight - quantized.codes * scale.view(-1, 1, 1, 1))
        return difference.double().var(1, correction=0).sum()

    for factor in (0.98, 1.02):
        assert error(found.scale) < error(found.scale * factor)
    assert error(found.scale) < error(quantized.scale)


def test_scales_per_group_stay(layer):
    _, _, weight, moments = layer
    quantized = quantize_weight(weight, weight.reshape(6, 2, 9).abs().amax(2), 3)
    assert least_squares(weight, quantized, lambda: moments) is quantized


def test_channels_of_zeros_keep_their_scale():
    weight = torch.tensor([[0.0, 0.0], [0.3, -0.1]])
    moments = InputMoments(torch.zeros(1, 2), torch.eye(2).unsqueeze(0))
    quantized = quantize_weight(weight, weight.abs().amax(1), 3)
    assert least_squares(weight, quantized, lambda: moments).scale[0] == 1


def test_the_bias_takes_the_mean_error_back(layer):
    _, images, weight, moments = layer
    quantized = quantize_weight(weight, clip_of(weight, "per_channel"), 2)
    found = output_mean(weight, quantized, lambda: moments)
    expected = outputs(images, weight - quantized.dequantize()).mean(1)
    torch.testing.assert_close(found.bias_correction, expected, rtol=1e-3, atol=1e-5)
    corrected = found.correct_bias(torch.zeros(6)).view(1, 6, 1, 1)
    mean = (F.conv2d(images, found.dequantize(), padding=1, groups=2) + corrected).mean((0, 2, 3))
    torch.testing.assert_close(
        mean, F.conv2d(images, weight, padding=1, groups=2).mean((0, 2, 3)), rtol=1e-3, atol=1e-4
    )


def test_judged_networks_use_the_corrected_bias(layer):
    network, images, _, _ = layer
    database = build_database(network, minmax, [2], calibration=[images], corrections=[output_mean])
    judge = FakeQuantNetwork(network, database, {})
    judge.configure({"0": Precision(2, 32)})
    entry = database["0", 2, "uniform"]
    bias = network.graph.get_buffer(str(network.node("0").args[2].target))
    expected = F.conv2d(images, entry.dequantize(), bias + entry.bias_correction, padding=1, groups=2)
    assert entry.bias_correction.any()
    torch.testing.assert_close(judge(images), expected.flatten(1))
