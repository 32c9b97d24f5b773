"""Learning curves, curves over missing rates, and train x test matrices of missing rates."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.report import figures, names, rate_summaries, significance
from keras_m3s.report.content import Cell, Figure, Panel, Table
from keras_m3s.report.groups import Arm, Group
from keras_m3s.report.records import Rate

BAND = "Lines: mean over seeds; bands: ± one standard deviation."

LOSSES = {"loss": "Training loss", "val_loss": "Validation loss", "test_loss": "Test loss"}
SPLITS = {"val": "validation", "test": "test"}

Rows = list[dict[str, float]]
Line = tuple[str, dict[str, Any], Rows]
"""Label, style, points."""


def band(values: Mapping[float, Sequence[float]], x: str) -> Rows:
    """Mean and band of ± one standard deviation at each position on the horizontal axis.

    Args:
        values: Position -> a number for each seed that has one there.
        x: Name of the axis.

    Returns:
        Rows of `x`, `runs`, `mean`, `sd`, `low`, `high`, in order of the position; the band of a
        single seed has no width.
    """
    rows = []
    for position, numbers in sorted(values.items()):
        summary = significance.summarize(numbers)
        width = 0.0 if math.isnan(summary.sd) else summary.sd
        rows.append(
            {
                x: position,
                "runs": summary.count,
                "mean": summary.mean,
                "sd": summary.sd,
                "low": summary.mean - width,
                "high": summary.mean + width,
            }
        )
    return rows


def learning(arm: Arm, column: str) -> Rows:
    """A column of history.csv over epochs, each averaged over the seeds that reached it."""
    values: dict[float, list[float]] = {}
    for run in arm.runs.values():
        for row in run.history:
            if column in row and math.isfinite(row[column]):
                values.setdefault(row["epoch"], []).append(row[column])
    return band(values, "epoch")


def learning_figure(group: Group, key: str) -> Figure | None:
    """Losses and metrics over epochs, as in the paper's Figures 1, 3 and 4; `None` if no run has a
    history."""
    columns = dict.fromkeys(c for run in group.runs for row in run.history[:1] for c in row)
    titles = {c: t for c, t in LOSSES.items() if c in columns}
    for metric in group.main_metrics:
        for split, where in SPLITS.items():
            if f"{split}_{metric}" in columns:
                titles[f"{split}_{metric}"] = f"{names.metric_title(metric)}, {where}"
    styles = arm_styles(group.arms)
    panels = []
    for column, title in titles.items():
        lines = [(arm.label, style, learning(arm, column)) for arm, style in styles]
        lines = [line for line in lines if line[2]]
        if lines:
            panels.append(line_panel(title, lines, "epoch", "Epoch"))
    if not panels:
        return None
    legend = [(arm.label, style) for arm, style in styles]
    return Figure(key, group.title, BAND, panels, legend, group.notes)


def by_rate(group: Group, pattern: str, ranges: bool) -> dict[str, dict[Rate, dict[int, Any]]]:
    """Tests of a group by missing rate.

    Args:
        group: A group by `TRAINING`.
        pattern: Pattern of the tests.
        ranges: Whether to take tests at ranges of rates, or else those at single rates.

    Returns:
        Label of an arm -> (low, high) -> seed -> metrics, for arms with more than one rate.
    """
    found: dict[str, dict[Rate, dict[int, Any]]] = {}
    for arm in group.arms:
        for seed, run in arm.runs.items():
            for test in run.tests:
                alike = test.pattern == pattern and not test.modality_rates
                if alike and (test.rate[0] < test.rate[1]) == ranges:
                    found.setdefault(arm.label, {}).setdefault(test.rate, {})[seed] = test.metrics
    return {label: rates for label, rates in found.items() if len(rates) > 1}


def rate_kinds(group: Group) -> list[tuple[str, bool]]:
    """Arguments `(pattern, ranges)` of `by_rate` for which a group has tests."""
    kinds = dict.fromkeys(
        (test.pattern, test.rate[0] < test.rate[1])
        for run in group.runs
        for test in run.tests
        if not test.modality_rates
    )
    return [kind for kind in kinds if by_rate(group, *kind)]


def rate_rows(tests: Mapping[Rate, Mapping[int, Mapping[str, float]]], metric: str) -> Rows:
    """A metric over missing rates, each range at its midpoint."""
    values = {
        _midpoint((low, high)): [m[metric] for m in seeds.values() if metric in m]
        for (low, high), seeds in tests.items()
    }
    return band({rate: numbers for rate, numbers in values.items() if numbers}, "rate")


def rate_figure(group: Group, pattern: str, ranges: bool, key: str) -> Figure:
    """Each metric over the missing rate in testing, with the rates of training shaded."""
    tests = by_rate(group, pattern, ranges)
    styles = [(arm, style) for arm, style in arm_styles(group.arms) if arm.label in tests]
    low, high = group.values["missing_rate"]
    panels = []
    for metric in group.main_metrics:
        lines = [
            (arm.label, style, _percent(rate_rows(tests[arm.label], metric)))
            for arm, style in styles
        ]
        lines = [line for line in lines if line[2]]
        shade = (100 * low, 100 * high)
        title, xlabel = names.metric_title(metric), "Missing in testing, %"
        panels.append(line_panel(title, lines, "rate", xlabel, shade))
    notes = [f"Shaded: the missing rates of training, {names.rate_title((low, high))}."]
    if ranges:
        notes.append("Each point is at the midpoint of a range of rates.")
    title = f"{group.title} · tested at {'ranges of rates' if ranges else 'single rates'}"
    if pattern != group.values["pattern"]:
        title += f" with {names.pattern_title(pattern)}"
    legend = [(arm.label, style) for arm, style in styles]
    return Figure(key, title, BAND, panels, legend, [*notes, *group.notes])


def area_rows(group: Group, pattern: str, ranges: bool) -> list[dict[str, Any]]:
    """Mean over rates (P1) and area under the curve (P2, AUILC), for each arm and metric.

    Only rates at which all seeds of all arms were tested are used, so that the numbers compare.
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
                {_midpoint(rate): found[rate][seed][metric] for rate in rates}
                for seed in seeds[label]
                if all(metric in found[rate][seed] for rate in rates)
            ]
            if len(rates) < 3 or not curves:
                continue
            means = significance.summarize([rate_summaries.mean_over_rates(c) for c in curves])
            areas = significance.summarize([rate_summaries.auilc(c) for c in curves])
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
    """The numbers of `area_rows`; `None` if there are fewer than three common rates."""
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
        f"Over {rows[0]['rates']} missing rates from {low:.4g} to {high:.4g}\u202f%. Mean: "
        "unweighted. AUILC: area under the curve over the rate, by the trapezoidal rule, not "
        "divided by the range of rates; lower is better if the metric is MAE."
    )
    return Table(key, title, header, lines, [note, *group.notes])


def matrix_figures(groups: Iterable[Group]) -> list[Figure]:
    """Heat maps of the first main metric over the missing rates in training and in testing.

    Args:
        groups: Groups by `TRAINING`.
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
    """Label of an arm -> (rate in training, rate in testing) -> mean of a metric over seeds."""
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

        description = "; ".join(
            f"trained at {names.rate_title(r)}, tested at {names.rate_title(c)}: "
            f"{names.number(cells[label][r, c])}"
            for r in rows
            for c in columns
            if (r, c) in cells[label]
        )
        panels.append(
            Panel(label, f"{names.metric_title(metric)} of {label}: {description}.", draw)
        )
    v = first.values
    mark = f" {names.SELECTED_ON_TEST}" if first.selected_on_test else ""
    title = (
        f"{names.dataset_title(v['dataset'])} · {names.model_title(v['model'])} · "
        f"{names.metric_title(metric)}{mark}"
    )
    better = "lower" if names.lower_is_better(metric) else "higher"
    caption = f"Mean over seeds; brighter is better ({better} values)."
    return Figure(key, title, caption, panels, notes=first.notes)


def arm_styles(arms: Sequence[Arm]) -> list[tuple[Arm, dict[str, Any]]]:
    """Each arm with its line style."""
    others = [arm.method for arm in arms if not figures.has_style(arm.method)]
    return [
        (arm, figures.style(arm.method, others.index(arm.method) if arm.method in others else 0))
        for arm in arms
    ]


def line_panel(
    title: str,
    lines: Sequence[Line],
    x: str,
    xlabel: str,
    shade: tuple[float, float] | None = None,
) -> Panel:
    """A plot of lines with bands, with a text of where they begin and end."""

    def draw(axes: Any) -> None:
        if shade and shade[0] < shade[1]:
            axes.axvspan(*shade, color=figures.TEXT, alpha=0.07, linewidth=0)
        figures.draw_lines(axes, [(style, rows) for _, style, rows in lines], x, xlabel)

    description = "; ".join(
        f"{label} from {names.number(rows[0]['mean'])} at {rows[0][x]:g} "
        f"to {names.number(rows[-1]['mean'])} at {rows[-1][x]:g}"
        for label, _, rows in lines
    )
    axis = "epoch" if x == "epoch" else "missing rate in percent"
    return Panel(title, f"{title} over {axis}: {description}.", draw)


def _midpoint(rate: Rate) -> float:
    return round(sum(rate) / 2, 9)


def _percent(rows: Rows) -> Rows:
    return [row | {"rate": round(100 * row["rate"], 6)} for row in rows]
