"""Compensation of earlier layers' errors, against least squares on the samples themselves."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwsearch.graph import capture
from hwsearch.quantize import coordinate_descent, nearest, quantize_weight, uniform_levels
from hwsearch.quantize.compensation import compensate, paired_moments

LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "pointwise": nn.Conv2d(4, 6, 1),
    "without bias": nn.Conv2d(4, 6, 1, bias=False),
}


def layer_of(kind: str, images: int = 40):
    """A layer, its weight, and its inputs in a float network and in one that changes them."""
    torch.manual_seed(0)
    network = capture(LAYERS[kind], torch.zeros(2, 4, 6, 6))
    (spec,) = network.layers
    x = torch.rand(images, 4, 6, 6)
    mixed = F.conv2d(x, torch.eye(4).view(4, 4, 1, 1) + 0.2 * torch.randn(4, 4, 1, 1)) + 0.4 * x.roll(1, 3)
    y = (mixed + 0.05 * torch.randn_like(x)).clamp(min=0)
    return spec, network.weight(spec.name), x, y


def moments_of(spec, x: Tensor, y: Tensor):
    generator = torch.Generator().manual_seed(0)
    pairs = zip(x.split(16), y.split(16), strict=True)
    return paired_moments(spec, pairs, positions=1000, generator=generator)


def outputs(spec, x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, None, spec.stride, spec.padding, spec.dilation, spec.groups)


def error(spec, x: Tensor, y: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    """Mean squared error of each output that a bias leaves, ``[O]``."""
    change = outputs(spec, x, weight) - outputs(spec, y, other)
    return change.transpose(0, 1).flatten(1).var(1, correction=0)


@pytest.mark.parametrize("kind", ["plain", "depthwise", "pointwise"])
def test_changed_weights_are_the_least_squares_solution(kind):
    spec, weight, x, y = layer_of(kind)
    whole = moments_of(spec, x, y)[0]
    exact = replace(whole, quantized=replace(whole.quantized, samples=float("inf")))
    found = weight + exact.change(weight, 0.0)
    best = error(spec, x, y, weight, found)
    assert torch.all(best < 0.9 * error(spec, x, y, weight, weight))
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        other = found + 0.01 * torch.randn(weight.shape, generator=generator)
        assert torch.all(error(spec, x, y, weight, other) > best)
    lowered = (error(spec, x, y, weight, weight) - best).sum()
    torch.testing.assert_close(whole.gain(weight, found - weight), float(lowered), rtol=1e-3, atol=0)  # float32 sums


@pytest.mark.parametrize("rounding", [nearest, coordinate_descent])
@pytest.mark.parametrize("kind", LAYERS)
def test_rounded_weights_come_nearer_to_the_float_outputs_on_other_inputs(kind, rounding):
    spec, weight, x, y = layer_of(kind, images=120)
    start = quantize_weight(weight, weight.abs().flatten(1).amax(1), 4)
    found = compensate(weight, start, uniform_levels(4), moments_of(spec, x[:80], y[:80]), rounding)
    assert found.codes.dtype == torch.int8
    assert int(found.codes.abs().max()) <= 7
    rest = (spec, x[80:], y[80:], weight)
    assert error(*rest, found.dequantize()).sum() < 0.8 * error(*rest, start.dequantize()).sum()


@pytest.mark.parametrize("kind", ["plain", "depthwise"])
def test_the_bias_takes_the_mean_back(kind):
    spec, weight, x, y = layer_of(kind)
    start = quantize_weight(weight, weight.abs().flatten(1).amax(1), 3)
    found = compensate(weight, start, uniform_levels(3), moments_of(spec, x, y), nearest)
    change = outputs(spec, x, weight) - outputs(spec, y, found.dequantize())
    torch.testing.assert_close(found.bias_correction, change.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("images", [1, 2])
def test_what_few_samples_show_by_chance_changes_nothing(images):
    torch.manual_seed(0)
    (spec,) = capture(nn.Linear(300, 5), torch.zeros(2, 300)).layers
    weight = torch.randn(5, 300)
    x = torch.randn(images, 300)
    y = x + 0.1 * torch.randn_like(x)
    start = quantize_weight(weight, weight.abs().amax(1), 4)
    found, unchanged = (
        compensate(
            weight,
            start,
            uniform_levels(4),
            paired_moments(spec, [pair], positions=1, generator=torch.Generator()),
            nearest,
        )
        for pair in ((x, y), (y, y))
    )
    assert torch.equal(found.codes, unchanged.codes)
    assert found.dequantize().isfinite().all()


@pytest.mark.parametrize("clip", [1.0, 0.5])
def test_scales_per_tensor_and_per_group_keep_their_shape(clip):
    spec, weight, x, y = layer_of("plain")
    largest = weight.abs().amax().view(1) * clip
    grids = (largest, largest.expand(6), largest.expand(6, 4))
    for grid in grids:
        start = quantize_weight(weight, grid, 4)
        found = compensate(weight, start, uniform_levels(4), moments_of(spec, x, y), nearest)
        assert found.scale.shape == grid.shape
        assert error(spec, x, y, weight, found.dequantize()).sum() < error(spec, x, y, weight, start.dequantize()).sum()
