"""Pictures of robustness tables and comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class Table(Protocol):
    """What is drawn of a `RobustnessTable`."""

    @property
    def patterns(self) -> Sequence[str]: ...
    @property
    def complete(self) -> Mapping[str, float]: ...

    def curve(self, metric: str, pattern: str) -> Sequence[tuple[float, float, float]]: ...
    def rows(self) -> Sequence[Mapping[str, Any]]: ...


COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#6A5ACD", "#777777")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")

PANEL = (4.6, 3.8)
BAR_HEIGHT = 0.1
"""Inches: width and height of a panel of curves, height of a bar."""


def draw_table(table: Table, metric: str) -> Any:
    """A figure of one model: a curve for each pattern, and bars for absent modalities.

    Args:
        table: What to draw.
        metric: Name of a metric.
    """
    return draw_tables({"": [table]}, metric)


def draw_tables(tables: Mapping[str, Sequence[Table]], metric: str) -> Any:
    """A figure of several models: a panel for each pattern, beside them one of absent modalities.

    Args:
        tables: Name of a model -> the tables of its seeds.
        metric: Name of a metric.
    """
    from matplotlib.figure import Figure

    first = next(iter(tables.values()))[0]
    single = len(tables) == 1
    absent = [row["absent"] for row in first.rows() if row["absent"]]
    curves = 1 if single else len(first.patterns)
    # Two columns, whatever the patterns and modalities: with bars the curves are the first.
    columns = 1 if absent else min(2, curves)
    rows = -(-curves // columns)
    height = max(PANEL[1] * rows, BAR_HEIGHT * len(absent) * max(2, len(tables)))
    width = PANEL[0] * (columns + bool(absent))
    figure = Figure(figsize=(width, height), layout="constrained")
    places = figure.add_gridspec(rows, columns + bool(absent))
    grid = [figure.add_subplot(places[divmod(at, columns)]) for at in range(curves)]
    for number, (name, members) in enumerate(tables.items()):
        for at, pattern in enumerate(first.patterns):
            axes = grid[0] if single else grid[at]
            style = at if single else number
            _curve(axes, members, metric, pattern, pattern if single else name, style)
            if not single:
                axes.set_title(pattern)
    for axes in grid:
        axes.set_xlabel("missing rate")
        axes.set_ylabel(metric)
        axes.legend(frameon=False)
        axes.grid(alpha=0.25)
    if absent:
        _bars(figure.add_subplot(places[:, -1]), tables, metric, absent)
    return figure


def _curve(
    axes: Any, tables: Sequence[Table], metric: str, pattern: str, label: str, at: int
) -> None:
    """Means over seeds; the band is the spread over seeds, or over draws of a single one."""
    curves = [table.curve(metric, pattern) for table in tables]
    rates = [rate for rate, _, _ in curves[0]]
    means = np.array([[mean for _, mean, _ in curve] for curve in curves])
    if len(curves) > 1:
        spread = means.std(axis=0, ddof=1)
    else:
        spread = np.nan_to_num([sd for _, _, sd in curves[0]])
    mean, color = means.mean(axis=0), COLORS[at % len(COLORS)]
    axes.plot(rates, mean, color=color, marker=MARKERS[at % len(MARKERS)], label=label)
    axes.fill_between(rates, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0)


def _bars(
    axes: Any,
    each: Mapping[str, Sequence[Table]],
    metric: str,
    absent: Sequence[tuple[str, ...]],
) -> None:
    height = 0.8 / len(each)
    for number, (name, tables) in enumerate(each.items()):
        rows = [{row["absent"]: row[metric] for row in table.rows()} for table in tables]
        values = [np.mean([row[key] for row in rows]) for key in absent]
        places = np.arange(len(absent)) + height * (number - (len(each) - 1) / 2)
        axes.barh(places, values, height, color=COLORS[number % len(COLORS)], label=name or None)
        complete = float(np.mean([table.complete[metric] for table in tables]))
        axes.axvline(complete, color=COLORS[number % len(COLORS)], linestyle=":", linewidth=1)
    axes.set_yticks(range(len(absent)), [" + ".join(key) for key in absent], fontsize="small")
    axes.set_ylim(len(absent) - 0.4, -0.6)
    axes.set_xlabel(f"{metric} without (dotted: nothing missing)")
    axes.grid(axis="x", alpha=0.25)
