"""Rounding methods, against brute force over all codes and against what each of them promises."""

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from hwsearch.quantize import InputMoments, adaround, coordinate_descent, gptq, nearest, squant, uniform_levels
from hwsearch.quantize.adaround import neighbours, soft_logits, soft_share

CODEBOOK = torch.tensor([-127, -42, 42, 127], dtype=torch.int8)
QUADRATIC = {
    "gptq": gptq,
    "gptq in order": partial(gptq, act_order=False),
    "coordinate_descent": coordinate_descent,
    "adaround": adaround,
    "descent from adaround": partial(coordinate_descent, start=adaround),
}
ALL = {"nearest": nearest, "squant": squant, **QUADRATIC}


def correlated(groups: int, n: int, seed: int = 0) -> InputMoments:
    """Inputs that share a common part, as pixels next to each other do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, 400, n, generator=generator) + 1.5 * torch.randn(groups, 400, 1, generator=generator)
    return InputMoments(x.mean(1), torch.stack([rows.T.cov(correction=0) for rows in x]))


def weights(*shape: int, seed: int = 0) -> Tensor:
    return 2.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(codes: Tensor, values: Tensor, moments: InputMoments) -> Tensor:
    """Error variance of each output, ``[O]``."""
    difference = (codes - values).reshape(len(moments.mean), -1, moments.mean.shape[1])
    return torch.einsum("grn,gnm,grm->gr", difference, moments.covariance, difference).flatten()


@pytest.mark.parametrize(
    "levels", [uniform_levels(2), uniform_levels(4), CODEBOOK], ids=["ternary", "4 bits", "codebook"]
)
@pytest.mark.parametrize("name", ALL)
def test_codes_are_levels_in_the_shape_of_the_weights(name, levels):
    values = weights(4, 2, 3, 3) * float(levels.max()) / 5
    codes = ALL[name](values, levels, lambda: correlated(1, 18))
    assert codes.shape == values.shape
    assert torch.isin(codes, levels.float()).all()


@pytest.mark.parametrize("name", ALL)
def test_weights_on_the_grid_stay(name):
    values = torch.randint(-3, 4, (6, 2, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(ALL[name](values, uniform_levels(3), lambda: correlated(1, 18)), values)


@pytest.mark.parametrize("name", QUADRATIC)
def test_uncorrelated_inputs_leave_nothing_better_than_the_nearest_level(name):
    values = weights(8, 12)
    moments = InputMoments(torch.zeros(1, 12), torch.eye(12).unsqueeze(0))
    levels = uniform_levels(3)
    assert torch.equal(QUADRATIC[name](values, levels, lambda: moments), nearest(values, levels, lambda: moments))


@pytest.mark.parametrize("levels", [uniform_levels(4), CODEBOOK], ids=["4 bits", "codebook"])
@pytest.mark.parametrize("name", QUADRATIC)
def test_correlated_inputs_halve_the_error_of_rounding_to_nearest(name, levels):
    values, moments = weights(16, 3, 3, 3) * float(levels.max()) / 7, correlated(1, 27)
    found = error(QUADRATIC[name](values, levels, lambda: moments), values, moments).sum()
    assert found < 0.5 * error(nearest(values, levels, lambda: moments), values, moments).sum()


@pytest.mark.parametrize("groups", [1, 4])
def test_coordinate_descent_leaves_no_single_move_that_helps(groups):
    values, moments, levels = weights(8, 6), correlated(groups, 6), uniform_levels(3)
    codes = coordinate_descent(values, levels, lambda: moments, damping=0.0)
    before = error(codes, values, moments)
    for index in range(6):
        for step in (-1, 1):
            moved = codes.clone()
            moved[:, index] += step
            legal = moved.abs().amax(1) <= 3
            assert (error(moved, values, moments)[legal] >= before[legal] - 1e-4).all()


def test_coordinate_descent_is_near_the_best_of_all_codes():
    values, moments, levels = weights(5, 6) / 2.5, correlated(1, 6), uniform_levels(2)
    choices = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=6)))
    best = torch.stack([error(choices, row.expand_as(choices), moments).min() for row in values])
    found = error(coordinate_descent(values, levels, lambda: moments, damping=0.0), values, moments)
    assert (found >= best - 1e-5).all()
    assert found.sum() <= 1.2 * best.sum()


def test_coordinate_descent_is_never_worse_than_its_start():
    values, moments, levels = weights(20, 18), correlated(1, 18), uniform_levels(3)
    for start in (nearest, gptq, adaround):
        found = coordinate_descent(values, levels, lambda: moments, start=start, damping=0.0)
        assert (
            error(found, values, moments) <= error(start(values, levels, lambda: moments), values, moments) + 1e-4
        ).all()


@pytest.mark.parametrize("name", QUADRATIC)
def test_groups_are_rounded_alone(name):
    values, moments, levels = weights(6, 9), correlated(3, 9), uniform_levels(4)
    together = QUADRATIC[name](values, levels, lambda: moments)
    in_order = {"gptq": QUADRATIC["gptq in order"]}.get(name, QUADRATIC[name])
    if name in ("coordinate_descent", "descent from adaround"):
        in_order = partial(in_order, start=QUADRATIC["gptq in order"] if name == "coordinate_descent" else adaround)
    for group in range(3):
        alone = InputMoments(moments.mean[group : group + 1], moments.covariance[group : group + 1])
        rows = slice(2 * group, 2 * group + 2)
        assert torch.equal(in_order(values[rows], levels, lambda alone=alone: alone), together[rows])


@pytest.mark.parametrize("name", ALL)
def test_a_method_gives_the_same_codes_again(name):
    values, moments, levels = weights(4, 2, 3, 3), correlated(1, 18), uniform_levels(3)
    assert torch.equal(*(ALL[name](values, levels, lambda: moments) for _ in range(2)))


def test_squant_keeps_the_sum_of_every_kernel_and_channel():
    values = weights(8, 5, 3, 3).clamp(-6.4, 6.4)
    difference = squant(values, uniform_levels(4), _unused) - values
    assert difference.abs().max() < 1.5
    # A kernel may give one step to the sum of its channel.
    assert difference.sum((2, 3)).abs().max() <= 1.5
    assert difference.sum((1, 2, 3)).abs().max() <= 0.5 + 1e-4
    plain = nearest(values, uniform_levels(4), _unused) - values
    assert plain.sum((1, 2, 3)).abs().max() > 0.6


def test_squant_moves_only_weights_whose_error_has_the_sign_of_the_sum():
    values = weights(6, 4, 3, 3).clamp(-6.4, 6.4)
    codes, plain = squant(values, uniform_levels(4), _unused), nearest(values, uniform_levels(4), _unused)
    moved = codes != plain
    assert moved.any()
    low, high = neighbours(values, uniform_levels(4))
    assert ((codes == low) | (codes == high)).all()


def test_squant_stays_on_the_grid_where_weights_saturate():
    values = weights(4, 3, 3, 3) * 5
    assert squant(values, uniform_levels(2), _unused).abs().max() <= 1


def test_squant_of_a_hand_made_kernel():
    """Errors -0.4, -0.45, 0.1: their sum of -0.75 is nearer to 0 with the second weight moved up."""
    values = torch.tensor([[[[1.4, 2.45, 0.9]]]])
    assert squant(values, uniform_levels(4), _unused).flatten().tolist() == [1.0, 3.0, 1.0]


def test_soft_shares_invert_and_saturate():
    shares = torch.linspace(0, 1, 11)
    torch.testing.assert_close(soft_share(soft_logits(shares)), shares, rtol=0, atol=1e-6)
    assert soft_share(torch.tensor([-20.0, 20.0])).tolist() == [0.0, 1.0]


def _unused() -> InputMoments:
    raise AssertionError("a data-free method asked for moments")
