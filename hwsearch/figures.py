"""Pictures of a run and of a comparison, drawn from their tables alone.

Only matplotlib's object interface: no pyplot, so no global state that jobs of one sweep would share.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from hwsearch.compare import Comparison
from hwsearch.pareto import ACCURACIES, COSTS, DIRECTIONS, hypervolume, non_dominated
from hwsearch.transfer import Transfer
from hwsearch.units import in_words, name_of, unit_of

# Okabe and Ito's colours without yellow and black, in order of contrast: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY, BLACK = "#B0B0B0", "#222222"
BLUE, VERMILLION = COLOURS[:2]


def pareto_figure(
    trials: pd.DataFrame,
    pareto: pd.DataFrame,
    objectives: Sequence[str],
    reference_point: Mapping[str, float],
    title: str,
    *,
    depth: float = 15.0,
) -> Figure:
    """One panel per cost objective against top-1; storage size if no objective is a cost.

    Front, uniform rows and the float network are drawn at their test top-1, with 95 percent Wilson intervals; the
    trials behind them, in grey, at their search top-1, the only one they have. Each panel's step line joins the rows
    that are non-dominated on that panel's two axes.

    Args:
        trials: ``trials.csv``.
        pareto: ``pareto.csv``.
        objectives: The search's objectives.
        reference_point: ``run.json``'s, for the hypervolume in the caption.
        title: Shown above the panels.
        depth: Points of top-1 that the panels reach down from float (or from the best row, if that is lower); uniform
            rows below are arrows on the edge, trials below are counted in the caption.
    """
    costs = [name for name in objectives if name in COSTS] or ["size_bytes"]
    figure, axes = _panels(len(costs))
    judged, rows = trials[trials["state"] == "complete"], pareto[pareto["kind"] != "float"]
    float_top1 = float(pareto.loc[pareto["kind"] == "float", "test_top1"].iloc[0])
    bottom, top = _limits([judged["top1"], rows["test_top1_low"], rows["test_top1_high"]], float_top1, depth)
    for ax, cost in zip(axes, costs, strict=True):
        divisor = _cost_axis(ax, cost, pd.concat([judged[cost], rows[cost]]))
        ax.set_ylim(bottom, top)
        ax.scatter(judged[cost] / divisor, judged["top1"], s=9, color=GREY, lw=0, label="trials (search top-1)")
        _draw_front(ax, rows, cost, divisor)
        _draw_uniform(ax, rows, cost, divisor)
        ax.axhline(float_top1, color=BLACK, lw=1, ls=(0, (5, 3)), label=f"float ({float_top1:.2f} %)")
    axes[0].set_ylabel("top-1 / %")
    _title_and_legend(figure, axes[0], title, columns=3 if len(costs) > 1 else 2)
    sentences = [_hypervolume_in_words(pareto, objectives, reference_point), _provenance(rows)]
    _caption(figure, [*sentences, *_clipped(judged["top1"], bottom, "trials")])
    return figure


def progress_figure(
    progress: pd.DataFrame, objectives: Sequence[str], reference_point: Mapping[str, float], title: str
) -> Figure:
    """Hypervolume of the front against the number of candidates, those dropped early included.

    Args:
        progress: ``progress.csv``.
        objectives: The search's objectives.
        reference_point: ``run.json``'s, for the caption.
        title: Shown above the panel.
    """
    figure, (ax,) = _panels(1, height=4.2)
    ax.step(progress["judged"], progress["hypervolume"], where="post", color=BLUE, lw=1.6, label="search split")
    ax.set_xlabel("candidates, those dropped early included")
    ax.set_ylabel("hypervolume of the front (share)")
    _title_and_legend(figure, ax, title, columns=1)
    used = {name: reference_point[name] for name in objectives}
    _caption(figure, [f"Share of the box between the ideal and the reference point: {in_words(used)}."])
    return figure


def compare_figure(comparison: Comparison, *, depth: float = 15.0) -> Figure:
    """Every run's uniform (hollow) and mixed (filled) rows, each run's front as a step line, the union's behind them.

    Args:
        comparison: What ``hwsearch.compare.compare_runs`` returned.
        depth: As for ``pareto_figure``, if y is an accuracy; rows below are counted in the caption.
    """
    x, y, rows = comparison.x, comparison.y, comparison.rows
    lines = len(comparison.summary) + len(comparison.notes)
    figure, (ax,) = _panels(1, height=5.2 + 0.2 * lines)
    scale = {x: _cost_axis(ax, x, rows[x]), y: unit_of(y, float(rows[y].max()))[0]}
    ax.set_ylabel(_axis_name(y, unit_of(y, float(rows[y].max()))[1]))
    sentences = ["Hollow: uniform precision; filled: mixed."]
    union = rows[rows["on_union_front"]]
    line: dict[str, Any] = {"color": BLACK, "lw": 4, "alpha": 0.22, "zorder": 1, "label": "union front"}
    _step(ax, union, (x, scale[x]), (y, scale[y]), **line)
    for i, (run, group) in enumerate(rows.groupby("run", sort=False)):
        _draw_run(ax, str(run), group, scale, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
    if y in ACCURACIES and comparison.float_top1 is not None:
        value = comparison.float_top1
        ax.axhline(value, color=BLACK, lw=1, ls=(0, (5, 3)), label=f"float ({value:.2f} %)")
        drawn = [rows[y], union["test_top1_high"]] if y == "test_top1" else [rows[y]]
        ax.set_ylim(*_limits(drawn, value, depth))
        sentences += _clipped(rows[y], ax.get_ylim()[0], "rows")
    if y == "test_top1":
        bars: dict[str, Any] = {"fmt": "none", "ecolor": BLACK, "elinewidth": 0.7, "alpha": 0.45, "zorder": 2}
        ax.errorbar(union[x] / scale[x], union[y], yerr=_bars(union), **bars)
        sentences.append("Bars on the union front: 95 % Wilson intervals.")
    if comparison.best is not None:
        _ring(ax, comparison.best, f"best {name_of(str(comparison.best_by))}", scale)
    title = f"{name_of(y)} against {name_of(x)}" + (f", where {comparison.where}" if comparison.where else "")
    _title_and_legend(figure, ax, title, columns=1 if len(comparison.summary) < 6 else 2)
    reference = f"Reference point of the hypervolumes: {in_words(comparison.reference_point)}."
    _caption(figure, [" ".join(sentences), reference, *comparison.notes])
    return figure


def transfer_figure(transfer: Transfer, *, depth: float = 15.0) -> Figure:
    """One panel per device: all candidates in grey, the best front on the device, and each run's front priced on it.

    Args:
        transfer: What ``hwsearch.transfer.transfer_runs`` returned.
        depth: As for ``pareto_figure``.
    """
    x, y, lines = transfer.x, transfer.y, len(transfer.devices) + len(transfer.notes)
    figure, axes = _panels(len(transfer.devices), height=5.2 + 0.2 * lines)
    for ax, device in zip(axes, transfer.devices, strict=True):
        rows = transfer.rows[transfer.rows["device"] == device]
        divisor = _cost_axis(ax, x, rows[x])
        ax.set_title(device, fontsize=10)
        ax.set_ylim(*_limits([transfer.rows[y]], transfer.float_top1, depth))
        ax.scatter(rows[x] / divisor, rows[y], s=9, color=GREY, lw=0, label="candidates of all runs")
        best: dict[str, Any] = {
            "color": BLACK,
            "lw": 4,
            "alpha": 0.22,
            "label": "front of all candidates",
        }
        _step(ax, rows[rows["on_device_front"]], (x, divisor), (y, 1.0), **best)
        for i, run in enumerate(dict.fromkeys(transfer.summary["run"])):
            front = rows[(rows["run"] == run) & rows["on_run_front"]]
            line: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "lw": 1.2, "label": f"front of {run}"}
            marks: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "ms": 4}
            _step(ax, front[non_dominated(front, [x, y])], (x, divisor), (y, 1.0), **line, **marks)
        ax.axhline(transfer.float_top1, color=BLACK, lw=1, ls=(0, (5, 3)), label=f"float ({transfer.float_top1:.2f} %)")
    axes[0].set_ylabel(_axis_name(y, "%"))
    _title_and_legend(figure, axes[0], "Fronts on other devices than they were searched for", columns=2)
    references = [f"Reference point on {name}: {in_words(point)}." for name, point in transfer.reference_points.items()]
    _caption(figure, [*references, *transfer.notes])
    return figure


def _draw_run(ax: Axes, run: str, rows: pd.DataFrame, scale: Mapping[str, float], colour: str, marker: str) -> None:
    (x, x_divisor), (y, y_divisor) = scale.items()
    for kind, face in (("uniform", "none"), ("mixed", colour)):
        of_kind = rows[rows["kind"] == kind]
        style: dict[str, Any] = {"s": 26, "marker": marker, "facecolors": face, "edgecolors": colour, "zorder": 3}
        ax.scatter(of_kind[x] / x_divisor, of_kind[y] / y_divisor, linewidths=1.1, **style)
    ax.plot([], [], marker=marker, color=colour, ms=5, lw=1.2, label=f"{run} ({' / '.join(rows['label'].unique())})")
    _step(ax, rows[rows["on_run_front"]], (x, x_divisor), (y, y_divisor), color=colour, lw=1.2)


def _ring(ax: Axes, row: pd.Series[Any], name: str, scale: Mapping[str, float]) -> None:
    (x, x_divisor), (y, y_divisor) = scale.items()
    ring: dict[str, Any] = {"s": 150, "facecolors": "none", "edgecolors": BLACK, "linewidths": 1.3, "zorder": 4}
    ax.scatter([row[x] / x_divisor], [row[y] / y_divisor], label=f"{name}: {row['run']}, trial {row['trial']}", **ring)


def _panels(count: int, height: float = 5.8) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(6.8, 4.6 * count + 0.6), height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
    for ax in panels:
        ax.grid(True, color="#E8E8E8", lw=0.7)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _cost_axis(ax: Axes, column: str, values: pd.Series[float]) -> float:
    """Name the axis, make it logarithmic if costs span a decade, and return what to divide the column by."""
    divisor, unit = unit_of(column, float(values.max()))
    ax.set_xlabel(_axis_name(column, unit))
    if DIRECTIONS[column] == "minimize" and 0 < values.min() < values.max() / 10:
        ax.set_xscale("log")
        for axis_formatter in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
            axis_formatter(FuncFormatter(lambda value, _: f"{value:g}" if str(f"{value:e}")[0] in "125" else ""))
    return divisor


def _axis_name(column: str, unit: str) -> str:
    return f"{name_of(column)} / {unit}"


def _limits(values: Sequence[pd.Series[float]], float_top1: float, depth: float) -> tuple[float, float]:
    """Limits of an accuracy axis: all values, but not deeper than ``depth`` below float or below the best value."""
    lowest, highest = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    bottom, top = max(lowest, min(float_top1, highest) - depth), max(highest, float_top1)
    margin = max(0.05 * (top - bottom), 0.2)
    return bottom - margin, top + margin


def _clipped(values: pd.Series[float], bottom: float, what: str) -> list[str]:
    below = int((values < bottom).sum())
    return [f"{below} of {len(values)} {what} lie below the axis."] if below else []


def _draw_front(ax: Axes, rows: pd.DataFrame, cost: str, divisor: float) -> None:
    front, mixed = rows[non_dominated(rows, ["test_top1", cost])], rows[rows["kind"] == "mixed"]
    _step(ax, front, (cost, divisor), ("test_top1", 1.0), color=BLUE, lw=1.6, label="non-dominated on these two axes")
    bars: dict[str, Any] = {"fmt": "o", "ms": 4.5, "color": BLUE, "elinewidth": 0.8, "zorder": 3}
    ax.errorbar(mixed[cost] / divisor, mixed["test_top1"], yerr=_bars(mixed), label="mixed (test top-1)", **bars)
    if (worse := mixed[mixed["dominated_by_uniform"]]).size:
        style: dict[str, Any] = {"s": 20, "facecolors": "white", "edgecolors": BLUE, "zorder": 4}
        label = "mixed, dominated by uniform"
        ax.scatter(worse[cost] / divisor, worse["test_top1"], label=label, **style)


def _draw_uniform(ax: Axes, rows: pd.DataFrame, cost: str, divisor: float) -> None:
    """Squares named by their mean bits; those under the axis as arrows on its bottom edge."""
    bottom, uniform = ax.get_ylim()[0], rows[rows["kind"] == "uniform"]
    seen, hidden = uniform[uniform["test_top1"] >= bottom], uniform[uniform["test_top1"] < bottom]
    bars: dict[str, Any] = {"fmt": "s", "ms": 5, "color": VERMILLION, "elinewidth": 0.8, "zorder": 3}
    ax.errorbar(seen[cost] / divisor, seen["test_top1"], yerr=_bars(seen), label="uniform (test top-1)", **bars)
    names = [(x, y, _bits(row)) for x, y, row in _points(seen, cost, divisor)]
    arrows: dict[float, list[str]] = {}  # rows of equal cost share an arrow
    for x, y, row in _points(hidden, cost, divisor):
        arrows.setdefault(x, []).append(f"{_bits(row)}: {y:.0f} %")
    for x, texts in arrows.items():
        ax.plot(x, bottom, marker="v", color=VERMILLION, ms=6, clip_on=False, zorder=5)
        style: dict[str, Any] = {"textcoords": "offset points", "rotation": 90, "ha": "center", "zorder": 5}
        ax.annotate(", ".join(texts), (x, bottom), (0, 7), fontsize=8, color=VERMILLION, **style)
    taken = [(x, y) for x, y, _ in _points(rows, cost, divisor)]
    taken += [(x, bottom + share * (ax.get_ylim()[1] - bottom)) for x in arrows for share in (0.03, 0.09, 0.15, 0.21)]
    _name_points(ax, names, taken)


def _points(rows: pd.DataFrame, cost: str, divisor: float) -> list[tuple[float, float, Any]]:
    """x, y and the row itself, of every row."""
    return [(getattr(row, cost) / divisor, getattr(row, "test_top1"), row) for row in rows.itertuples()]  # noqa: B009


def _name_points(ax: Axes, named: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, on the side where it hides the fewest other points and names.

    The lowest is named first and below it, so that names of neighbours stand in the order of their points.
    """
    to_inch = ax.transData + ax.figure.dpi_scale_trans.inverted()
    taken: list[Any] = [72 * to_inch.transform(point) for point in points]  # in pt
    edge = 72 * to_inch.transform((points[0][0], ax.get_ylim()[0]))[1]
    for x, y, name in sorted(named, key=lambda point: point[1]):
        at, width, height = 72 * to_inch.transform((x, y)), 5.0 * len(name), 9.0  # size of 8 pt text, in pt
        sides = [(6.0, -11.0), (6.0, 4.0), (-6.0 - width, 4.0), (-6.0 - width, -11.0)]
        sides += [(-width / 2, 12.0), (-width / 2, -20.0), (6.0, 15.0), (-6.0 - width, 15.0)]
        inside = [(dx, dy) for dx, dy in sides if at[1] + dy > edge]
        hidden = [_inside(taken, at[0] + dx, at[1] + dy, width, height) for dx, dy in inside]
        dx, dy = inside[hidden.index(min(hidden))]
        taken += [(at[0] + dx + share * width, at[1] + dy + height / 2) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": VERMILLION, "zorder": 5}
        ax.annotate(name, (x, y), (dx, dy), **style).set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _inside(points: Sequence[Any], left: float, low: float, width: float, height: float, gap: float = 3.0) -> int:
    """How many points lie in a box or within ``gap`` of it."""
    return sum(left - gap < x < left + width + gap and low - gap < y < low + height + gap for x, y in points)


def _bits(row: object) -> str:
    """``W4A4``; means are rounded to one decimal where pinned layers keep them from being whole."""
    return "".join(
        f"{letter}{round(getattr(row, column), 1):g}"
        for letter, column in (("W", "weight_bits_mean"), ("A", "activation_bits_mean"))
    )


def _bars(rows: pd.DataFrame) -> list[pd.Series[float]]:
    return [rows["test_top1"] - rows["test_top1_low"], rows["test_top1_high"] - rows["test_top1"]]


def _step(ax: Axes, front: pd.DataFrame, x: tuple[str, float], y: tuple[str, float], **style: Any) -> None:
    """Join a front by the edge of what it dominates: nothing between two points is attained by any."""
    front = front.sort_values([x[0], y[0]])
    # A cost buys the better y only once it is paid (steps-post); with x an accuracy, y holds up to it (steps-pre).
    where = "steps-post" if DIRECTIONS[x[0]] == "minimize" else "steps-pre"
    ax.plot(front[x[0]] / x[1], front[y[0]] / y[1], drawstyle=where, **style)


def _title_and_legend(figure: Figure, ax: Axes, title: str, columns: int) -> None:
    """The title heads the legend: constrained layout would draw a separate one over it."""
    legend = figure.legend(
        *ax.get_legend_handles_labels(),
        title=textwrap.fill(title, int(figure.get_figwidth() * 9)),
        title_fontsize=11,
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        fontsize=8.5,
        frameon=False,
    )
    legend.get_title().set_fontweight("bold")


def _caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Text below the panels, wrapped to the figure's width."""
    width = int(figure.get_figwidth() * 17)
    text = "\n".join(textwrap.fill(sentence, width) for sentence in sentences)
    figure.supxlabel(text, fontsize=8, ha="left", x=0.02, color="#404040")


def _hypervolume_in_words(pareto: pd.DataFrame, objectives: Sequence[str], reference: Mapping[str, float]) -> str:
    searched = {f"search_{name}": name for name in ("top1", "kl", "agreement")}
    front = pareto[pareto["on_front"] & (pareto["kind"] != "float")].rename(columns=searched)
    value = hypervolume(front, objectives, reference)
    used = {name: reference[name] for name in objectives}
    return f"Hypervolume {value:.3f} of 1 on the search split; its reference point: {in_words(used)}."


def _provenance(rows: pd.DataFrame) -> str:
    sources = " and ".join(sorted(set(rows["cost_source"])))
    return f"Costs are {sources}. Bars: 95 % Wilson intervals. WxAy: mean bits of weights and activations."
