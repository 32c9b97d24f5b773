"""Learning curves, curves over missing rates, and train x test matrices of groups of runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.report import figures, names, robustness, significance
from keras_m3s.report.collect import Arm, Group, Rate
from keras_m3s.report.content import Cell, Figure, Panel, Table

BAND = "Lines: mean over seeds; bands: ± one standard deviation."

LOSSES = {"loss": "Training loss", "val_loss": "Validation loss", "test_loss": "Test loss"}
SPLITS = {"val": "validation", "test": "test"}

Rows = list[dict[str, float]]
Line = tuple[str, dict[str, Any], Rows]
"""Label, style, points."""


def band(values: Mapping[float, Sequence[float]], x: str) -> Rows:
    """Mean and band at each place on the horizontal axis.

    Args:
        values: Place -> a number for each seed that has one there.
        x: Name of the axis.

    Returns:
        Rows of `x`, `runs`, `mean`, `sd`, `low`, `high`, in order; without a second seed the band
        has no width.
    """
    rows = []
    for place, numbers in sorted(values.items()):
        summary = significance.summarize(numbers)
        width = 0.0 if math.isnan(summary.sd) else summary.sd
        rows.append(
            {
                x: place,
                "runs": summary.count,
                "mean": summary.mean,
                "sd": summary.sd,
                "low": summary.mean - width,
                "high": summary.mean + width,
            }
        )
    return rows


def learning(arm: Arm, column: str) -> Rows:
    """A column of history.csv over epochs; seeds that stopped earlier end earlier."""
    values: dict[float, list[float]] = {}
    for run in arm.runs.values():
        for row in run.history:
            if column in row and math.isfinite(row[column]):
                values.setdefault(row["epoch"], []).append(row[column])
    return band(values, "epoch")


def learning_figure(group: Group, key: str) -> Figure | None:
    """The paper's Figures 1, 3, 4: losses and metrics along training; `None` without history."""
    columns = dict.fromkeys(c for run in group.runs for row in run.history[:1] for c in row)
    titles = {c: t for c, t in LOSSES.items() if c in columns}
    for metric in group.main_metrics:
        for split, where in SPLITS.items():
            if f"{split}_{metric}" in columns:
                titles[f"{split}_{metric}"] = f"{names.metric_title(metric)}, {where}"
    looks = styles(group.arms)
    panels = []
    for column, title in titles.items():
        lines = [(arm.label, look, learning(arm, column)) for arm, look in looks]
        lines = [line for line in lines if line[2]]
        if lines:
            panels.append(_line_panel(title, lines, "epoch", "Epoch"))
    if not panels:
        return None
    return Figure(
        key, group.title, BAND, panels, [(arm.label, look) for arm, look in looks], _marks(group)
    )


def by_rate(group: Group, pattern: str, ranges: bool) -> dict[str, dict[Rate, dict[int, Any]]]:
    """Tests of a group at all missing rates.

    Args:
        group: Of one training, see `collect.TRAINING`.
        pattern: Of the tests.
        ranges: Whether to take ranges of rates, or else single rates.

    Returns:
        Label of an arm -> (low, high) -> seed -> metrics.
    """
    found: dict[str, dict[Rate, dict[int, Any]]] = {}
    for arm in group.arms:
        for seed, run in arm.runs.items():
            for test in run.tests:
                if test.pattern == pattern and (test.rate[0] < test.rate[1]) == ranges:
                    found.setdefault(arm.label, {}).setdefault(test.rate, {})[seed] = test.metrics
    return {label: rates for label, rates in found.items() if len(rates) > 1}


def rate_kinds(group: Group) -> list[tuple[str, bool]]:
    """(pattern, ranges) of the tests of a group at more than one rate."""
    kinds = dict.fromkeys(
        (test.pattern, test.rate[0] < test.rate[1]) for run in group.runs for test in run.tests
    )
    return [kind for kind in kinds if by_rate(group, *kind)]


def rate_rows(tests: Mapping[Rate, Mapping[int, Mapping[str, float]]], metric: str) -> Rows:
    """A metric over missing rates, each range at its middle."""
    values = {
        _middle((low, high)): [m[metric] for m in seeds.values() if metric in m]
        for (low, high), seeds in tests.items()
    }
    return band({rate: numbers for rate, numbers in values.items() if numbers}, "rate")


def rate_figure(group: Group, pattern: str, ranges: bool, key: str) -> Figure:
    """Robustness: each metric over the missing rate in testing, the rates of training shaded."""
    tests = by_rate(group, pattern, ranges)
    looks = [(arm, look) for arm, look in styles(group.arms) if arm.label in tests]
    low, high = group.values["missing_rate"]
    panels = []
    for metric in group.main_metrics:
        lines = [
            (arm.label, look, _percent(rate_rows(tests[arm.label], metric))) for arm, look in looks
        ]
        lines = [line for line in lines if line[2]]
        shade = (100 * low, 100 * high)
        title, xlabel = names.metric_title(metric), "Missing in testing, %"
        panels.append(_line_panel(title, lines, "rate", xlabel, shade))
    notes = [f"Shaded: the missing rates of training, {names.rate_title((low, high))}."]
    if ranges:
        notes.append("Each point stands at the middle of a range of rates.")
    title = f"{group.title} · tested at {'ranges of rates' if ranges else 'single rates'}"
    if pattern != group.values["pattern"]:
        title += f" with {names.pattern_title(pattern)}"
    legend = [(arm.label, look) for arm, look in looks]
    return Figure(key, title, BAND, panels, legend, [*notes, *_marks(group)])


def area_rows(group: Group, pattern: str, ranges: bool) -> list[dict[str, Any]]:
    """Mean over rates (P1) and area under the curve (P2, AUILC), for each arm and metric.

    Only rates that all seeds of all arms were tested at count, so that the numbers compare.
    """
    tests = by_rate(group, pattern, ranges)
    seeds = {arm.label: set(arm.runs) for arm in group.arms}
    rates = [
        rate
        for rate in sorted(set().union(*tests.values()))
        if all(set(t.get(rate, {})) == seeds[label] for label, t in tests.items())
    ]
    rows = []
    for label, found in tests.items():
        for metric in group.main_metrics:
            curves = [
                {_middle(rate): found[rate][seed][metric] for rate in rates}
                for seed in seeds[label]
                if all(metric in found[rate][seed] for rate in rates)
            ]
            if len(rates) < 3 or not curves:
                continue
            means = significance.summarize([robustness.mean_over_rates(c) for c in curves])
            areas = significance.summarize([robustness.auilc(c) for c in curves])
            rows.append(
                {
                    "label": label,
                    "metric": metric,
                    "rates": len(rates),
                    "lowest_rate": min(curves[0]),
                    "highest_rate": max(curves[0]),
                    "runs": means.count,
                    "mean": means.mean,
                    "mean_sd": means.sd,
                    "auilc": areas.mean,
                    "auilc_sd": areas.sd,
                }
            )
    return rows


def area_table(group: Group, pattern: str, ranges: bool, title: str, key: str) -> Table | None:
    """The numbers of `area_rows`; `None` with fewer than three common rates."""
    rows = area_rows(group, pattern, ranges)
    if not rows:
        return None
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["label"], row["metric"]): row for row in rows}
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        line = [Cell(label)]
        for kind in ("mean", "auilc"):
            for metric in metrics:
                row = cells.get((label, metric))
                text = names.spread(row[kind], row[f"{kind}_sd"]) if row else names.NOTHING
                line.append(Cell(text))
        lines.append(line)
    header = ["Method", *(f"Mean {names.metric_title(m)}" for m in metrics)]
    header += [f"AUILC {names.metric_title(m)}" for m in metrics]
    low, high = (100 * rows[0][f"{end}_rate"] for end in ("lowest", "highest"))
    note = (
        f"Over {rows[0]['rates']} missing rates from {low:.4g} to {high:.4g}\u202f%. Mean: all "
        "rates alike. AUILC: area under the curve over the rate, by the trapezoidal rule, not "
        "divided by its width; lower is better where the metric is MAE."
    )
    return Table(key, title, header, lines, [note, *_marks(group)])


def matrix_figures(groups: Iterable[Group]) -> list[Figure]:
    """Missing rate in training x in testing, a plot a method, for the first of the paper's metrics.

    Args:
        groups: One for each training, see `collect.TRAINING`.
    """
    families: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        v = group.values
        shared = (v["dataset"], v["model"], v["pattern"], v["site"], v["select"])
        families.setdefault(shared, []).append(group)
    found = []
    for number, members in enumerate(families.values()):
        figure = _matrix_figure(members, f"matrix-{number + 1}")
        if figure:
            found.append(figure)
    return found


def matrix(groups: Sequence[Group], metric: str) -> dict[str, dict[tuple[Rate, Rate], float]]:
    """Label of an arm -> (rate in training, rate in testing) -> mean over seeds."""
    found: dict[str, dict[tuple[Rate, Rate], float]] = {}
    for group in groups:
        train = group.values["missing_rate"]
        tests = by_rate(group, group.values["pattern"], ranges=True)
        for label, rates in tests.items():
            for rate, seeds in rates.items():
                values = [m[metric] for m in seeds.values() if metric in m]
                if values:
                    mean = significance.summarize(values).mean
                    found.setdefault(label, {})[train, rate] = mean
    return found


def _matrix_figure(groups: Sequence[Group], key: str) -> Figure | None:
    metrics = groups[0].main_metrics
    if not metrics:
        return None
    metric = metrics[0]
    cells = matrix(groups, metric)
    rows = sorted({train for found in cells.values() for train, _ in found})
    columns = sorted({test for found in cells.values() for _, test in found})
    if len(rows) < 2 or len(columns) < 2:
        return None
    numbers = [value for found in cells.values() for value in found.values()]
    limits = (min(numbers), max(numbers))
    first = groups[0]
    labels = list(dict.fromkeys(a.label for g in groups for a in g.arms if a.label in cells))
    panels = []
    for label in labels:
        values = [[cells[label].get((r, c), math.nan) for c in columns] for r in rows]

        def draw(axes: Any, values: Any = values) -> None:
            figures.draw_heat_map(
                axes,
                values,
                [names.rate_title(r) for r in rows],
                [names.rate_title(c) for c in columns],
                limits,
                reverse=names.lower_is_better(metric),
            )

        said = "; ".join(
            f"trained at {names.rate_title(r)}, tested at {names.rate_title(c)}: "
            f"{names.number(cells[label][r, c])}"
            for r in rows
            for c in columns
            if (r, c) in cells[label]
        )
        panels.append(Panel(label, f"{names.metric_title(metric)} of {label}: {said}.", draw))
    v = first.values
    mark = f" {names.SELECTED_ON_TEST}" if first.selected_on_test else ""
    title = (
        f"{names.dataset_title(v['dataset'])} · {names.model_title(v['model'])} · "
        f"{names.metric_title(metric)}{mark}"
    )
    better = "lower" if names.lower_is_better(metric) else "higher"
    caption = f"Mean over seeds; brighter is better ({better} values)."
    return Figure(key, title, caption, panels, notes=_marks(first))


def styles(arms: Sequence[Arm]) -> list[tuple[Arm, dict[str, Any]]]:
    """Each arm with a line style of its own."""
    others = [arm.method for arm in arms if not figures.has_style(arm.method)]
    return [
        (arm, figures.style(arm.method, others.index(arm.method) if arm.method in others else 0))
        for arm in arms
    ]


def _line_panel(
    title: str,
    lines: Sequence[Line],
    x: str,
    xlabel: str,
    shade: tuple[float, float] | None = None,
) -> Panel:
    def draw(axes: Any) -> None:
        if shade and shade[0] < shade[1]:
            axes.axvspan(*shade, color=figures.TEXT, alpha=0.07, linewidth=0)
        figures.draw_lines(axes, [(look, rows) for _, look, rows in lines], x, xlabel)

    said = "; ".join(
        f"{label} from {names.number(rows[0]['mean'])} at {rows[0][x]:g} "
        f"to {names.number(rows[-1]['mean'])} at {rows[-1][x]:g}"
        for label, _, rows in lines
    )
    axis = "epoch" if x == "epoch" else "missing rate in percent"
    return Panel(title, f"{title} over {axis}: {said}.", draw)


def _middle(rate: Rate) -> float:
    return round(sum(rate) / 2, 9)


def _percent(rows: Rows) -> Rows:
    return [row | {"rate": round(100 * row["rate"], 6)} for row in rows]


def _marks(group: Group) -> list[str]:
    return [names.SELECTED_NOTE] if group.selected_on_test else []
