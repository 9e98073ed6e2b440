"""Codebooks of int8 levels, against the uniform grid and against Lloyd's conditions."""

import pytest
import torch
from torch import Tensor, nn

from cost_models import Precision
from hwsearch.evaluate import FakeQuantNetwork
from hwsearch.graph import capture
from hwsearch.quantize import (
    build_database,
    coordinate_descent,
    lloyd_max,
    power_codebook,
    quantize_weight,
    requant_global,
    squant,
)
from hwsearch.quantize.grid import in_steps, nearest_level

CODEBOOKS = {"power": power_codebook, "lloyd_max": lloyd_max}


def laplace(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.distributions.Laplace(0.0, 1.0).sample(shape) * torch.logspace(-2, 0, shape[0]).unsqueeze(1)


def error(rows: Tensor, levels: Tensor, scale: Tensor) -> float:
    quantized = nearest_level(in_steps(rows, scale), levels) * scale.unsqueeze(1)
    return float((quantized - rows).square().sum())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("name", CODEBOOKS)
def test_levels_are_at_most_two_to_the_bits_int8_values_in_order(name, bits):
    rows = laplace(5, 300)
    levels, scale = CODEBOOKS[name](rows, requant_global(rows, bits).clip, bits)
    assert levels.dtype == torch.int8
    assert len(levels) <= 2**bits
    assert (levels.int().diff() > 0).all()
    assert levels.abs().max() == 127
    assert scale.shape == (5,)
    assert (scale > 0).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_codebooks_have_less_error_than_the_uniform_grid(name, bits):
    rows = laplace(4, 2000)
    clip = requant_global(rows, bits).clip
    uniform = float((quantize_weight(rows, clip, bits).dequantize() - rows).square().sum())
    # Laplace weights: 14 % and more are gained at each of these widths; two bits gain the fourth level.
    assert error(rows, *CODEBOOKS[name](rows, clip, bits)) < 0.86 * uniform


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_lloyd_max_is_the_bound(bits):
    rows = laplace(1, 5000)
    clip = requant_global(rows, bits).clip
    assert error(rows, *lloyd_max(rows, clip, bits)) <= 1.002 * error(rows, *power_codebook(rows, clip, bits))


def test_lloyd_max_of_few_values_finds_them():
    values = torch.tensor([-1.0, -0.25, 0.5, 0.75]).repeat(50).unsqueeze(0)
    levels, scale = lloyd_max(values, torch.ones(1), 2)
    torch.testing.assert_close(levels * scale, torch.tensor([-1.0, -0.25, 0.5, 0.75]), rtol=0, atol=0.5 / 127)


def test_scales_are_least_squares_for_their_codes():
    rows = laplace(3, 500)
    levels, scale = power_codebook(rows, requant_global(rows, 3).clip, 3)
    for factor in (0.99, 1.01):
        assert error(rows, levels, scale) < error(rows, levels, factor * scale)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_zeros_and_constants_are_defined(name):
    rows = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.1, -0.3, 0.2]])
    for bits in (2, 4):
        levels, scale = CODEBOOKS[name](rows, requant_global(rows, bits).clip, bits)
        assert scale.isfinite().all()
        quantized = nearest_level(in_steps(rows, scale), levels) * scale.unsqueeze(1)
        assert quantized.isfinite().all()
        assert quantized[0].abs().max() < 1e-15
    levels, scale = CODEBOOKS[name](rows[:1], torch.zeros(1), 4)
    assert (levels.abs().max() * scale).tolist() < [1e-15]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor", "per_group"])
def test_databases_hold_codebooks_beside_uniform_grids(granularity):
    torch.manual_seed(0)
    images = torch.rand(4, 3, 6, 6)
    network = capture(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)), images)
    database = build_database(
        network, requant_global, [2, 3], formats=("uniform", "codebook"), granularity=granularity, rounding=squant
    )
    for layer in network.layers:
        for bits in (2, 3):
            entry = database[layer.name, bits, "codebook"]
            assert entry.levels is not None
            assert torch.isin(entry.codes, entry.levels).all()
            assert entry.scale.shape == database[layer.name, bits, "uniform"].scale.shape
            assert database[layer.name, bits, "uniform"].levels is None
    judge = FakeQuantNetwork(network, database, {})
    reference = judge(images)
    errors = {}
    for form in ("uniform", "codebook"):
        judge.configure({layer.name: Precision(3, 32, form) for layer in network.layers})
        errors[form] = float((judge(images) - reference).square().sum())
    assert all(0 < found < float(reference.square().sum()) for found in errors.values())


def test_calibrated_rounding_runs_on_codebooks():
    torch.manual_seed(0)
    images = torch.rand(256, 3, 6, 6).cumsum(3)  # of correlated pixels
    network = capture(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), images)
    options = {"formats": ["codebook"], "calibration": [images]}
    plain = build_database(network, requant_global, [2], **options)
    better = build_database(network, requant_global, [2], rounding=coordinate_descent, **options)
    entry, start = better["0", 2, "codebook"], plain["0", 2, "codebook"]
    assert torch.equal(entry.levels, start.levels)
    assert torch.equal(entry.scale, start.scale)
    weight = network.weight("0")
    kept, worse = (
        nn.functional.conv2d(images, weight - found.dequantize()).var((0, 2, 3)).sum() for found in (entry, start)
    )
    assert kept < worse
