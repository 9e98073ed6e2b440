"""Predictions of a measure in closed form that depends on losses as networks' accuracies do."""

import numpy as np

from hwsearch.search.surrogate import Surrogate, features

LOSSES = [np.outer(4.0 ** -np.arange(2, 9), [weight, weight / 3]) for weight in (4.0, 1.0, 2.0, 0.5)]
SURPRISE = np.array([3.0, 0.5, 1.0, 1.0])
"""How wrong predicted losses are, by group."""


def draw(seed, count):
    chosen = np.random.default_rng(seed).integers(0, 7, (count, len(LOSSES)))
    true = sum(
        factor * group.sum(axis=1)[column] for factor, group, column in zip(SURPRISE, LOSSES, chosen.T, strict=True)
    )
    return features(LOSSES, chosen), 100 * np.exp(-true)


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


def test_it_corrects_what_sensitivities_predict():
    (seen, values), (new, truth) = draw(0, 60), draw(1, 200)
    line = np.polyval(np.polyfit(seen.loss, values, 2), new.loss)
    mean, deviation = Surrogate(seen, values).predict(new)
    assert rms(mean - truth) < 0.6 * rms(line - truth)
    assert 0.8 < np.mean(np.abs(mean - truth) < 2 * deviation) <= 1


def test_what_was_judged_is_nearly_certain():
    seen, values = draw(0, 30)
    mean, deviation = Surrogate(seen, values).predict(seen)
    assert rms(mean - values) < 0.1 * values.std()
    assert deviation.max() < 0.5 * values.std()


def test_one_judged_candidate_is_enough_to_begin():
    seen, values = draw(0, 1)
    mean, deviation = Surrogate(seen, values).predict(draw(1, 5)[0])
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()


def test_features_of_losses_that_are_all_zero_are_finite():
    found = features([np.zeros((2, 2))], np.array([[0], [1]]))
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.position).all()
