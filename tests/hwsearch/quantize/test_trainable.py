"""Weights and activations that gradient descent tunes."""

import pytest
import torch
from torch import Tensor

from hwsearch.quantize import ActivationGrid, QuantizedWeight, nearest_level, quantize_weight
from hwsearch.quantize.trainable import RandomQuantizer, TrainableLayer


def layer(bits: int = 3, table: Tensor | None = None) -> tuple[Tensor, QuantizedWeight, TrainableLayer]:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator)
    entry = quantize_weight(weight, weight.abs().amax(1) * 0.7, bits)
    if table is not None:
        scale = weight.abs().amax(1) / 127
        codes = nearest_level(weight / scale.unsqueeze(1), table).to(torch.int8)
        entry = QuantizedWeight(codes, scale, table, torch.full((4,), 0.5))
    return weight, entry, TrainableLayer(weight, bias, entry, bits)


@pytest.mark.parametrize("table", [None, torch.tensor([-127, -40, 40, 127], dtype=torch.int8)])
def test_a_layer_starts_as_its_entry(table):
    _, entry, trainable = layer(3 if table is None else 2, table)
    assert torch.equal(trainable.weight().detach(), entry.dequantize())
    quantized = trainable.quantized()
    assert torch.equal(quantized.codes, entry.codes)
    assert torch.equal(quantized.scale, entry.scale)
    assert torch.allclose(quantized.bias_correction, torch.full((4,), 0.0 if table is None else 0.5), rtol=1e-6)


def test_codes_that_rounding_to_nearest_would_not_choose_are_kept():
    weight, nearest, _ = layer()
    codes = torch.where(nearest.codes < 3, nearest.codes + 1, nearest.codes)
    trainable = TrainableLayer(weight, None, QuantizedWeight(codes, nearest.scale), 3)
    assert torch.equal(trainable.quantized().codes, codes)
    assert trainable.quantized().bias_correction is None


def test_a_correction_of_biases_that_are_all_0_is_kept_and_tuned():
    weight, nearest, _ = layer()
    entry = QuantizedWeight(nearest.codes, nearest.scale, bias_correction=torch.full((4,), 0.5))
    trainable = TrainableLayer(weight, torch.zeros(4), entry, 3)
    assert torch.equal(trainable.bias().detach(), torch.full((4,), 0.5))
    assert torch.equal(trainable.quantized().bias_correction, torch.full((4,), 0.5))
    trainable.bias().sum().backward()
    assert torch.equal(trainable.correction.grad, torch.ones(4))


def test_the_gradient_passes_the_rounding_to_weights_and_reaches_scales_and_bias():
    _, entry, trainable = layer()
    (trainable.weight() * 2).sum().backward()
    trainable.bias().sum().backward()
    assert torch.allclose(trainable.steps.grad, (2 * entry.scale).unsqueeze(1).expand(4, 5))
    torch.testing.assert_close(trainable.log_factor.grad, 2 * entry.dequantize().sum(1), rtol=1e-5, atol=1e-6)
    assert torch.allclose(trainable.correction.grad, torch.full((4,), trainable.unit))


def test_activations_are_quantized_at_random_in_training_and_all_in_evaluation():
    grid = ActivationGrid(0.1, 0, 15)
    x = torch.linspace(0, 1.4, 1000, requires_grad=True)
    quantizer = RandomQuantizer(grid, 0.25, torch.Generator().manual_seed(0))
    changed = quantizer(x) != x
    assert 0.2 < float(changed.float().mean()) < 0.3
    assert torch.allclose(quantizer.eval()(x), grid.quantize(x))
    quantizer(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(1000))
