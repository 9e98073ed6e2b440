"""The search space: which layers decide together, and between which precisions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from math import prod
from typing import Any

from cost_models import WEIGHT_FORMATS, BitConfig, CostModel, LayerSpec, Precision, WeightFormat

SEARCHED_BITS = range(2, 9)
"""Widths that the quantizers make, of weights and of activations."""

BitOptions = Mapping[str, Sequence[int]]
"""``weight_bits`` and ``activation_bits`` that a layer may have; a missing key leaves all that the device runs."""


@dataclass(frozen=True)
class Group:
    """Layers that share one precision.

    Attributes:
        name: First layer's name; prefix of the group's Optuna parameters.
        layers: Their names.
        precisions: The choices, narrowest first; one if the group is pinned.
    """

    name: str
    layers: tuple[str, ...]
    precisions: tuple[Precision, ...]

    @cached_property
    def weight_bits(self) -> list[int]:
        """Distinct weight widths, narrowest first."""
        return sorted({precision.weight_bits for precision in self.precisions})

    @cached_property
    def activation_bits(self) -> list[int]:
        """Distinct activation widths, narrowest first; empty where the weight width decides them."""
        pairs = {(precision.weight_bits, precision.activation_bits) for precision in self.precisions}
        return sorted({activation_bits for _, activation_bits in pairs}) if len(pairs) > len(self.weight_bits) else []

    @cached_property
    def weight_formats(self) -> list[WeightFormat]:
        """Distinct weight formats, uniform first."""
        return sorted({precision.weight_format for precision in self.precisions}, reverse=True)

    def nearest(
        self, weight_bits: int, activation_bits: int, weight_format: WeightFormat = "uniform"
    ) -> Precision | None:
        """Narrowest choice that holds these bits: a narrower value runs in a wider container.

        Where no activations are as wide, the widest that the weights can have; None where no weights are. Of another
        format only where no weights of this one are as wide.
        """
        wide = [p for p in self.precisions if p.weight_bits >= weight_bits]
        wide = [p for p in wide if p.weight_format == weight_format] or wide
        holding = [p for p in wide if p.activation_bits >= activation_bits]
        if holding:
            return min(holding, key=lambda p: (p.weight_bits * p.activation_bits, p.weight_bits))
        return max(wide, key=lambda p: (p.activation_bits, -p.weight_bits), default=None)


@dataclass(frozen=True)
class SearchSpace:
    """All decisions of a search.

    Attributes:
        groups: In the order of the network's layers.
        pinned: Layers whose precision the user fixed; uniform configurations leave them alone.
    """

    groups: tuple[Group, ...]
    pinned: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Number of distinct configurations."""
        return prod(len(group.precisions) for group in self.groups)

    @property
    def precisions(self) -> frozenset[Precision]:
        """All that some layer can have."""
        return frozenset(precision for group in self.groups for precision in group.precisions)

    @property
    def narrowest(self) -> dict[str, Precision]:
        """The narrowest weights of every layer, and the narrowest activations that these can have."""
        return self.config({group.name: group.precisions[0] for group in self.groups})

    def config(self, choices: Mapping[str, Precision]) -> dict[str, Precision]:
        """Configuration from one precision per group."""
        return {layer: choices[group.name] for group in self.groups for layer in group.layers}

    def uniform(self, precision: Precision) -> dict[str, Precision] | None:
        """``precision`` on every layer that is not pinned, or the nearest; None if a layer has no such weights."""
        choices = {group.name: group.nearest(precision.weight_bits, precision.activation_bits) for group in self.groups}
        for group in self.groups:
            if self.pinned.intersection(group.layers):
                choices[group.name] = group.precisions[0]
        found = {name: choice for name, choice in choices.items() if choice}
        return self.config(found) if len(found) == len(choices) else None

    def uniforms(self) -> list[dict[str, Precision]]:
        """(b, b) and (b, 8) for every weight width b of the space, widest first, without repeats."""
        widths = sorted({bits for group in self.groups for bits in group.weight_bits}, reverse=True)
        found: list[dict[str, Precision]] = []
        for bits in widths:
            for precision in (Precision(bits, bits), Precision(bits, 8)):
                config = self.uniform(precision)
                if config and config not in found:
                    found.append(config)
        return found


def build_space(
    layers: Sequence[LayerSpec],
    device: CostModel,
    *,
    weight_bits: Sequence[int] | None = None,
    activation_bits: Sequence[int] | None = None,
    weight_formats: Collection[WeightFormat] | None = None,
    pinned: Mapping[str, str | Precision] | None = None,
    tied: Sequence[Sequence[str]] = (),
    shared: Sequence[Sequence[str]] = (),
    untied: Sequence[str] = (),
    overrides: Mapping[str, BitOptions] | None = None,
) -> SearchSpace:
    """Combine what the user allows with what the device runs.

    Args:
        layers: Quantizable layers of the network, in order.
        device: The target; the choices are the precisions of 2 to 8 bits that it runs.
        weight_bits: Weight widths to choose from; None means all that the device runs.
        activation_bits: Likewise for activations.
        weight_formats: Likewise for formats, ``"uniform"`` and ``"codebook"``.
        pinned: Fixed precisions such as ``W8A8`` by layer name, glob pattern, ``first`` or ``last``.
        tied: Lists of names or patterns; layers that match one list share their precision.
        shared: Lists of layers that share their precision, too, but for those that are pinned or untied, or have no
            precision in common; from :func:`hwsearch.graph.shared_inputs`.
        untied: Names or patterns of layers that decide apart from those that ``shared`` names with them.
        overrides: Other widths for some layers, by name or pattern; later entries win.

    Raises:
        ValueError: If a width or pinned precision is not made by the quantizers or not run by the device, or a pattern
            matches no layer.
    """
    names = [layer.name for layer in layers]
    base: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    _check_widths(base, "space")
    options = {name: dict(base) for name in names}
    for pattern, bits in (overrides or {}).items():
        unknown = sorted(set(bits) - set(base))
        if unknown:
            raise ValueError(f"space.overrides['{pattern}'] has unknown keys {unknown}; it takes {list(base)}.")
        _check_widths(bits, f"space.overrides['{pattern}']")
        for name in match_layers(pattern, names, "space.overrides"):
            options[name].update(bits)
    formats = WEIGHT_FORMATS if weight_formats is None else weight_formats
    runs = {
        layer.name: [p for p in device.precisions(layer) if _is_searched(p) and p.weight_format in formats]
        for layer in layers
    }
    allowed = {name: _allowed(name, runs[name], options[name], device.name) for name in names}
    fixed: dict[str, Precision] = {}
    for pattern, value in (pinned or {}).items():
        for name in match_layers(pattern, names, "space.pinned"):
            fixed[name] = _pin(name, value, runs[name], device.name)
    allowed |= {name: [precision] for name, precision in fixed.items()}
    alone = {name for pattern in untied for name in match_layers(pattern, names, "space.untied")} | set(fixed)
    sharing = [[name for name in members if name not in alone] for members in shared]
    agreeing = [members for members in sharing if members and _common(members, allowed)]
    return SearchSpace(tuple(_groups(names, allowed, [*agreeing, *tied])), frozenset(fixed))


def match_layers(pattern: str, names: Sequence[str], place: str) -> list[str]:
    """Layers that a name, a glob pattern, ``first`` or ``last`` stands for.

    Raises:
        ValueError: If there are none.
    """
    ends = {"first": names[:1], "last": names[-1:]}
    found = list(ends.get(pattern) or [name for name in names if fnmatchcase(name, pattern)])
    if not found:
        raise ValueError(f"'{pattern}' in {place} matches no layer; the layers are {', '.join(names)}.")
    return found


def _check_widths(options: Mapping[str, Sequence[int] | None], place: str) -> None:
    for key, bits in options.items():
        if bits is not None and (not bits or not set(bits) <= set(SEARCHED_BITS)):
            widths = f"{SEARCHED_BITS[0]} to {SEARCHED_BITS[-1]}"
            raise ValueError(
                f"{place}.{key}={list(bits)} must hold widths from {widths}, those that the quantizers make; "
                "null leaves all that the device runs."
            )


def _is_searched(precision: Precision) -> bool:
    return all(bits in SEARCHED_BITS for bits in (precision.weight_bits, precision.activation_bits))


def _allowed(name: str, runs: Sequence[Precision], options: Mapping[str, Any], device: str) -> list[Precision]:
    if not runs:
        widths = f"{SEARCHED_BITS[0]} to {SEARCHED_BITS[-1]} bits"
        raise ValueError(
            f"Hardware '{device}' runs layer '{name}' at no precision of {widths} in a format of space.weight_formats."
        )
    for key in ("weight_bits", "activation_bits"):
        known = sorted({getattr(precision, key) for precision in runs})
        lacking = sorted(set(options[key] or ()) - set(known))
        if lacking:
            raise ValueError(
                f"Hardware '{device}' has no kernels for {key}={lacking} in layer '{name}'; it supports {known}. "
                f"Set space.{key} to a subset."
            )
    found = [p for p in runs if all(not options[key] or getattr(p, key) in options[key] for key in options)]
    if not found:
        pairs = ", ".join(str(precision) for precision in runs)
        raise ValueError(
            f"Hardware '{device}' runs layer '{name}' at none of weight_bits={options['weight_bits']} with "
            f"activation_bits={options['activation_bits']}; it supports the pairs {pairs}."
        )
    return sorted(found, key=lambda p: (p.weight_bits, p.activation_bits, p.weight_format != "uniform"))


def _pin(name: str, value: str | Precision, runs: Sequence[Precision], device: str) -> Precision:
    precision = value if isinstance(value, Precision) else Precision.parse(value)
    if not _is_searched(precision):
        raise ValueError(
            f"space.pinned sets layer '{name}' to {precision}; the quantizers make {SEARCHED_BITS[0]} to "
            f"{SEARCHED_BITS[-1]} bits."
        )
    if precision not in runs:
        pairs = ", ".join(str(supported) for supported in runs)
        raise ValueError(
            f"space.pinned sets layer '{name}' to {precision}, which hardware '{device}' lacks; it supports {pairs}."
        )
    return precision


def _common(members: Sequence[str], allowed: Mapping[str, Sequence[Precision]]) -> list[Precision]:
    return [p for p in allowed[members[0]] if all(p in allowed[name] for name in members)]


def _groups(
    names: Sequence[str], allowed: Mapping[str, Sequence[Precision]], tied: Sequence[Sequence[str]]
) -> list[Group]:
    owner = {name: name for name in names}
    for patterns in filter(None, tied):
        members = {name for pattern in patterns for name in match_layers(pattern, names, "space.tied")}
        merged = {owner[name] for name in members}
        first = next(name for name in names if owner[name] in merged)
        owner = {name: first if group in merged else group for name, group in owner.items()}
    groups = []
    for first in dict.fromkeys(owner[name] for name in names):
        members_in_order = tuple(name for name in names if owner[name] == first)
        common = _common(members_in_order, allowed)
        if not common:
            raise ValueError(f"The tied layers {', '.join(members_in_order)} have no precision in common.")
        groups.append(Group(first, members_in_order, tuple(common)))
    return groups


def canonical(config: BitConfig) -> tuple[tuple[str, Precision], ...]:
    """Hashable form of a configuration; equal for equal configurations."""
    return tuple(sorted(config.items()))
