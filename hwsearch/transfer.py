"""Stored runs priced on other devices, without judging anything again: which front holds where.

The question is HAQ's (Wang et al., CVPR 2019, arXiv:1811.08886): how good is what was found for one device on another?
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cost_models import CostModel, NetworkSpec, Precision
from hwsearch.codebooks import codebook_notes, storing
from hwsearch.compare import Run, float_top1, named_runs, origin, refuse_incomparable
from hwsearch.costs import KEY, Pricing, cost_table, pricing
from hwsearch.network_file import NETWORK_FILE, read_network
from hwsearch.pareto import COSTS, hypervolume, non_dominated, reference_point
from hwsearch.where import select

JUDGED = ("search_top1", "test_top1")
ABOUT = ("kind", *JUDGED, "weight_bits_mean", "activation_bits_mean")


@dataclass(frozen=True)
class Transfer:
    """Candidates of runs, priced on devices.

    Attributes:
        x: Cost of the horizontal axis.
        y: Accuracy of the vertical axis.
        devices: Names, in the order given.
        rows: One row per device and candidate that it runs, see ``transfer.csv`` in ``runs/README.md``.
        summary: One row per device and run, see ``transfer_summary.csv`` there.
        reference_points: Device -> the corner that its hypervolumes are measured from.
        float_top1: Top-1 of the float network, in percent, on the split that ``y`` names.
        notes: What a reader must know before trusting the tables.
    """

    x: str
    y: str
    devices: tuple[str, ...]
    rows: pd.DataFrame
    summary: pd.DataFrame
    reference_points: Mapping[str, Mapping[str, float]]
    float_top1: float
    notes: tuple[str, ...]

    def on_every_front(self) -> pd.DataFrame:
        """Distinct candidates that are on the front of every device, the most accurate first.

        Returns:
            Columns ``run`` (the first of several), ``trial``, ``kind``, ``search_top1``, ``test_top1``, mean bits, and
            one column per device with its ``x``.
        """
        by_candidate = self.rows[self.rows["on_every_front"]].set_index(["run", "trial"])
        costs = {name: by_candidate.loc[by_candidate["device"] == name, self.x] for name in self.devices}
        about = by_candidate.loc[by_candidate["device"] == self.devices[0], list(ABOUT)]
        table = about.assign(**costs).reset_index().sort_values(self.y, ascending=False, kind="stable")
        return table.drop_duplicates([self.y, *self.devices]).reset_index(drop=True)


@dataclass(frozen=True)
class _Candidates:
    """Complete trials of all runs.

    Attributes:
        table: A row per candidate.
        storages: What quantizers store as codebooks: distinct sets of widths.
        keys: Distinct storages, by number, with layer and precision.
        codes: Number of each layer's key, ``[candidates, layers]``.
    """

    table: pd.DataFrame
    storages: Sequence[tuple[int, ...]]
    keys: pd.MultiIndex
    codes: NDArray[np.int64]


def transfer_runs(
    runs: Sequence[Run],
    devices: Sequence[CostModel],
    x: str = "latency_s",
    y: str = "search_top1",
    where: str | None = None,
    codebook_bits: Sequence[Collection[int]] | None = None,
) -> Transfer:
    """Price every candidate of stored runs on each device.

    Args:
        runs: One or more runs of the same network and the same images; a folder of them holds ``network.json``.
        devices: Any cost models.
        x: A cost.
        y: ``search_top1``, known for every complete trial, or ``test_top1``, known for rows of ``pareto.csv``.
        where: Condition that priced candidates must satisfy, see ``where.select``.
        codebook_bits: For each run, the widths at which its quantizer stores weights as codebooks; None: none.

    Raises:
        FileNotFoundError: If no run folder holds ``network.json``.
        ValueError: If the runs judged different networks or images, an axis is none, a device is given twice, runs none
            of the candidates or does not know ``x``, or no candidate satisfies ``where``.
    """
    _check_axes(x, y, devices)
    named = named_runs(runs)
    refuse_incomparable(named)
    network, float_network = _network(runs), float_top1(named, y)
    candidates = _candidates(named, network, y, codebook_bits or [()] * len(runs))
    tables, summaries, references, notes = [], [], {}, []
    for device in devices:
        costs = _costs(network, device, candidates.storages)
        price = pricing(costs.droplevel("storage"), network, device)
        priced, reasons = _priced(candidates, costs, price)
        notes += reasons + [f"{device.name}: {note}" for note in (*device.warnings, *_untold(candidates, device))]
        reference = reference_point(float_network, {x: _reference_cost(priced, costs, price, x)}, accuracy=y)
        rows = priced if where is None else select(priced, where)
        if rows.empty:
            raise ValueError(f"No candidate satisfies where={where!r} on '{device.name}'.")
        rows = rows.assign(on_device_front=non_dominated(rows, [x, y]))
        left_out = candidates.table["run"].value_counts().sub(priced["run"].value_counts(), fill_value=0)
        summaries.append(_summary(device.name, named, rows, left_out.astype(int), reference))
        references[device.name] = reference
        tables.append(rows)
    return Transfer(
        x=x,
        y=y,
        devices=tuple(references),
        rows=_mark_every_front(pd.concat(tables, ignore_index=True), len(devices)),
        summary=pd.concat(summaries, ignore_index=True),
        reference_points=references,
        float_top1=float_network,
        notes=(*_untested(candidates.table, y), *notes),
    )


def _check_axes(x: str, y: str, devices: Sequence[CostModel]) -> None:
    if x not in COSTS:
        raise ValueError(f"x is '{x}'; devices are compared by one of {list(COSTS)}.")
    if y not in JUDGED:
        raise ValueError(f"y is '{y}'; candidates are judged by one of {list(JUDGED)}.")
    names = [device.name for device in devices]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Device '{name}' is given {names.count(name)} times; give each once.")


def _network(runs: Sequence[Run]) -> NetworkSpec:
    """The network that all runs judged, from the first folder that holds it."""
    return read_network(next((run.path for run in runs if (run.path / NETWORK_FILE).is_file()), runs[0].path))


def _candidates(
    named: Mapping[str, Run], network: NetworkSpec, y: str, codebook_bits: Sequence[Collection[int]]
) -> _Candidates:
    stored = [tuple(sorted(bits)) for bits in codebook_bits]
    storages = list(dict.fromkeys(stored))
    tables, keys = [], []
    for (name, run), bits in zip(named.items(), stored, strict=True):
        complete = run.trials[run.trials["state"] == "complete"].rename(columns={"top1": "search_top1"})
        shown = run.pareto[run.pareto["kind"] != "float"][["trial", "on_front", "test_top1"]]
        table = complete[["trial", "kind", "search_top1"]].merge(shown, on="trial", how="left")
        table = table[table[y].notna()].assign(on_front=table["on_front"].eq(True))
        table.insert(0, "run", name)
        tables.append(table.rename(columns={"on_front": "on_run_front"}))
        keys.append(_keys(run, table["trial"], network, name).assign(storage=storages.index(bits))[["storage", *KEY]])
    stacked = pd.concat(keys, ignore_index=True)
    distinct = pd.MultiIndex.from_frame(stacked.drop_duplicates())
    codes = distinct.get_indexer(pd.MultiIndex.from_frame(stacked)).reshape(-1, len(network.layers))
    means = {
        "weight_bits_mean": _mean(stacked["weight_bits"], [layer.weight_count for layer in network.layers]),
        "activation_bits_mean": _mean(stacked["activation_bits"], [layer.in_count for layer in network.layers]),
    }
    return _Candidates(pd.concat(tables, ignore_index=True).assign(**means), storages, distinct, codes)


def _keys(run: Run, trials: pd.Series[int], network: NetworkSpec, name: str) -> pd.DataFrame:
    """Keys of a cost table for every trial and, within a trial, every layer."""
    wanted = pd.MultiIndex.from_product([trials, [layer.name for layer in network.layers]], names=["trial", "layer"])
    found = run.precisions.set_index(["trial", "layer"]).reindex(wanted)
    if found["weight_bits"].isna().any():
        trial, layer = found.index[found["weight_bits"].isna()][0]
        raise ValueError(f"precisions.csv of run '{name}' gives no precision for layer '{layer}' in trial {trial}.")
    return found.reset_index()[KEY].astype({"weight_bits": int, "activation_bits": int})


def _mean(bits: pd.Series[int], counts: Sequence[int]) -> NDArray[np.float64]:
    """Mean of each candidate's bits, ``[candidates]``, weighted by counts of the layers."""
    means: NDArray[np.float64] = bits.to_numpy(dtype=float).reshape(-1, len(counts)) @ np.array(counts) / sum(counts)
    return means


def _costs(network: NetworkSpec, device: CostModel, storages: Sequence[tuple[int, ...]]) -> pd.DataFrame:
    """Cost tables of a device for all that quantizers store, one below the other."""
    tables = {number: cost_table(network.layers, storing(device, bits)) for number, bits in enumerate(storages)}
    return pd.concat(tables, names=["storage"])


def _untold(candidates: _Candidates, device: CostModel) -> list[str]:
    """Which candidates' codebooks a device does not tell from its own weights, in words."""
    precisions = [[Precision(*p) for n, _, *p in candidates.keys if n == i] for i in range(len(candidates.storages))]
    storages = zip(candidates.storages, precisions, strict=True)
    return list(dict.fromkeys(note for storage in storages for note in codebook_notes(device, *storage)))


def _priced(candidates: _Candidates, costs: pd.DataFrame, price: Pricing) -> tuple[pd.DataFrame, list[str]]:
    """Candidates that the device runs, with its costs; and which it does not run, in words."""
    device, table = price.device, candidates.table
    known = costs["latency_s"].notna().to_numpy()  # a device that runs no floats has rows without costs for them
    row_of_key = costs.index.get_indexer(candidates.keys)
    row_of_key = np.where(known[row_of_key], row_of_key, -1)
    rows = row_of_key[candidates.codes]
    runs = (rows >= 0).all(axis=1)
    reasons = []
    if not runs.all():
        layers: dict[str, str] = {}  # the first layer of each pair
        for _, layer, *precision in candidates.keys[row_of_key < 0]:
            layers.setdefault(str(Precision(*precision)), layer)
        pairs = {layer: sorted(pair for pair in layers if layers[pair] == layer) for layer in layers.values()}
        where = "; ".join(f"{', '.join(names)} in layer '{layer}'" for layer, names in pairs.items())
        left_out = len(rows) - runs.sum()
        reasons.append(f"{device.name} does not run {where}: {left_out} of {len(rows)} candidates are left out.")
    if not runs.any():
        raise ValueError(f"No candidate can be priced: {reasons[0]}")
    priced = pd.concat([table[runs].reset_index(drop=True), price.many(rows[runs])], axis=1)
    fits = np.isfinite(priced["latency_s"])
    if not fits.all():
        reasons.append(f"{len(fits) - fits.sum()} candidates do not fit {device.name} and are left out.")
    if not fits.any():
        raise ValueError(f"No candidate fits '{device.name}'.")
    priced.insert(0, "device", device.name)
    return priced[fits].assign(cost_source=device.cost_source), reasons


def _reference_cost(rows: pd.DataFrame, costs: pd.DataFrame, price: Pricing, x: str) -> float:
    """Cost of 8 bits in every layer; where they do not run, of the costliest candidate."""
    if rows[x].isna().any():
        known = [cost for cost in COSTS if rows[cost].notna().all()]
        raise ValueError(f"'{price.device.name}' does not know {x}; it knows {known}.")
    eight = {layer.name: Precision(8, 8) for layer in price.network.layers}
    # at 8 bits, levels of a codebook are bytes like any others: every storage costs the same
    if all((0, name, 8, 8, "uniform") in costs.index for name in eight) and np.isfinite(cost := price(eight)[x]):
        return cost
    return float(rows[x].max())


def _summary(
    device: str, named: Mapping[str, Run], rows: pd.DataFrame, left_out: pd.Series[int], reference: Mapping[str, float]
) -> pd.DataFrame:
    """How each run's front fares against the front of all runs' candidates."""
    axes = list(reference)
    best = hypervolume(rows[rows["on_device_front"]], axes, reference)
    records = []
    for name, run in named.items():
        own = rows[rows["run"] == name]
        front = own[own["on_run_front"]]
        value = hypervolume(front, axes, reference)
        records.append(
            {
                "device": device,
                "run": name,
                "searched": f"{origin(run.info['cost_source'], run)}, batch {run.info['batch']}",
                "rows": len(own),
                "left_out": int(left_out[name]),
                "front_rows": len(front),
                "front_rows_kept": int(front["on_device_front"].sum()),
                "hypervolume": value,
                "device_hypervolume": best,
                "share": value / best if best else float("nan"),
                **{f"reference_{axis}": reference[axis] for axis in axes},
            }
        )
    return pd.DataFrame(records)


def _mark_every_front(rows: pd.DataFrame, devices: int) -> pd.DataFrame:
    fronts = rows.groupby(["run", "trial"])["on_device_front"].transform("sum")
    return rows.assign(on_every_front=fronts == devices)


def _untested(candidates: pd.DataFrame, y: str) -> list[str]:
    untested = int(candidates["test_top1"].isna().sum())
    if not untested:
        return []
    return [
        f"{untested} of {len(candidates)} candidates were judged on the search split alone, so fronts follow {y}; "
        "score a configuration with 'hwsearch evaluate' before using it."
    ]
