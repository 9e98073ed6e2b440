"""Estimates of a measure on all images from the first ones."""

import numpy as np
import pytest

from hwsearch.judging.racing import estimate


def drawn(rng, images, share):
    return (rng.random(images) < share).astype(np.float32)


def test_on_all_images_the_estimate_is_the_mean():
    rng = np.random.default_rng(0)
    correct, references = drawn(rng, 200, 0.7), np.stack([drawn(rng, 200, 0.9) for _ in range(3)])
    found = estimate(correct, references)
    assert found.mean == pytest.approx(correct.mean())
    assert found.deviation == 0


def test_the_bounds_are_wald_plus_2_by_hand():
    """90 of 100 images are right for the reference; of the first 20 it and the candidate differ on 5, one of them gained."""
    reference = np.ones(100, np.float32)
    reference[10:20] = 0
    correct = reference[:20].copy()
    correct[:4] = 0
    correct[10] = 1
    found = estimate(correct, reference[None])
    assert found.mean == pytest.approx(0.9 - 3 / 20)
    deviation = np.sqrt(5 + 1 - 9 / 22) / 22 * np.sqrt(80 / 99)
    assert found.at_most(2) == pytest.approx(0.9 - 3 / 22 + 2 * deviation)
    assert found.at_least(2) == pytest.approx(0.9 - 3 / 22 - 2 * deviation)


def test_a_candidate_without_differences_may_still_differ():
    reference = drawn(np.random.default_rng(0), 100, 0.9)
    found = estimate(reference[:10], reference[None])
    assert found.at_least(1) < reference.mean() < found.at_most(1)


def test_the_most_similar_network_is_compared_with():
    rng = np.random.default_rng(0)
    alike, other = drawn(rng, 4000, 0.8), drawn(rng, 4000, 0.8)
    correct = alike[:1000].copy()
    correct[:20] = 1 - correct[:20]
    both, one, far = (estimate(correct, of) for of in (np.stack([other, alike]), alike[None], other[None]))
    assert both.mean == pytest.approx(one.mean, abs=1e-3)  # the other one tells nothing more
    assert both.deviation == pytest.approx(one.deviation, rel=0.01)
    assert both.deviation < far.deviation / 3


def test_a_measure_may_be_0_for_all():
    """Divergences of wide candidates vanish; that of the others on these images may, or may not."""
    references = np.zeros((4, 100), np.float32)
    references[2:, 5] = 0.5
    for seen in (references, references[:2]):
        found = estimate(np.zeros(20, np.float32), seen)
        assert found.mean == 0
        assert found.at_least(2) == 0


def mixture(rng, networks):
    """A candidate that errs on an image as one of several networks does, each time another one."""
    references = np.stack([drawn(rng, 2000, 0.8) for _ in range(networks)])
    return references[rng.integers(networks, size=2000), np.arange(2000)], references


def test_several_networks_tell_more_than_one():
    rng = np.random.default_rng(0)
    candidate, references = mixture(rng, 4)
    one, all_of_them = (estimate(candidate[:500], references[:count]) for count in (1, 4))
    assert all_of_them.deviation < 0.9 * one.deviation


def proportions(rng):
    reference = drawn(rng, 800, 0.9)
    return np.abs(reference - drawn(rng, 800, 0.1)), reference[None]


def mixtures(rng):
    return mixture(rng, 8)


def strangers(rng):
    """As many as may predict, of which none tells anything."""
    return drawn(rng, 800, 0.8), np.stack([drawn(rng, 800, 0.8) for _ in range(40)])


def divergences(rng):
    """Skewed as those of networks are: few images make most of the mean."""
    reference = rng.lognormal(-4, 2, 800)
    return (reference * rng.lognormal(0.2, 0.5, 800)).astype(np.float32), reference.astype(np.float32)[None]


@pytest.mark.parametrize(("networks", "sign"), [(proportions, 1), (mixtures, 1), (strangers, 1), (divergences, -1)])
def test_candidates_are_rarely_better_than_the_bound(networks, sign):
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(1000):
        candidate, references = networks(rng)
        found = estimate(candidate[:100], references)
        bound = found.at_most(2) if sign > 0 else found.at_least(2)
        passed += sign * candidate.mean() > sign * bound
    assert passed <= 50  # one side of two standard deviations is 2.3 % of a normal distribution
