"""Menus and predicted fronts on a small network and real devices."""

from itertools import product
from math import inf

import numpy as np
import pytest

from cost_models import NetworkSpec, Precision, load_device
from hwsearch.costs import cost_table, pricing
from hwsearch.search import Constraint, build_space, canonical
from hwsearch.search.menu import build_menu
from hwsearch.search.programs import least_predicted_loss, predicted_front


@pytest.fixture
def menu(small, sensitivities):
    return build_menu(small.space, small.price, sensitivities, ["latency_s", "size_bytes"])


def every_candidate(menu):
    return np.array(list(product(*(range(len(choices)) for choices in menu.choices))))


def predicted(menu, chosen):
    return sum(group.sum(axis=1)[column] for group, column in zip(menu.losses, chosen.T, strict=True))


def test_totals_are_prices_where_costs_add_up(small, menu):
    candidates = every_candidate(menu)
    for measure in ("latency_s", "size_bytes"):
        exact = [small.price(menu.config(chosen))[measure] for chosen in candidates]
        assert menu.total(measure, candidates) == pytest.approx(exact, rel=1e-12)


def test_a_configuration_has_its_number_back(menu):
    for chosen in every_candidate(menu)[::17]:
        assert menu.number(canonical(menu.config(chosen))) == tuple(chosen)


def test_a_configuration_off_the_menu_has_no_number(menu):
    config = menu.config([0, 0, 0]) | {"fc": Precision(5, 8)}
    assert menu.number(canonical(config)) is None


def test_neighbours_are_one_step_in_one_decision_away(menu):
    start = np.array([[0, 3, 5]])
    found = menu.neighbours(start)
    assert (np.count_nonzero(found != start, axis=1) == 1).all()
    assert {tuple(choice) for choice in found} >= {(1, 3, 5), (0, 1, 5), (0, 3, 4)}
    assert len(found) == len(np.unique(found, axis=0)) == 3 + 5 + 3


def test_the_predicted_front_is_not_dominated_by_any_candidate(menu):
    front = predicted_front(menu, ["latency_s"], (), 16)
    candidates = every_candidate(menu)
    losses, costs = predicted(menu, candidates), menu.total("latency_s", candidates)
    assert len(front) > 3
    for loss, cost in zip(predicted(menu, front), menu.total("latency_s", front), strict=True):
        assert not ((losses < loss * (1 - 1e-6)) & (costs <= cost)).any()


def test_the_predicted_front_keeps_bounds(menu):
    bound = float(menu.base["size_bytes"] * 1.5)
    front = predicted_front(menu, ["latency_s"], [Constraint("size_bytes", bound)], 8)
    assert len(front)
    assert (menu.total("size_bytes", front) <= bound).all()


def test_two_costs_are_traded_off_for_each_other(menu):
    one = predicted_front(menu, ["latency_s"], (), 8)
    both = predicted_front(menu, ["latency_s", "size_bytes"], (), 8)
    assert {tuple(chosen) for chosen in both} > {tuple(chosen) for chosen in one}


def test_bounds_that_nothing_keeps_leave_an_empty_front(menu):
    assert predicted_front(menu, ["latency_s"], [Constraint("size_bytes", 1.0)], 4).shape == (0, 3)


def test_least_predicted_loss_is_that_of_brute_force(small, menu):
    bound = Constraint("latency_s", float(np.median(menu.total("latency_s", every_candidate(menu)))))
    config = least_predicted_loss(menu, small.price, [bound])
    candidates = every_candidate(menu)
    feasible = candidates[menu.total("latency_s", candidates) <= bound.bound]
    number = np.array([menu.number(canonical(config))])
    assert predicted(menu, number)[0] == pytest.approx(predicted(menu, feasible).min())


def test_bounds_hold_where_costs_do_not_add_up(layers, hardware, sensitivities):
    device = load_device(hardware / "finn_zynq_7020.yaml")
    assert not device.additive
    space = build_space(layers, device, weight_bits=[2, 4], activation_bits=[2, 4])
    network = NetworkSpec.chain(layers)
    price = pricing(cost_table(layers, device), network, device)
    menu = build_menu(space, price, sensitivities, ["latency_s"])
    latencies = [price(menu.config(chosen))["latency_s"] for chosen in every_candidate(menu)]
    bound = Constraint("latency_s", float(np.median(latencies)))
    assert price(least_predicted_loss(menu, price, [bound]))["latency_s"] <= bound.bound


def test_solutions_fit_the_device(small, menu):
    """A memory of so many bytes, beyond which the latency is infinite, while neither bound is in the way."""
    capacity = float(np.median(menu.total("size_bytes", every_candidate(menu))))

    def price(config):
        costs = small.price(config)
        return costs if costs["size_bytes"] <= capacity else {**costs, "latency_s": inf}

    bounds = [Constraint("size_bytes", 1e9), Constraint("latency_s", 1.0)]
    config = least_predicted_loss(menu, price, bounds)
    assert price(config)["latency_s"] < inf
    candidates = every_candidate(menu)
    fitting = candidates[menu.total("size_bytes", candidates) <= capacity]
    (found,) = predicted(menu, np.array([menu.number(canonical(config))]))
    assert found <= np.quantile(predicted(menu, fitting), 0.1)


def test_a_choice_that_never_fits_is_not_on_the_menu(small, sensitivities):
    def price(config):
        costs = small.price(config)
        return {**costs, "latency_s": inf} if config["fc"].weight_bits == 8 else costs

    menu = build_menu(small.space, price, sensitivities, ["size_bytes"])
    assert {p.weight_bits for p in menu.choices[-1]} == {2, 4}


def test_a_layer_without_a_sensitivity_is_named(small, sensitivities):
    with pytest.raises(
        ValueError, match=r"^There is no sensitivity of layers \['fc'\] for weights of 2 bits uniform\.$"
    ):
        build_menu(small.space, small.price, sensitivities[sensitivities["layer"] != "fc"], ["latency_s"])
