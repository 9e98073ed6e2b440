"""Estimates of accuracy from the first images."""

import numpy as np
import pytest

from hwsearch.judging.racing import estimate


def test_on_all_images_the_estimate_is_the_accuracy():
    rng = np.random.default_rng(0)
    correct, references = rng.random(200) < 0.7, rng.random((3, 200)) < 0.9
    found = estimate(correct, references, 2.0)
    assert found.top1 == pytest.approx(100 * correct.mean())


def test_the_bound_is_wald_plus_2_by_hand():
    """90 of 100 images are right for the reference; of the first 20 it and the candidate differ on 5, one of them gained."""
    reference = np.ones(100, bool)
    reference[10:20] = False
    correct = reference[:20].copy()
    correct[:4] = False
    correct[10] = True
    found = estimate(correct, reference[None], 2.0)
    assert found.top1 == pytest.approx(100 * (0.9 - 3 / 20))
    deviation = np.sqrt(5 + 1 - 9 / 22) / 22 * np.sqrt(80 / 99)
    assert found.upper == pytest.approx(100 * (0.9 - 3 / 22 + 2 * deviation))


def test_the_most_similar_network_is_compared_with():
    rng = np.random.default_rng(0)
    alike = rng.random(400) < 0.8
    other = rng.random(400) < 0.8
    correct = alike[:100].copy()
    correct[:2] = ~correct[:2]
    both, one = (estimate(correct, references, 2.0) for references in (np.stack([other, alike]), alike[None]))
    assert both == one
    assert both.upper < estimate(correct, other[None], 2.0).upper


def test_the_bound_is_rarely_passed():
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(1000):
        reference = rng.random(800) < 0.9
        candidate = reference ^ (rng.random(800) < 0.1)
        passed += 100 * candidate.mean() > estimate(candidate[:100], reference[None], 2.0).upper
    assert passed <= 50  # one side of two standard deviations is 2.3 %
