"""Searches that are compared with each other: one problem, several samplers, equal seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cost_models import BitConfig, CostModel, Precision, load_device
from hwsearch.cli.hydra_app import conf_dir
from hwsearch.cli.judging import requantization
from hwsearch.cli.proposing import build_proposer, build_sampler, proposes, sensitivities
from hwsearch.cli.schema import SearchConfig
from hwsearch.cli.setup import Task, activation_ranges, build, cache_dir, layer_database, load_task
from hwsearch.costs import Pricing, cost_table, pricing
from hwsearch.data import evenly_spaced, stratified_halves
from hwsearch.evaluate import Engine, FakeQuantNetwork
from hwsearch.graph import shared_inputs
from hwsearch.judging import SplitJudge, choose_engine
from hwsearch.pareto import hypervolume, reference_point
from hwsearch.quantize import ActivationRanges, LayerDatabase
from hwsearch.search import Group, Judge, SearchSpace, build_space, never, search_precisions, trials_table
from hwsearch.sensitivity import output_change


def composed(*overrides: str) -> SearchConfig:
    """The configuration of ``hwsearch search`` with these overrides."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        content: Any = OmegaConf.to_container(compose("config", [*overrides, "run_dir=."]), resolve=True)
    content.pop("experiment", None)
    return SearchConfig.model_validate(content)


@dataclass(frozen=True)
class Judged:
    """A quantized network and the images that judge its candidates.

    Attributes:
        config: What is searched.
        images: Of the search split; the whole of it if it has no more.
        choices: Of every layer; None: those of the configuration's space.
    """

    config: SearchConfig
    images: int
    choices: tuple[Precision, ...] | None = None

    @cached_property
    def task(self) -> Task:
        return load_task(self.config)

    @cached_property
    def space(self) -> SearchSpace:
        layers = self.task.network.layers
        if self.choices:
            return SearchSpace(tuple(Group(layer.name, (layer.name,), self.choices) for layer in layers))
        shared = shared_inputs(self.task.network)
        return build_space(layers, self.device, shared=shared, **self.config.space.arguments())

    @cached_property
    def device(self) -> CostModel:
        return load_device(self.config.hardware)

    @cached_property
    def price(self) -> Pricing:
        network = self.task.network
        return pricing(cost_table(network.layers, self.device), network.spec, self.device)

    @cached_property
    def database(self) -> LayerDatabase:
        return layer_database(self.config, self.task, self.space.precisions)

    @cached_property
    def ranges(self) -> ActivationRanges:
        return activation_ranges(self.config, self.task)

    @cached_property
    def split(self) -> Any:
        half, _ = stratified_halves(self.task.data.labels, self.config.data.split_seed)
        return half[evenly_spaced(len(half), self.images)]

    @cached_property
    def engine(self) -> Engine:
        precisions = {precision for group in self.space.groups for precision in group.precisions}
        return choose_engine(
            self.config.engine,
            self.task.network,
            self.database,
            self.ranges,
            precisions,
            images=len(self.split),
            batch_size=self.task.batch_size,
            cache_dir=cache_dir(self.config) / "kernels",
            requantization=requantization(self.device),
            reuse_bytes=self.config.reuse_bytes,
        )

    @cached_property
    def judge(self) -> SplitJudge:
        parts = [list(self.task.batches(self.split).parts())]
        return SplitJudge(self.engine, FakeQuantNetwork(self.task.network, {}, {}), parts)

    @cached_property
    def sensitivities(self) -> pd.DataFrame:
        return sensitivities(self.config, self.task, self.database, self.ranges, self.engine, self.space)

    @property
    def sensitivity_evaluations(self) -> float:
        """What sensitivities cost, in candidates judged: images run by images of the search split.

        Those that need no outputs of the quantized network run the float one once, gradients aside.
        """
        measure = build(self.config.sensitivity)
        images = min(measure.keywords["images"], len(self.task.calibration.inputs))
        widest = 2 * len(self.task.network.layers)  # of weights and of activations: one configuration in all
        runs = len(self.sensitivities) - widest + 1 if measure.func is output_change else 1
        return runs * images / len(self.split)

    def problem(self, objectives: Sequence[str]) -> "Problem":
        """To search."""
        eight = {layer.name: Precision(8, 8) for layer in self.task.network.layers}
        float_top1 = 100 * self.judge.float_correct / self.judge.n
        reference = reference_point(float_top1, self.price(eight))
        named = {name: reference[name] for name in objectives}
        return Problem(self.space, self.price, self.judge, objectives, named, self.sensitivities)


@dataclass(frozen=True)
class Problem:
    """What every sampler gets alike."""

    space: SearchSpace
    price: Callable[[BitConfig], Mapping[str, float]]
    judge: Judge
    objectives: Sequence[str]
    reference_point: Mapping[str, float]
    sensitivities: pd.DataFrame

    def found(self, sampler: Mapping[str, Any], n_trials: int, seed: int) -> pd.DataFrame:
        """Trials of one search, in order."""
        search = {"space": self.space, "price": self.price, "objectives": self.objectives}
        proposer = build_proposer(
            sampler,
            self.sensitivities if proposes(sampler) else None,
            reference_point=self.reference_point,
            seed=seed,
            **search,
        )
        study = search_precisions(
            **search,
            judge=lambda config, hopeless: self.judge(config, never),
            reference_point=self.reference_point,
            proposer=proposer,
            make_sampler=lambda number: build_sampler(sampler, number),
            n_trials=n_trials,
            seed=seed,
        )
        trials = trials_table(study, self.space)
        return trials[trials["state"] == "complete"]

    def hypervolumes(self, trials: pd.DataFrame, budgets: Sequence[int]) -> dict[int, float]:
        """After so many trials."""
        return {
            budget: hypervolume(trials.iloc[:budget], self.objectives, self.reference_point)
            for budget in budgets
            if budget <= len(trials)
        }
