"""Objectives and constraints that can't be, and bounds that nothing meets."""

from math import inf, nan

import pytest

from hwsearch.search import (
    MEASURES,
    Constraint,
    build_space,
    check_known,
    check_objectives,
    check_reachable,
    parse_constraints,
)

CHOICES = "['top1', 'kl', 'agreement', 'latency_s', 'energy_j', 'size_bytes', 'bops']"
KNOWN = {"latency_s": 1.0, "energy_j": nan, "size_bytes": 1.0, "bops": 1.0}


def refusal(function, *args):
    with pytest.raises(ValueError) as error:  # callers compare the whole message
        function(*args)
    return str(error.value)


@pytest.mark.parametrize("objectives", [["top1"], ["bops", "size_bytes"], list(MEASURES)])
def test_any_known_objectives_in_any_order_will_do(objectives):
    check_objectives(objectives)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([], f"objective.objectives is empty; choose from {CHOICES}."),
        (["top1", "flops"], f"'flops' is no objective; choose from {CHOICES}."),
        (["test_top1", "bops"], f"'test_top1' is no objective; choose from {CHOICES}."),
        (["top1", "bops", "top1"], "objective.objectives ['top1', 'bops', 'top1'] names one objective twice."),
    ],
)
def test_wrong_objectives_are_named(objectives, message):
    assert refusal(check_objectives, objectives) == message


def test_no_bound_is_no_constraint():
    assert parse_constraints(dict.fromkeys(MEASURES)) == ()
    assert parse_constraints({"top1": 90, "bops": None, "size_bytes": 1e5}) == (
        Constraint("top1", 90.0),
        Constraint("size_bytes", 1e5),
    )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"size_kb": 1}, f"constraints.size_kb is unknown; constraints bound {CHOICES}."),
        ({"size_kb": None}, f"constraints.size_kb is unknown; constraints bound {CHOICES}."),
        ({"latency_s": 0.0}, "constraints.latency_s=0 must be positive."),
        ({"energy_j": -1e-6}, "constraints.energy_j=-1e-06 must be positive."),
        ({"bops": nan}, "constraints.bops=nan must be positive."),
    ],
)
def test_wrong_constraints_are_named(bounds, message):
    assert refusal(parse_constraints, bounds) == message


@pytest.mark.parametrize(
    ("constraint", "value", "violation"),
    [
        (Constraint("size_bytes", 1000.0), 1000.0, 0.0),
        (Constraint("size_bytes", 1000.0), 1500.0, 0.5),
        (Constraint("latency_s", 0.004), 0.001, -0.75),
        (Constraint("top1", 90.0), 90.0, 0.0),
        (Constraint("top1", 90.0), 88.5, 0.015),
        (Constraint("top1", 90.0), 100.0, -0.1),
        (Constraint("bops", inf), 1e12, -1.0),
    ],
)
def test_violation_is_relative_to_the_bound_or_to_100_percent(constraint, value, violation):
    assert constraint.violation(value) == violation


def test_names_of_constraints_say_the_direction():
    assert Constraint("top1", 90.0).name == "top1 >= 90"
    assert Constraint("size_bytes", 100000.0).name == "size_bytes <= 100000"


def test_an_unknown_cost_is_refused_as_objective_and_as_constraint():
    message = "Hardware 'npu' does not know energy_j; it knows ['latency_s', 'size_bytes', 'bops']."
    assert refusal(check_known, ["top1", "energy_j"], (), KNOWN, "npu") == message
    assert refusal(check_known, ["top1", "latency_s"], [Constraint("energy_j", 1.0)], KNOWN, "npu") == message
    check_known(["top1", "latency_s"], [Constraint("top1", 90.0), Constraint("bops", 1.0)], KNOWN, "npu")


def least(problem, measure):
    """By brute force, with the configuration that has it."""
    config = min(
        (
            problem.space.config(dict(zip([g.name for g in problem.space.groups], choice, strict=True)))
            for choice in product_of(problem.space)
        ),
        key=lambda config: problem.price(config)[measure],
    )
    return problem.price(config)[measure], config


def product_of(space):
    found = [()]
    for group in space.groups:
        found = [(*rest, precision) for rest in found for precision in group.precisions]
    return found


@pytest.mark.parametrize("measure", ["latency_s", "energy_j", "size_bytes", "bops"])
def test_a_bound_is_refused_below_the_cheapest_configuration_only(small, measure):
    value, _ = least(small, measure)
    check_reachable(small.space, small.price, [Constraint(measure, value)])
    message = refusal(check_reachable, small.space, small.price, [Constraint(measure, value * 0.999)])
    assert message.startswith(
        f"No candidate meets constraints.{measure}={value * 0.999:g}: the nearest has {measure}={value:g}, with "
    )


def test_the_nearest_configuration_is_named(small, bit_fusion, layers):
    # 3*16*9 + 16*32*9 + 32*10 weights of 2 bits, 58 biases and scales of 4 bytes each
    assert refusal(check_reachable, small.space, small.price, [Constraint("size_bytes", 1000.0)]) == (
        "No candidate meets constraints.size_bytes=1000: the nearest has size_bytes=1804, with every layer at W2A4."
    )
    pinned = build_space(layers, bit_fusion, weight_bits=[2], activation_bits=[4], pinned={"first": "W8A8"})
    assert refusal(check_reachable, pinned, small.price, [Constraint("bops", 1000.0)]).endswith(
        ", with layers at W2A4, W8A8."
    )


def test_top1_is_known_only_after_the_search(small):
    check_reachable(small.space, small.price, [Constraint("top1", 101.0)])
