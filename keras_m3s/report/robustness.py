"""What models withstand: curves over missing rates, every modality absent, side by side."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from keras_m3s.registry import metrics as metric_cards
from keras_m3s.report import curves, figures, names, significance
from keras_m3s.report.content import BEST, Cell, Element, Figure, Panel, Section, Table
from keras_m3s.report.groups import Arm, Group, changes, group_runs
from keras_m3s.report.records import RobustnessCondition, RunRecord

TOGETHER = ("dataset", "model", "model_source", "site", "select")
"""Fields of an experiment that models in one picture share; at which rates they were trained is
among what is compared."""

Values = Mapping[RobustnessCondition, Mapping[int, Sequence[float]]]
"""Condition -> seed -> a number for each draw."""


def section(runs: Sequence[RunRecord]) -> Section:
    """Of all runs that were tested with `keras-m3s evaluate --robustness`."""
    tested = [run for run in runs if run.robustness]
    elements: list[Element] = []
    for number, group in enumerate(group_runs(tested, TOGETHER), 1):
        elements += _elements(group, f"robustness-{number}")
    return Section(
        "robustness",
        "What the models withstand",
        "On the test data, with the holes that all runs of the data share: over missing rates, and "
        "without each modality as a whole.",
        elements,
    )


def rows(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """The same numbers as flat rows: a mean over draws for each run, condition and metric."""
    found = []
    for group in group_runs([run for run in runs if run.robustness], TOGETHER):
        for label, arm, _ in _labelled(group):
            for metric in _metrics(group):
                for condition, seeds in _values(arm, metric).items():
                    for seed, draws in seeds.items():
                        found.append(
                            {
                                **{k: group.values[k] for k in ("dataset", "model")},
                                "label": label,
                                "seed": seed,
                                "pattern": condition.pattern,
                                "rate": condition.rate,
                                "absent": "+".join(condition.absent),
                                "metric": metric,
                                "draws": len(draws),
                                "mean": statistics.fmean(draws),
                            }
                        )
    return found


def _elements(group: Group, key: str) -> list[Element]:
    found = _metrics(group)
    if not found:
        return []
    metric = metric_cards.main(found)
    arms = [(label, style, _values(arm, metric)) for label, arm, style in _labelled(group)]
    conditions = list(dict.fromkeys(c for _, _, values in arms for c in values))
    title = " · ".join(
        [names.dataset_title(group.values["dataset"]), names.source_title(group.values)]
    )
    panels = [
        _curve_panel(arms, metric, pattern)
        for pattern in dict.fromkeys(c.pattern for c in conditions if c.pattern)
    ]
    alone = [c for c in conditions if len(c.absent) == 1]
    if alone:
        panels.append(_absent_panel(arms, metric, alone))
    seeds = {len(arm.runs) for _, arm, _ in _labelled(group)}
    over = "seeds" if max(seeds) > 1 else "draws of the holes"
    caption = f"Lines and points: means; bands: ± one standard deviation over {over}."
    if alone:
        caption += " Dotted: nothing missing."
    figure = Figure(key, title, caption, panels, [(label, style) for label, style, _ in arms])
    better = "lower" if names.lower_is_better(metric) else "higher"
    table = Table(
        f"{key}-table",
        f"{title} · {names.metric_title(metric)}",
        ["Missing in testing", *(label for label, _, _ in arms)],
        [_line(condition, arms, metric) for condition in _in_order(conditions)],
        [f"Mean ± standard deviation over {over}; bold: best of a row, {better} is better."],
    )
    return [figure, table]


def _metrics(group: Group) -> list[str]:
    """Metrics that all runs of a group were tested on."""
    runs = [run for arm in (*group.arms, *group.variations) for run in arm.runs.values()]
    first, *others = ([*run.robustness[0].metrics] for run in runs)
    return [metric for metric in first if all(metric in other for other in others)]


def _labelled(group: Group) -> list[tuple[str, Arm, dict[str, Any]]]:
    """Arms with a label that tells them apart, and a style each."""
    nearest = {arm.method: arm for arm in group.arms}
    arms = [*group.arms, *group.variations]
    rates = {(arm.method, tuple(arm.config["missing_rate"])) for arm in arms}
    several = len({rate for _, rate in rates}) > 1
    labelled, styled, others = [], set(), 0
    for arm in sorted(arms, key=lambda arm: (arm.config["missing_rate"], _order(arm))):
        parts = [names.method_title(arm.method, short=True)]
        rate = arm.config["missing_rate"]
        if several and not rate[1]:
            parts = [f"{parts[0]}, trained complete"]
        elif several:
            parts = [f"{parts[0]}, trained at {names.rate_title(rate)}"]
        for change in changes(arm.config, nearest[arm.method].config):
            if not change.startswith("missing_rate "):
                parts.append(change)
        own = figures.has_style(arm.method) and arm.method not in styled and rate[1] > 0
        style = figures.style(arm.method) if own else figures.other_style(others)
        if own:
            styled.add(arm.method)
        else:
            others += 1
        labelled.append((", ".join(parts), arm, style))
    return labelled


def _order(arm: Arm) -> Any:
    return names.method_order(arm.method), arm.label


def _values(arm: Arm, metric: str) -> Values:
    found: dict[RobustnessCondition, dict[int, list[float]]] = {}
    for seed, run in arm.runs.items():
        for test in run.robustness:
            value = test.metrics.get(metric, math.nan)
            if math.isfinite(value):
                found.setdefault(test.condition, {}).setdefault(seed, []).append(value)
    return found


def _numbers(seeds: Mapping[int, Sequence[float]]) -> list[float]:
    """A mean over draws for each seed; of a single seed its draws."""
    if len(seeds) == 1:
        return list(next(iter(seeds.values())))
    return [statistics.fmean(draws) for draws in seeds.values()]


def _curve_panel(arms: Sequence[Any], metric: str, pattern: str) -> Panel:
    lines = []
    for label, style, values in arms:
        points = {
            100 * c.rate: _numbers(seeds)
            for c, seeds in values.items()
            if c.pattern == pattern and c.rate is not None
        }
        if points:
            lines.append((label, style, curves.band(points, "rate")))
    title = f"{names.metric_title(metric)}, {names.pattern_title(pattern)}"
    return curves.line_panel(title, lines, "rate", "Missing, %")


def _absent_panel(arms: Sequence[Any], metric: str, alone: Sequence[RobustnessCondition]) -> Panel:
    """A row for each modality, a point for each model."""
    complete = {
        label: next((_numbers(s) for c, s in values.items() if c.rate == 0), [])
        for label, _, values in arms
    }

    def draw(axes: Any) -> None:
        step = 0.7 / max(1, len(arms) - 1)
        for number, (label, style, values) in enumerate(arms):
            at = {i: _numbers(values[c]) for i, c in enumerate(alone) if c in values}
            places = [i + step * number - 0.35 * (len(arms) > 1) for i in at]
            means = [statistics.fmean(v) for v in at.values()]
            widths = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in at.values()]
            axes.errorbar(
                means, places, xerr=widths, linestyle="none", capsize=0, elinewidth=1,
                color=style["color"], marker=style["marker"],
            )  # fmt: skip
            if complete[label]:
                mean = statistics.fmean(complete[label])
                axes.axvline(mean, color=style["color"], linestyle=":", linewidth=1)
        axes.set_yticks(range(len(alone)), [c.absent[0] for c in alone])
        axes.set_ylim(len(alone) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(names.metric_title(metric))

    description = "; ".join(
        f"{label} without {c.absent[0]} {names.number(statistics.fmean(_numbers(values[c])))}"
        for label, _, values in arms
        for c in alone
        if c in values
    )
    title = f"{names.metric_title(metric)}, without a modality"
    return Panel(title, f"{title}: {description}.", draw)


def _in_order(conditions: Sequence[RobustnessCondition]) -> list[RobustnessCondition]:
    """Nothing missing once, then by pattern and rate, then what is absent."""
    complete = [c for c in conditions if c.rate == 0][:1]
    return [*complete, *(c for c in conditions if c.rate != 0)]


def _line(condition: RobustnessCondition, arms: Sequence[Any], metric: str) -> list[Cell]:
    means: dict[str, float] = {}
    texts: dict[str, str] = {}
    for label, _, values in arms:
        if condition in values:
            summary = significance.summarize(_numbers(values[condition]))
            means[label] = round(summary.mean, 4)
            texts[label] = names.spread(summary.mean, summary.sd)
    choose = min if names.lower_is_better(metric) else max
    best = choose(means.values()) if len({*means.values()}) > 1 else None
    cells = [
        Cell(texts.get(label, names.NOTHING), (), BEST if means.get(label) == best else "")
        if best is not None and label in means
        else Cell(texts.get(label, names.NOTHING))
        for label, _, _ in arms
    ]
    return [Cell(condition_title(condition)), *cells]


def condition_title(condition: RobustnessCondition) -> str:
    """`nothing`, `20 % (one hole a sequence)`, `without phone_acc, phone_gyro`."""
    if condition.absent:
        return f"without {', '.join(condition.absent)}"
    if not condition.rate:
        return "nothing"
    rate = names.rate_title((condition.rate, condition.rate))
    return f"{rate} ({names.pattern_title(condition.pattern)})"
