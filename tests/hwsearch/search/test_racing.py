"""Which candidates are not worth judging further."""

from math import inf

import pytest

from hwsearch.search import Constraint, canonical, judged_configs, search_precisions, trials_table
from hwsearch.search.judgement import Judgement
from hwsearch.search.racing import hopelessness

REFERENCE = {"top1": 80.0, "kl": 1.0, "agreement": 80.0, "size_bytes": 100.0}
COSTS = {"size_bytes": 50.0}
RIVALS = [{"top1": 90.0, "kl": 0.5, "agreement": 90.0, "size_bytes": 40.0}]
BEST = {"top1": 95.0, "kl": 0.1, "agreement": 95.0}


@pytest.mark.parametrize(
    ("measure", "as_good", "better"), [("top1", 90, 90.1), ("agreement", 90, 90.1), ("kl", 0.5, 0.49)]
)
def test_what_cannot_be_better_than_a_cheaper_rival_is_hopeless(measure, as_good, better):
    hopeless = hopelessness(COSTS, [measure, "size_bytes"], (), RIVALS, REFERENCE)
    assert hopeless({**BEST, measure: as_good})
    assert not hopeless({**BEST, measure: better})


def test_one_of_several_measures_is_enough_for_hope():
    hopeless = hopelessness(COSTS, ["top1", "kl", "size_bytes"], (), RIVALS, REFERENCE)
    assert hopeless({"top1": 89.0, "kl": 0.5})
    assert not hopeless({"top1": 89.0, "kl": 0.4})


def test_what_may_add_too_little_is_hopeless():
    """The rival covers half of the top1 and 0.6 of the cost; the candidate adds 0.5 of the cost times what it is better."""
    hopeless = hopelessness(COSTS, ["top1", "size_bytes"], (), RIVALS, REFERENCE, least_gain=0.1)
    needed = 0.1 * 0.5 * 0.6 * 20 / 0.5
    assert hopeless({"top1": 90 + needed - 0.01})
    assert not hopeless({"top1": 90 + needed + 0.01})


def test_what_lies_beyond_the_reference_point_is_hopeless():
    assert hopelessness(COSTS, ["top1", "size_bytes"], (), [], REFERENCE)({"top1": 79.9})
    assert not hopelessness(COSTS, ["top1", "size_bytes"], (), [], REFERENCE)({"top1": 80.1})
    assert hopelessness({"size_bytes": 101.0}, ["top1", "size_bytes"], (), [], REFERENCE)({"top1": 100.0})


def test_without_a_reference_point_only_bounds_leave_no_hope():
    hopeless = hopelessness(COSTS, ["top1", "size_bytes"], [Constraint("top1", 85.0)], RIVALS, {})
    assert not hopeless({"top1": 86.0})
    assert hopeless({"top1": 84.0})


def test_what_does_not_fit_is_hopeless():
    assert hopelessness({"latency_s": inf}, ["top1"], (), [], {})({"top1": 100.0})


def test_dropped_trials_are_told_apart_and_are_no_rivals(small, new_judge):
    """A judge that drops all that it may after 10 of 1000 images, with an estimate too good to be true."""
    uniforms = {canonical(config) for config in small.space.uniforms()}

    def judge(config, hopeless):
        found = {"top1": new_judge.top1(config)}
        if canonical(config) in uniforms:
            assert not hopeless({"top1": 0.0})
        elif hopeless(found):
            return Judgement({"top1": 99.9}, n=10, dropped=True)
        return Judgement(found, n=1000)

    study = search_precisions(
        small.space, small.price, judge, reference_point={"top1": 50.0, "latency_s": 1.0}, n_trials=40
    )
    trials = trials_table(study, small.space)
    dropped, complete = (trials[trials["state"] == state] for state in ("dropped", "complete"))
    assert len(dropped)
    assert not dropped["feasible"].any()
    assert set(dropped["images"]) == {10}
    assert set(dropped["kind"]) == {"mixed"}
    assert set(trials.loc[trials["kind"] == "uniform", "state"]) <= {"complete", "duplicate"}
    assert set(trials["state"]) <= {"complete", "dropped", "duplicate"}
    configs = judged_configs(study, small.space)
    for trial, latency_s in zip(dropped["trial"], dropped["latency_s"], strict=True):
        top1, before = new_judge.top1(configs[trial]), complete[complete["trial"] < trial]
        assert top1 <= 50 or ((before["top1"] >= top1) & (before["latency_s"] <= latency_s)).any()
    added = complete[complete["kind"] == "mixed"]
    cheaper = [
        ((dropped["trial"] < trial) & (dropped["latency_s"] <= latency_s)).any()
        for trial, latency_s in zip(added["trial"], added["latency_s"], strict=True)
    ]
    assert any(cheaper)  # which would have been hopeless beside a rival of 99.9 %
