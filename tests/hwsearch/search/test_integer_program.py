"""The integer program against brute force and against published solutions."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hwsearch.search.integer_program import Budget, least_loss

HAWQ_V3 = Path(__file__).parents[4] / "shared" / "fixtures" / "hawq_v3_resnet18.json"
BITS = (4, 8)


def total(per_choice, chosen):
    return sum(values[choice] for values, choice in zip(per_choice, chosen, strict=True))


@pytest.mark.parametrize("seed", range(10))
def test_it_finds_what_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 6)
    losses, first, second = ([rng.random(size) for size in sizes] for _ in range(3))
    budgets = [
        Budget(costs, rng.uniform(0.3, 0.9) * sum(choices.max() for choices in costs)) for costs in (first, second)
    ]
    feasible = [
        chosen
        for chosen in product(*map(range, sizes))
        if all(total(budget.costs, chosen) <= budget.bound for budget in budgets)
    ]
    expected = min(feasible, key=lambda chosen: total(losses, chosen), default=None)
    assert least_loss(losses, budgets) == (list(expected) if expected else None)


def test_without_a_budget_every_group_takes_its_least_loss():
    assert least_loss([np.array([2.0, 1.0]), np.array([0.0, 3.0, 1.0])], []) == [1, 0]


def test_a_budget_that_nothing_keeps_gives_nothing():
    assert least_loss([np.array([1.0, 0.0])], [Budget([np.array([5.0, 6.0])], 4.9)]) is None


def test_costs_of_microseconds_are_kept_exactly():
    costs = [np.array([1e-6, 2e-6])] * 3
    losses = [np.array([weight, 0.0]) for weight in (3.0, 2.0, 1.0)]
    assert least_loss(losses, [Budget(costs, 5e-6)]) == [1, 1, 0]


def test_a_solver_that_gives_up_says_why():
    rng = np.random.default_rng(0)
    losses, costs = ([rng.random(30) for _ in range(200)] for _ in range(2))
    with pytest.raises(ValueError, match=r"over 200 decisions .* was not solved: Time limit reached"):
        least_loss(losses, [Budget(costs, 60.0), Budget(losses[::-1], 60.0)], time_limit_s=0.0)


def hawq_v3():
    if not HAWQ_V3.exists():
        pytest.skip(f"needs {HAWQ_V3}")
    return json.loads(HAWQ_V3.read_text())


def hawq_costs(layers, kind):
    """Cost of 4 and 8 bits in every layer, in the units of the publication."""
    if kind == "latency":
        return list(np.stack([layers["latency_int4"], layers["latency_int8"]], axis=1))
    if kind == "modelsize":
        return [count * np.array(BITS) / 8 for count in layers["parameters"]]
    return [macs * np.array(BITS) ** 2 for macs in layers["bops"]]


@pytest.mark.parametrize("share", ["0.75", "0.5", "0.25"])
@pytest.mark.parametrize("kind", ["modelsize", "bops", "latency"])
def test_hawq_v3_published_configurations(kind, share):
    """Yao et al. 2021: all nine of ResNet-18, bit for bit."""
    fixture = hawq_v3()
    layers = {name: np.array(values) for name, values in fixture["per_layer"].items()}
    squares = np.stack([layers[f"delta_weights_{bits}bit_square"] for bits in BITS], axis=1)
    losses = list(layers["Hutchinson_trace"][:, np.newaxis] * squares)
    costs = hawq_costs(layers, kind)
    least, most = (sum(choices[i] for choices in costs) for i in (0, 1))
    tied = {layer: group[0] for group in fixture["tied_layers"] for layer in group}
    owners = [tied.get(layer, layer) for layer in range(len(losses))]
    groups = sorted(set(owners))
    members = [[layer for layer, owner in enumerate(owners) if owner == group] for group in groups]
    chosen = least_loss(
        [sum(losses[layer] for layer in group) for group in members],
        [Budget([sum(costs[layer] for layer in group) for group in members], least + float(share) * (most - least))],
    )
    bits = {group: str(BITS[choice]) for group, choice in zip(groups, chosen, strict=True)}
    found = "".join(bits[owner] for owner in owners)
    assert found == fixture["published"][f"bit_config_resnet18_{kind}_{share}"]
