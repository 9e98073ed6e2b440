"""Configurations as Optuna parameters: indices into formats, and into ascending bits, whose order samplers see."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution

from cost_models import BitConfig, Precision
from hwsearch.search.space import Group, SearchSpace


def _parameters(group: Group) -> list[tuple[str, Sequence[int | str]]]:
    """Optuna parameters of a group and what they index; none if there is no choice."""
    parameters: list[tuple[str, Sequence[int | str]]] = [
        (f"{group.name}.weight_bits", group.weight_bits),
        (f"{group.name}.activation_bits", group.activation_bits),
        (f"{group.name}.weight_format", group.weight_formats),
    ]
    return [(name, choices) for name, choices in parameters if len(choices) > 1]


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Every parameter with its range."""
    return {name: IntDistribution(0, len(c) - 1) for group in space.groups for name, c in _parameters(group)}


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Precision]:
    """Let the sampler choose."""
    chosen = {name: trial.suggest_int(name, 0, len(c) - 1) for group in space.groups for name, c in _parameters(group)}
    return config_of(space, chosen)


def config_of(space: SearchSpace, parameters: Mapping[str, int]) -> dict[str, Precision]:
    """Configuration that a trial's parameters stand for."""
    choices = {}
    for group in space.groups:
        chosen = {name: values[parameters[name]] for name, values in _parameters(group)}
        choices[group.name] = _decode(group, chosen)
    return space.config(choices)


def _decode(group: Group, chosen: Mapping[str, Any]) -> Precision:
    """The pair itself, or the nearest where the device does not run every combination."""
    weight_bits = chosen.get(f"{group.name}.weight_bits", group.weight_bits[0])
    activation_bits = chosen.get(f"{group.name}.activation_bits", (group.activation_bits or [0])[0])
    weight_format = chosen.get(f"{group.name}.weight_format", group.weight_formats[0])
    if not group.activation_bits:
        same = [p for p in group.precisions if p.weight_bits == weight_bits]
        return next((p for p in same if p.weight_format == weight_format), same[0])
    precision = group.nearest(weight_bits, activation_bits, weight_format)
    assert precision  # the group has these weight_bits
    return precision


def encode(space: SearchSpace, config: BitConfig) -> dict[str, int]:
    """Optuna parameters that :func:`suggest` turns into ``config``."""
    parameters = {}
    for group in space.groups:
        precision = config[group.layers[0]]
        for name, choices in _parameters(group):
            parameters[name] = choices.index(getattr(precision, name.rpartition(".")[2]))
    return parameters
