"""Real Optuna samplers on real cost models: how many, which, in what order, and never twice."""

from collections import Counter
from itertools import product
from math import nan

import numpy as np
import optuna
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from cost_models import NetworkSpec, Precision, load_device
from hwsearch.costs import cost_table, pricing
from hwsearch.search import (
    Constraint,
    build_space,
    canonical,
    complete_trials,
    judged_configs,
    search_precisions,
    trials_table,
)
from hwsearch.search.candidates import unjudged_neighbour

from .conftest import SAMPLERS, Problem

TWO = ("top1", "latency_s")
THREE = ("top1", "latency_s", "energy_j")

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(params=SAMPLERS, ids=lambda path: path.stem)
def make_sampler(request):
    config = OmegaConf.load(request.param)
    return lambda seed: instantiate(config, _convert_="all", seed=seed)


def run(problem, judge, **options):
    return search_precisions(problem.space, problem.price, judge, **options)


def check(study, problem, judge, n_trials):
    """Exactly ``n_trials`` distinct configurations, each judged once, the uniform ones among them, none left over."""
    configs = judged_configs(study, problem.space)
    keys = {canonical(config) for config in configs.values()}
    assert len(configs) == len(keys) == n_trials
    assert judge.calls == Counter(dict.fromkeys(keys, 1))
    assert {canonical(config) for config in problem.space.uniforms()} <= keys
    table = trials_table(study, problem.space)
    assert table["trial"].tolist() == list(range(len(study.trials)))
    assert set(table["state"]) <= {"complete", "duplicate"}
    return table


@pytest.mark.parametrize("objectives", [TWO, THREE], ids=len)
def test_every_sampler_ends_with_exactly_n_trials(make_sampler, small, judge, objectives):
    cost = small.price(small.space.uniform(Precision(4, 8)))
    constraints = [Constraint("size_bytes", cost["size_bytes"]), Constraint("top1", 90.0)]
    study = run(
        small, judge, objectives=objectives, constraints=constraints, make_sampler=make_sampler, n_trials=13, seed=3
    )
    check(study, small, judge, 13)
    for trial in complete_trials(study):
        measures = trial.user_attrs["measures"]
        config = judged_configs(study, small.space)[trial.number]
        assert measures == {"top1": judge.top1(config), **small.price(config)}
        assert trial.values == [measures[name] for name in objectives]


def test_same_seed_same_table_and_another_seed_another(make_sampler, small, new_judge):
    tables = [
        trials_table(run(small, new_judge(), make_sampler=make_sampler, n_trials=13, seed=seed), small.space)
        for seed in (0, 0, 1)
    ]
    first, again, other = (table.to_csv(index=False) for table in tables)
    assert first == again
    assert first != other
    assert tables[0][:5].equals(tables[2][:5])  # the uniform configurations come first


def test_every_sampler_exhausts_a_small_space_and_stops(make_sampler, layers, bit_fusion, judge):
    # A sampler does not know which configurations were judged: most of its last suggestions are duplicates. Of the 16,
    # TPE and GP choose the first ten at random.
    space = build_space(layers[:2], bit_fusion, weight_bits=[4, 8], activation_bits=[4, 8])
    problem = Problem(
        bit_fusion, space, pricing(cost_table(layers[:2], bit_fusion), NetworkSpec.chain(layers[:2]), bit_fusion)
    )
    study = run(problem, judge, make_sampler=make_sampler, n_trials=1000)
    check(study, problem, judge, 16)
    assert len(study.trials) <= 4 * 16  # three duplicates in a row, then a neighbour that is none


def test_every_sampler_exhausts_a_space_of_irregular_pairs(make_sampler, layers, judge):
    rate = {"macs_per_s": 1e9, "source": "sheet"}
    fields = {
        "_target_": "cost_models.Analytic",
        **{"name": "npu", "chip": "NPU", "runtime": "none", "batch": 1, "output_bits": 32, "overlap": "max"},
        **{"source": "sheet", "sources": {"sheet": {"kind": "datasheet", "cite": "round numbers"}}},
        "compute": [rate | {"weight_bits": w, "activation_bits": a} for w, a in ((4, 8), (8, 4), (8, 8))],
        "memory": [{"name": "dram", "bytes_per_s": 1e9, "source": "sheet"}],
    }
    device = load_device(fields)
    # The parameters of W4A4, which the device lacks, stand for W4A8 once more.
    space = build_space(layers[:2], device)
    problem = Problem(device, space, pricing(cost_table(layers[:2], device), NetworkSpec.chain(layers[:2]), device))
    check(run(problem, judge, make_sampler=make_sampler, n_trials=10), problem, judge, 9)


def test_brute_force_finds_every_configuration_without_a_duplicate(small, judge):
    study = run(small, judge, make_sampler=lambda seed: optuna.samplers.BruteForceSampler(seed=seed), n_trials=10**9)
    table = check(study, small, judge, 216)
    assert set(table["state"]) == {"complete"}
    every = {
        canonical(small.space.config(dict(zip([group.name for group in small.space.groups], choice, strict=True))))
        for choice in product(*(group.precisions for group in small.space.groups))
    }
    assert set(judge.calls) == every


def test_uniform_configurations_come_first_widest_first(small, judge):
    study = run(small, judge, n_trials=7)
    assert [config["fc"] for config in list(judged_configs(study, small.space).values())[:5]] == [
        Precision(8, 8),
        Precision(4, 4),
        Precision(4, 8),
        Precision(2, 4),
        Precision(2, 8),
    ]
    assert trials_table(study, small.space)["kind"].tolist() == 5 * ["uniform"] + 2 * ["mixed"]


def test_fewer_trials_than_uniform_configurations_are_refused(small, judge):
    with pytest.raises(ValueError) as error:
        run(small, judge, n_trials=4)
    assert str(error.value) == (
        "n_trials=4 is below the 5 uniform configurations that every table holds; set n_trials to at least 5."
    )
    check(run(small, judge, n_trials=5), small, judge, 5)


def test_duplicates_are_told_apart_and_not_judged(tiny, judge):
    study = run(tiny, judge, n_trials=8, seed=1)
    table = trials_table(study, tiny.space)
    duplicates = table[table["state"] == "duplicate"]
    assert len(duplicates) > 0
    assert duplicates[["top1", "latency_s", "energy_j", "size_bytes", "bops"]].isna().all(axis=None)
    configs = judged_configs(study, tiny.space)
    for number in duplicates["trial"]:
        trial = study.trials[number]
        assert trial.user_attrs["duplicate_of"] in configs
        assert trial.user_attrs["duplicate_of"] < number


def test_a_space_of_one_configuration_is_judged_once(layers, t4, judge):
    space = build_space(layers, t4, weight_bits=[8])
    study = search_precisions(space, pricing(cost_table(layers, t4), NetworkSpec.chain(layers), t4), judge, n_trials=10)
    assert judge.calls == {canonical(dict.fromkeys([layer.name for layer in layers], Precision(8, 8))): 1}
    assert len(study.trials) == 1


def test_an_unknown_cost_is_refused_as_objective_and_as_constraint(layers, small, judge):
    def price(config):
        return {**small.price(config), "energy_j": nan}

    message = "energy_j of trial 0 is unknown; choose objectives and constraints that are known."
    for options in ({"objectives": ("top1", "energy_j")}, {"constraints": [Constraint("energy_j", 1.0)]}):
        with pytest.raises(ValueError) as error:
            search_precisions(small.space, price, judge, n_trials=5, **options)
        assert str(error.value) == message
    study = search_precisions(small.space, price, judge, n_trials=5)
    assert study.trials[0].user_attrs["measures"]["energy_j"] is None
    assert trials_table(study, small.space)["energy_j"].isna().all()


def test_unknown_objectives_are_refused_before_any_work(small, judge):
    with pytest.raises(ValueError, match=r"^'flops' is no objective; choose from "):
        run(small, judge, objectives=("top1", "flops"), n_trials=5)
    assert not judge.calls


def test_infeasible_candidates_are_judged_and_marked(small, judge):
    bound = small.price(small.space.uniform(Precision(4, 8)))["size_bytes"]
    constraints = [Constraint("size_bytes", bound)]
    study = run(small, judge, constraints=constraints, n_trials=20)
    table = trials_table(study, small.space, constraints)
    complete = table[table["state"] == "complete"]
    assert len(complete) == 20
    assert (complete["feasible"] == (complete["size_bytes"] <= bound)).all()
    assert not complete["feasible"].all()
    assert table["feasible"].dtype == bool


@pytest.mark.parametrize(
    ("name", "n_trials"), [("tpe", 60), pytest.param("gp", 30, marks=pytest.mark.slow), ("nsga2", 60)]
)
def test_samplers_heed_constraints(small, new_judge, name, n_trials):
    # 13 in 27 of the configurations have no more bytes than this bound.
    config = OmegaConf.load(next(path for path in SAMPLERS if path.stem == name))
    bound = small.price(small.space.uniform(Precision(4, 8)))["size_bytes"]
    kept = []
    for constraints in ([], [Constraint("size_bytes", bound)]):
        study = run(
            small,
            new_judge(),
            constraints=constraints,
            make_sampler=lambda seed: instantiate(config, _convert_="all", seed=seed),
            n_trials=n_trials,
        )
        table = trials_table(study, small.space)
        kept.append((table[table["state"] == "complete"]["size_bytes"] <= bound).sum())
    assert kept[1] > kept[0]


def test_a_reference_point_keeps_the_search_above_it_but_is_no_constraint_of_the_user(small, new_judge):
    reference = {"top1": 85.0, **small.price(small.space.uniform(Precision(8, 8)))}
    kept = []
    for point in (None, reference):
        table = trials_table(run(small, new_judge(), reference_point=point, n_trials=40), small.space)
        kept.append((table["top1"] >= 85.0).sum())
        assert table["feasible"].eq(table["state"] == "complete").all()
    assert kept[1] > kept[0]


def test_a_neighbour_is_the_only_configuration_left(tiny, judge):
    configs = list(judged_configs(run(tiny, judge, n_trials=8), tiny.space).values())
    for left in configs:
        judged = {canonical(config): 0 for config in configs if config != left}
        for start in configs:
            assert unjudged_neighbour(tiny.space, start, judged, np.random.default_rng(0)) == left


def test_better_than_the_uniform_configurations(small, judge):
    """The search finds what it is for: a mixed configuration that a uniform one does not dominate."""
    study = run(small, judge, n_trials=40)
    table = trials_table(study, small.space)
    uniform = table[table["kind"] == "uniform"]
    front = {trial.number for trial in study.best_trials}
    mixed = table[(table["kind"] == "mixed") & table["trial"].isin(front)]
    assert len(mixed) > 0
    for _, row in mixed.iterrows():
        assert not ((uniform["top1"] >= row["top1"]) & (uniform["latency_s"] < row["latency_s"])).any()
