"""Expected gains against the hypervolume itself and against sampling."""

import numpy as np
import pandas as pd
import pytest

from hwsearch.pareto import hypervolume
from hwsearch.search.improvement import improvement

REFERENCE = {"top1": 80.0, "latency_s": 1.0, "size_bytes": 1.0}
CERTAIN = np.array([1e-9])


def random_front(seed, costs):
    rng = np.random.default_rng(seed)
    return rng.uniform(75, 100, 12), rng.uniform(0.1, 1.1, (12, costs))


def gained(quality, costs, new_quality, new_costs):
    """Hypervolume that a candidate adds, in percent times shares of costs."""
    names = ["top1", "latency_s", "size_bytes"][: 1 + costs.shape[1]]
    before = pd.DataFrame(np.column_stack([quality, costs]), columns=names)
    after = pd.concat([before, pd.DataFrame([[new_quality, *new_costs]], columns=names)])
    reference = {name: REFERENCE[name] for name in names}
    return 20 * (hypervolume(after, names, reference) - hypervolume(before, names, reference))


@pytest.mark.parametrize("costs", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_certain_gains_hypervolume(seed, costs):
    quality, spent = random_front(seed, costs)
    rng = np.random.default_rng([seed, 1])
    new_quality, new_costs = float(rng.uniform(85, 100)), rng.uniform(0.1, 0.9, costs)
    front = improvement(quality, spent, worst=80, best=100)
    found = front.expected(np.array([new_quality]), CERTAIN, new_costs[np.newaxis])
    assert found[0] == pytest.approx(gained(quality, spent, new_quality, new_costs), abs=1e-6)


def test_what_is_uncertain_gains_the_mean():
    quality, spent = random_front(0, 1)
    front = improvement(quality, spent, worst=80, best=100)
    mean, deviation, cost = 96.0, 4.0, np.array([[0.3]])
    drawn = np.random.default_rng(1).normal(mean, deviation, 20_000).clip(max=100)
    sampled = front.expected(drawn, np.full(len(drawn), 1e-9), np.repeat(cost, len(drawn), axis=0)).mean()
    found = front.expected(np.array([mean]), np.array([deviation]), cost)[0]
    assert found == pytest.approx(sampled, rel=0.05)  # three standard errors of the sample


def test_nothing_is_gained_beyond_the_reference_point():
    front = improvement(np.array([90.0]), np.array([[0.5]]), worst=80, best=100)
    assert front.expected(np.array([99.0, 79.0]), np.full(2, 1e-9), np.array([[1.0], [0.1]])) == pytest.approx(0)


def test_without_costs_the_gain_is_over_the_best():
    front = improvement(np.array([90.0, 95.0]), np.zeros((2, 0)), worst=80, best=100)
    assert front.expected(np.array([97.0]), CERTAIN, np.zeros((1, 0)))[0] == pytest.approx(2)


def test_an_empty_front_gains_the_whole_box():
    front = improvement(np.zeros(0), np.zeros((0, 1)), worst=80, best=100)
    assert front.expected(np.array([90.0]), CERTAIN, np.array([[0.25]]))[0] == pytest.approx(10 * 0.75)
