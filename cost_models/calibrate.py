"""Fits the constants that a device file leaves open to measured latencies, and judges the fit on held-out groups."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models.cost import Cost, CostModel, total_cost
from cost_models.device import load_device
from cost_models.layer import BitConfig, LayerSpec
from cost_models.network import NetworkSpec

Vector = NDArray[np.float64]

STEP = 1e-4
"""Relative change of a constant in a numeric derivative."""
ITERATIONS = 100


@dataclass(frozen=True)
class Measurement:
    """A measured latency of a network, or of the kernel of a layer.

    Attributes:
        group: What belongs together when measurements are held out: a network, a shape.
        subject: What was run; a layer alone takes no part of what networks add.
        config: The precision of each layer.
        latency_s: Seconds per image at the device's batch.
    """

    group: str
    subject: NetworkSpec | LayerSpec
    config: BitConfig
    latency_s: float


def fit(content: Mapping[str, Any], measurements: Sequence[Measurement], paths: Sequence[str]) -> dict[str, Any]:
    """Fit constants of a device file by least squares of relative errors.

    Args:
        content: A device file's fields; the fitted ones hold first guesses above 0.
        measurements: At least as many as ``paths``.
        paths: Fields to fit: ``compute[0].efficiency``, ``overhead.layer_s``.

    Returns:
        The fields with fitted constants.

    Raises:
        ValueError: If there are too few measurements, a path names no positive number, or the file is wrong.
    """
    if len(measurements) < len(paths):
        raise ValueError(f"{len(measurements)} measurements cannot fit {len(paths)} constants: {', '.join(paths)}.")
    guesses = np.array([read_constant(content, path) for path in paths])
    measured = np.array([measurement.latency_s for measurement in measurements])

    def errors(logs: Vector) -> Vector:
        relative: Vector = modelled(_with(content, paths, np.exp(logs)), measurements) / measured - 1
        return relative

    return _with(content, paths, np.exp(_least_squares(errors, np.log(guesses))))


def modelled(content: Mapping[str, Any], measurements: Sequence[Measurement]) -> Vector:
    """Latencies per image that a device file gives for what was measured, ``[measurements]``.

    Raises:
        ValueError: If the file is wrong, or does not know the latency of a measurement's precisions.
    """
    device = load_device(content)
    latencies = [_cost(device, m.subject, m.config).latency_s for m in measurements]
    if None in latencies:
        raise ValueError(
            f"Hardware '{device.name}' does not know the latency of {measurements[latencies.index(None)].group}."
        )
    return np.array(latencies, dtype=float)


def _cost(device: CostModel, subject: NetworkSpec | LayerSpec, config: BitConfig) -> Cost:
    if isinstance(subject, LayerSpec):
        return device.layer_cost(subject, config[subject.name])
    return total_cost(device, subject, config)


def held_out(content: Mapping[str, Any], measurements: Sequence[Measurement], paths: Sequence[str]) -> pd.DataFrame:
    """Predict each group's latencies from constants that are fitted to all other groups.

    Returns:
        A row per measurement in their order: ``group``, ``measured_s``, ``modelled_s``.
    """
    table = pd.DataFrame({"group": [m.group for m in measurements], "measured_s": [m.latency_s for m in measurements]})
    table["modelled_s"] = float("nan")
    for group, rows in table.groupby("group").groups.items():
        fitted = fit(content, [m for m in measurements if m.group != group], paths)
        table.loc[rows, "modelled_s"] = modelled(fitted, [m for m in measurements if m.group == group])
    return table


def _least_squares(errors: Callable[[Vector], Vector], start: Vector) -> Vector:
    """Levenberg-Marquardt with numeric derivatives; a step that makes the device file invalid is not taken."""
    here, error, damping = start, errors(start), 1e-3
    for _ in range(ITERATIONS):
        # backwards: a share may already be at its bound of 1
        slopes = np.stack([(error - errors(here - STEP * axis)) / STEP for axis in np.eye(len(here))], axis=1)
        normal = slopes.T @ slopes
        while damping < 1e9:
            step = np.linalg.solve(normal + damping * np.eye(len(here)), -slopes.T @ error)
            try:
                reached = errors(here + step)
            except ValueError:
                reached = np.full_like(error, np.inf)
            if reached @ reached < error @ error:
                break
            damping *= 10
        else:
            return here
        converged = error @ error - reached @ reached < 1e-12 * (error @ error)
        here, error, damping = here + step, reached, damping / 10
        if converged:
            return here
    return here


def _keys(path: str) -> list[str | int]:
    """``compute[0].efficiency`` as ``["compute", 0, "efficiency"]``."""
    return [int(key) if key.isdigit() else key for key in re.findall(r"[^.\[\]]+", path)]


def read_constant(content: Mapping[str, Any], path: str) -> float:
    """The constant of a device file's fields at ``compute[0].efficiency``.

    Raises:
        ValueError: If there is no number above 0.
    """
    value: Any = content
    try:
        for key in _keys(path):
            value = value[key]
        if float(value) > 0:
            return float(value)
    except (KeyError, IndexError, TypeError, ValueError):
        value = "nothing"
    raise ValueError(f"'{path}' is to be fitted, so it must hold a first guess above 0; it holds {value}.")


def write_constant(content: Any, path: str, value: float) -> None:
    """Set, in place, the constant that :func:`read_constant` reads."""
    *sections, field = _keys(path)
    for key in sections:
        content = content[key]
    content[field] = value


def _with(content: Mapping[str, Any], paths: Sequence[str], values: Vector) -> dict[str, Any]:
    changed: dict[str, Any] = deepcopy(dict(content))
    for path, value in zip(paths, values.tolist(), strict=True):
        write_constant(changed, path, value)
    return changed
