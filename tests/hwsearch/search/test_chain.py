"""The default proposer on a space that can be enumerated, judged in closed form."""

from itertools import product
from math import inf

import numpy as np
import pandas as pd
import pytest

from hwsearch.pareto import hypervolume
from hwsearch.search import Constraint, canonical, search_precisions, trials_table
from hwsearch.search.chain import Chain

OBJECTIVES = ["top1", "latency_s"]


@pytest.fixture
def reference(small):
    return {"top1": 80.0, "latency_s": small.price(small.space.uniforms()[0])["latency_s"]}


@pytest.fixture
def make_chain(small, sensitivities, reference):
    def make(**options):
        arguments = {"objectives": OBJECTIVES, "reference_point": reference, "sampler_every": 1000, **options}
        return Chain(small.space, small.price, sensitivities, **arguments)

    return make


@pytest.fixture
def measure(small, judge):
    def measured(*configs):
        return {canonical(c): {"top1": judge.top1(c), "kl": 1 - judge.top1(c) / 100, **small.price(c)} for c in configs}

    return measured


def every_config(space):
    for chosen in product(*(group.precisions for group in space.groups)):
        yield space.config({group.name: p for group, p in zip(space.groups, chosen, strict=True)})


def proposals(chain, measure, space, count):
    judged = measure(*space.uniforms())
    found = []
    while len(found) < count:
        found.append(chain.propose(judged, ()))
        judged |= measure(found[-1])
    return found, judged


def test_few_proposals_find_the_front(small, make_chain, measure, reference):
    _, judged = proposals(make_chain(), measure, small.space, 20)
    every = pd.DataFrame(list(measure(*every_config(small.space)).values()))
    best = hypervolume(every, OBJECTIVES, reference)
    assert hypervolume(pd.DataFrame(list(judged.values())), OBJECTIVES, reference) > 0.99 * best


def test_proposals_are_new_and_the_same_again(small, make_chain, measure):
    first, _ = proposals(make_chain(), measure, small.space, 8)
    again, _ = proposals(make_chain(), measure, small.space, 8)
    assert first == again
    assert len({canonical(config) for config in first}) == 8


def test_a_proposal_depends_on_what_was_judged_and_nothing_else(small, make_chain, measure):
    used = make_chain()
    proposals(used, measure, small.space, 5)
    judged = measure(*small.space.uniforms())
    assert used.propose(judged, ()) == make_chain().propose(judged, ())


def test_what_others_are_judging_is_not_proposed(small, make_chain, measure):
    chain, judged = make_chain(), measure(*small.space.uniforms())
    first = chain.propose(judged, ())
    second = chain.propose(judged, [canonical(first)])
    assert second not in (None, first)


def test_bounds_are_kept(small, make_chain, measure):
    bound = 1.2 * small.price(small.space.narrowest)["size_bytes"]
    chain = make_chain(constraints=[Constraint("size_bytes", bound)])
    found, _ = proposals(chain, measure, small.space, 8)
    assert all(small.price(config)["size_bytes"] <= bound for config in found)


def test_a_divergence_is_minimized(small, make_chain, measure):
    chain = make_chain(objectives=["kl", "size_bytes"], reference_point={"kl": 0.2, "size_bytes": 1e5})
    found, judged = proposals(chain, measure, small.space, 12)
    assert min(judged[canonical(config)]["kl"] for config in found) < 0.01


def test_agreement_with_float_is_maximized_as_top1_is(small, make_chain, measure, reference):
    by_top1, _ = proposals(make_chain(), measure, small.space, 3)
    renamed = {"agreement" if name == "top1" else name: value for name, value in reference.items()}

    def agreeing(*configs):
        return {key: {**found, "agreement": found["top1"]} for key, found in measure(*configs).items()}

    chain = make_chain(objectives=["agreement", "latency_s"], reference_point=renamed)
    assert proposals(chain, agreeing, small.space, 3)[0] == by_top1


def test_some_choices_and_those_without_a_measure_are_left_to_the_sampler(small, make_chain, measure):
    judged = measure(*small.space.uniforms())
    assert make_chain(sampler_every=len(judged)).propose(judged, ()) is None
    assert make_chain(objectives=["latency_s", "size_bytes"], reference_point=None).propose(judged, ()) is None


def test_what_does_not_fit_is_neither_proposed_nor_on_the_front(small, sensitivities, measure, judge):
    """Whatever has more than 5 bits per weight and activation takes forever, which no objective shows."""

    def price(config):
        costs = small.price(config)
        fits = np.mean([(p.weight_bits + p.activation_bits) / 2 for p in config.values()]) <= 5
        return costs if fits else {**costs, "latency_s": inf}

    def measured(*configs):
        return {canonical(config): {"top1": judge.top1(config), **price(config)} for config in configs}

    objectives, reference = ["top1", "size_bytes"], {"top1": 80.0, "size_bytes": 1e5}
    chain = Chain(
        small.space, price, sensitivities, objectives=objectives, reference_point=reference, sampler_every=1000
    )
    judged = measured(*small.space.uniforms())
    for _ in range(12):
        proposal = chain.propose(judged, ())
        if proposal is None:  # nothing is left to gain
            break
        assert price(proposal)["latency_s"] < inf
        judged |= measured(proposal)
    fitting = [costs for costs in measured(*every_config(small.space)).values() if costs["latency_s"] < inf]
    best = hypervolume(pd.DataFrame(fitting), objectives, reference)
    seen = pd.DataFrame([costs for costs in judged.values() if costs["latency_s"] < inf])
    assert hypervolume(seen, objectives, reference) > 0.99 * best


def test_nothing_is_proposed_before_anything_was_judged(make_chain):
    assert make_chain().propose({}, ()) is None


def test_everything_judged_leaves_nothing_to_propose(tiny, sensitivities, measure, judge):
    chain = Chain(tiny.space, tiny.price, sensitivities, objectives=OBJECTIVES, sampler_every=1000)
    judged = {
        canonical(config): {"top1": judge.top1(config), **tiny.price(config)} for config in every_config(tiny.space)
    }
    assert chain.propose(judged, ()) is None


def test_a_search_with_a_chain_beats_random_choices(small, make_chain, judge, reference):
    def found(proposer, seed):
        study = search_precisions(
            small.space,
            small.price,
            judge,
            objectives=OBJECTIVES,
            reference_point=reference,
            proposer=proposer,
            n_trials=20,
            seed=seed,
        )
        trials = trials_table(study, small.space)
        return hypervolume(trials[trials["state"] == "complete"], OBJECTIVES, reference)

    plain = np.mean([found(None, seed) for seed in range(3)])
    assert np.mean([found(make_chain(seed=seed, sampler_every=10), seed) for seed in range(3)]) > plain
