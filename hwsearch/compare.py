"""Runs side by side: read from their folders, refused or labelled where they are not alike, joined into one front."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hwsearch.pareto import ACCURACIES, DIRECTIONS, dominated_by, hypervolume, non_dominated, reference_point
from hwsearch.where import columns_of, select

SCHEMA = "hwsearch.run/1"
# Runs that differ here judged different networks or different images: no common axis is left.
MUST_AGREE = ("model", "model_fingerprint", "data", "data_fingerprint", "split_seed", "n_test")
# Runs that differ here are compared, and the difference is stated.
STATED = ("hardware", "cost_source", "batch", "objectives", "constraints", "quantizer", "calibration", "n_trials")
PARETO_COLUMNS = (
    *("trial", "kind", "on_front", "dominated_by_uniform", "search_top1", "test_top1", "test_top1_low"),
    *("test_top1_high", "latency_s", "energy_j", "size_bytes", "bops", "weight_bits_mean", "activation_bits_mean"),
    "cost_source",
)


@dataclass(frozen=True)
class Run:
    """A finished run folder; ``runs/README.md`` describes every column and key."""

    path: Path
    info: Mapping[str, Any]
    trials: pd.DataFrame
    pareto: pd.DataFrame
    precisions: pd.DataFrame
    cost_table: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """Runs judged on two objectives.

    Attributes:
        x: Objective of the horizontal axis, a column of ``rows``.
        y: Objective of the vertical axis, a column of ``rows``.
        where: The condition that every row satisfies, or None.
        rows: Uniform and mixed rows of every run: ``run``, ``label``, ``hardware``, ``batch``, the columns of
            ``pareto.csv``, and whether the row is non-dominated on (x, y): ``on_run_front``, ``on_union_front``.
        summary: One row per run, see ``runs/README.md``.
        domination: ``[run, run]``: share of the row run's front that the column run's front dominates; empty fronts
            give NaN.
        reference_point: x and y -> the corner that every hypervolume of ``summary`` is measured from.
        float_top1: Top-1 of the float network, in percent, on the split that y (or else x) names; None if neither does.
        best_by: The column that ``best`` wins, or None.
        best: The winning row of ``rows``, or None.
        notes: What a reader must know before trusting the comparison.
    """

    x: str
    y: str
    where: str | None
    rows: pd.DataFrame
    summary: pd.DataFrame
    domination: pd.DataFrame
    reference_point: Mapping[str, float]
    float_top1: float | None
    best_by: str | None
    best: pd.Series[Any] | None
    notes: tuple[str, ...]


def load_run(path: Path | str) -> Run:
    """Read a run folder.

    Raises:
        FileNotFoundError: If the folder or a file of it is missing.
        ValueError: If ``run.json`` has another schema or lacks a key, or ``pareto.csv`` lacks a column.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"No run folder '{path}'; pass a folder that 'hwsearch search' wrote.")
    for file in ("run.json", "trials.csv", "pareto.csv", "precisions.csv", "cost_table.csv"):
        if not (path / file).is_file():
            raise FileNotFoundError(f"Run folder '{path}' has no {file}: the search may not have finished.")
    info = _read_json(path / "run.json")
    if info.get("schema") != SCHEMA:
        raise ValueError(f"'{path / 'run.json'}' has schema {info.get('schema')!r}; this version reads '{SCHEMA}'.")
    if lacking := [key for key in (*MUST_AGREE, *STATED, "reference_point") if key not in info]:
        raise ValueError(f"'{path / 'run.json'}' lacks {lacking}.")
    tables = {file: _read_csv(path / f"{file}.csv") for file in ("trials", "pareto", "precisions", "cost_table")}
    if lacking := [column for column in PARETO_COLUMNS if column not in tables["pareto"].columns]:
        raise ValueError(f"'{path / 'pareto.csv'}' lacks the columns {lacking}.")
    return Run(path, info, **tables)


def compare_runs(
    runs: Sequence[Run],
    x: str = "latency_s",
    y: str = "test_top1",
    where: str | None = None,
    best: str | None = None,
) -> Comparison:
    """Put the uniform and mixed rows of several runs on common axes.

    Args:
        runs: One or more runs of the same network and the same images.
        x: Objective of the horizontal axis, a column of ``pareto.csv`` in ``DIRECTIONS``.
        y: Objective of the vertical axis, likewise.
        where: Condition that rows must satisfy, see ``where.select``; applied before anything else is computed.
        best: Objective whose best row is to be reported; ties go to the better y. A mixed row that a uniform row of
            its run dominates on the test split never wins.

    Raises:
        ValueError: If the runs judged different networks or images, an objective or a column of ``where`` is not
            known in every row, or no row satisfies ``where``.
    """
    named = named_runs(runs)
    refuse_incomparable(named)
    rows = pd.concat([_candidates(run, name) for name, run in named.items()], ignore_index=True)
    _check_columns(rows, [x, y] if best is None else [x, y, best], where)
    if where is not None:
        everything, rows = rows, select(rows, where)
        if rows.empty:
            raise ValueError(f"No row satisfies where={where!r}; {_spans(everything, columns_of(where))}.")
    rows = _with_fronts(rows, x, y)
    fronts = {name: rows[(rows["run"] == name) & rows["on_run_front"]].drop_duplicates([x, y]) for name in named}
    reference = _shared_reference(named, x, y)
    return Comparison(
        x=x,
        y=y,
        where=where,
        rows=rows,
        summary=_summary(named, rows, fronts, reference),
        domination=_domination(fronts, [x, y]),
        reference_point=reference,
        float_top1=next((float_top1(named, name) for name in (y, x) if name in ACCURACIES), None),
        best_by=best,
        best=None if best is None else _best(rows, best, y),
        notes=_notes(named, x, y),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is not a JSON object ({error}): the search may not have finished.") from error


def _read_csv(path: Path) -> pd.DataFrame:
    # Equal configurations of two runs must stay equal to the last bit, or one would dominate the other: pandas reads
    # numbers exactly by default since 3.1, which deprecates float_precision="round_trip".
    # Only an empty cell is unknown: 'null' and '1.10' are names of layers, too.
    dtypes = {"trial": "Int64", "layer": "str"}
    table = pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""])
    flags = [column for column in ("on_front", "dominated_by_uniform") if column in table.columns]
    return table.assign(**{column: table[column].eq(True) for column in flags})  # an empty cell is no


def named_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Each run under the shortest end of its path that no other run shares.

    Raises:
        ValueError: If there is none, or one is given twice.
    """
    if not runs:
        raise ValueError("A comparison needs at least one run folder.")
    paths = [run.path.resolve() for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"Run folder '{path}' is given {paths.count(path)} times; give each once.")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {"/".join(path.parts[-depth:]): run for path, run in zip(paths, runs, strict=True)}


def _differences(values: Mapping[str, Any]) -> str:
    """Run -> value becomes ``0 in 'a', 'b'; 1 in 'c'``, or nothing if all agree."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(json.dumps(value, sort_keys=True).strip('"'), []).append(f"'{name}'")
    return "; ".join(f"{value} in {', '.join(names)}" for value, names in groups.items()) if len(groups) > 1 else ""


def refuse_incomparable(named: Mapping[str, Run]) -> None:
    """Do nothing if all runs judged the same network on the same images.

    Raises:
        ValueError: Otherwise, with what differs.
    """
    differing = {key: _differences({name: run.info[key] for name, run in named.items()}) for key in MUST_AGREE}
    if reasons := [f"{key} is {text}" for key, text in differing.items() if text]:
        raise ValueError(f"These runs did not judge the same network on the same images: {'. '.join(reasons)}.")


def _notes(named: Mapping[str, Run], x: str, y: str) -> tuple[str, ...]:
    differing = {key: _differences({name: run.info[key] for name, run in named.items()}) for key in STATED}
    notes = []
    if differing["cost_source"]:
        origins = _differences({name: origin(run.info["cost_source"], run) for name, run in named.items()})
        notes.append(f"Measured and modelled costs are not on one scale: costs are {origins}.")
    if differing["hardware"]:
        notes.append(f"Hardware differs, the union front spans devices: {differing['hardware']}.")
    if differing["batch"]:
        notes.append(f"Batch differs, costs are per image at that batch: {differing['batch']}.")
    if differing["constraints"]:
        notes.append(f"The searches had different constraints: {differing['constraints']}.")
    if differing["quantizer"]:
        notes.append(f"Quantizers differ: {differing['quantizer']}.")
    if differing["calibration"]:
        notes.append("The runs were calibrated on different images.")
    if differing["n_trials"]:
        notes.append(f"The searches had different budgets, in trials: {differing['n_trials']}.")
    for axis in dict.fromkeys(axis.removeprefix("search_").removeprefix("test_") for axis in (x, y)):
        if missed := [f"'{name}'" for name, run in named.items() if axis not in run.info["objectives"]]:
            notes.append(f"Not searched for {axis}: {', '.join(missed)}.")
    return tuple(notes)


def origin(cost_source: str, run: Run) -> str:
    """Where a run's costs come from: ``modelled for npu``."""
    return f"{cost_source} {'on' if cost_source == 'measured' else 'for'} {run.info['hardware']}"


def _candidates(run: Run, name: str) -> pd.DataFrame:
    """A run's uniform and mixed rows, with where their costs come from."""
    rows = run.pareto[run.pareto["kind"].isin(["uniform", "mixed"])].copy()
    labels = [f"{origin(source, run)}, batch {run.info['batch']}" for source in rows["cost_source"]]
    for i, (column, value) in enumerate(
        {"run": name, "label": labels, "hardware": run.info["hardware"], "batch": run.info["batch"]}.items()
    ):
        rows.insert(i, column, value)
    return rows


def _check_columns(rows: pd.DataFrame, objectives: Sequence[str], where: str | None) -> None:
    """Objectives have a direction, columns exist, and no value is unknown."""
    choices = [column for column in DIRECTIONS if column in rows.columns]
    for column in objectives:
        if column not in choices:
            raise ValueError(f"'{column}' is not an objective of pareto.csv; choose from {choices}.")
    if objectives[0] == objectives[1]:
        raise ValueError(f"x and y are both '{objectives[0]}'; choose two of {choices}.")
    used = [*objectives, *(columns_of(where) if where is not None else [])]
    for column in dict.fromkeys(used):
        if column in rows.columns and (unknown := rows[rows[column].isna()]).size:
            known = [choice for choice in choices if rows[choice].notna().all()]
            counts = ", ".join(
                f"{n} rows of run '{run}'" for run, n in unknown.groupby("run", sort=False).size().items()
            )
            raise ValueError(f"'{column}' is unknown in {counts}; objectives known in every run: {known}.")


def _spans(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    spans = [
        f"{column} spans {rows[column].min():.6g} to {rows[column].max():.6g}"
        if pd.api.types.is_numeric_dtype(rows[column])
        else f"{column} is one of {sorted(set(rows[column]))}"
        for column in columns
    ]
    return ", ".join(spans)


def _with_fronts(rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    own = [non_dominated(group, [x, y]) for _, group in rows.groupby("run", sort=False)]
    marked = rows.assign(on_run_front=pd.concat(own), on_union_front=non_dominated(rows, [x, y]))
    return marked.reset_index(drop=True)


def float_top1(named: Mapping[str, Run], column: str) -> float:
    """The float network's accuracy, which the runs share; the least of them should they differ.

    Raises:
        ValueError: If a run does not have exactly one float row with that accuracy.
    """
    values = []
    for name, run in named.items():
        row = run.pareto[run.pareto["kind"] == "float"]
        if len(row) != 1 or row[column].isna().any():
            raise ValueError(f"pareto.csv of run '{name}' must have one row of kind 'float' with its {column}.")
        values.append(float(row[column].iloc[0]))
    return min(values)


def _shared_reference(named: Mapping[str, Run], x: str, y: str) -> dict[str, float]:
    """Float accuracy minus 10 points; of the runs' costs of uniform 8-bit, the largest."""
    point: dict[str, float] = {}
    for axis in (x, y):
        if axis in ACCURACIES:
            point |= reference_point(float_top1(named, axis), {}, accuracy=axis)
        else:
            point[axis] = max(_uniform8_cost(name, run, axis) for name, run in named.items())
    return point


def _uniform8_cost(name: str, run: Run, column: str) -> float:
    """As ``run.json`` has it; for a cost that it leaves out, that of the costliest uniform row."""
    if (cost := run.info["reference_point"].get(column)) is not None:
        return float(cost)
    uniform = run.pareto[run.pareto["kind"] == "uniform"]
    if uniform.empty:
        raise ValueError(f"Run '{name}' has neither reference_point.{column} in run.json nor a uniform row.")
    return float(uniform[column].max())


def _summary(
    named: Mapping[str, Run], rows: pd.DataFrame, fronts: Mapping[str, pd.DataFrame], reference: Mapping[str, float]
) -> pd.DataFrame:
    axes = list(reference)
    union = rows[rows["on_union_front"]].drop_duplicates(axes)
    return pd.DataFrame(
        {
            "run": name,
            "label": f"{origin(run.info['cost_source'], run)}, batch {run.info['batch']}",
            "rows": int((rows["run"] == name).sum()),
            "front_points": len(front),
            "hypervolume": hypervolume(front, axes, reference),
            "union_points": int((shared := front["on_union_front"]).sum()),
            "union_share": float(shared.sum() / len(union)),
            **{f"reference_{axis}": reference[axis] for axis in axes},
        }
        for (name, run), front in zip(named.items(), fronts.values(), strict=True)
    )


def _domination(fronts: Mapping[str, pd.DataFrame], axes: Sequence[str]) -> pd.DataFrame:
    shares = {
        other: {name: float(dominated_by(front, theirs, axes).mean()) for name, front in fronts.items()}
        for other, theirs in fronts.items()
    }
    return pd.DataFrame(shares, index=pd.Index(list(fronts), name="front_of"), columns=list(fronts))


def _best(rows: pd.DataFrame, best: str, y: str) -> pd.Series[Any] | None:
    """None if every row is a mixed one that uniform precision dominates."""
    allowed = rows[~rows["dominated_by_uniform"]]
    by = list(dict.fromkeys([best, y]))
    ranked = allowed.sort_values(by, ascending=[DIRECTIONS[name] == "minimize" for name in by], kind="stable")
    return None if ranked.empty else ranked.iloc[0]
