"""Tests of significance between the arms of a group, as rows and as tables."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from keras_m3s.registry import datasets, methods
from keras_m3s.report import names, paper, significance
from keras_m3s.report.content import BEST, Cell, Table
from keras_m3s.report.groups import Arm, Group
from keras_m3s.report.results import cautions, change_cell, paper_rows, setting_columns

LEVEL = 0.05
"""p-values up to it are printed bold."""

TABLE_OF_RESULTS = 2
"""Number of the paper's table whose differences its Table 5 tests."""


def significance_rows(group: Group) -> list[dict[str, Any]]:
    """A row for each pair of methods and each of the paper's metrics.

    Holm's correction is over all rows of a group, for each kind of test separately. Variations are
    a family of their own: each is compared with its method's arm and, if it is of a proposed
    method, with the control of equal budget.
    """
    main = list(_pairs(group.arms, group.arms, methods.compared()))
    varied = dict.fromkeys((arm.method, arm.method) for arm in group.variations)
    variations = list(_pairs(group.arms, group.variations, tuple(varied)))
    controls = [
        (first, second) for second in methods.named("proposed") for first in methods.equal_budget()
    ]
    everything = [*group.arms, *group.variations]
    variations += _pairs(everything, group.variations, controls)
    return [*_family(group, main, False), *_family(group, variations, True)]


def significance_table(group: Group, key: str, variations: bool = False) -> Table | None:
    """The tests of a group or of its variations; `None` if no two arms share a seed."""
    rows = [row for row in significance_rows(group) if row["variation"] == variations]
    if not rows:
        return None
    short = {arm.label: arm.short_label for arm in (*group.arms, *group.variations)}
    with_paper = any(row["paper_p"] is not None for row in rows)
    lines, before = [], ""
    for row in rows:
        compared = f"{short[row['second']]} against {short[row['first']]}"
        line = [
            Cell("" if compared == before else compared),
            Cell(names.metric_title(row["metric"])),
            Cell(str(row["pairs"])),
            change_cell(row["difference"], row["metric"]),
            _effect_cell(row),
        ]
        for test in ("t", "wilcoxon"):
            corrected = row[f"{test}_holm"]
            mark = BEST if corrected <= LEVEL else ""
            line += [Cell(names.p_value(row[test])), Cell(names.p_value(corrected), mark=mark)]
        if with_paper:
            p = row["paper_p"]
            line.append(Cell(names.NOTHING if p is None else names.p_value(p)))
        lines.append(line)
        before = compared
    header = ["Comparison", "Metric", "Pairs", "Difference", "Effect", "p (t)", "after Holm"]
    header += ["p (Wilcoxon)", "after Holm", *(["Paper's p"] if with_paper else [])]
    notes = [*_notes(rows, with_paper), *cautions(group)]
    return Table(key, group.title, header, lines, notes, left=2)


def _notes(rows: Sequence[dict[str, Any]], with_paper: bool) -> list[str]:
    notes = [
        "Two-tailed, paired by seed. Effect: Cohen's d_z with its 95\u202f% bootstrap interval. "
        f"After Holm: corrected for the {len(rows)} tests of this table; bold: at most {LEVEL}."
    ]
    pairs = max(row["pairs"] for row in rows)
    if pairs == 1:
        notes.append("With one seed nothing can be tested.")
    elif pairs < 6:
        notes.append(
            f"With {pairs} pairs the Wilcoxon test cannot fall below {names.number(2 / 2**pairs)}; "
            f"6 seeds are the fewest with which it can reach {LEVEL}."
        )
    if with_paper:
        notes.append("Paper: Table 5, which does not state the number of runs.")
    return notes


def _family(
    group: Group, pairs: Sequence[tuple[Arm, Arm]], variation: bool
) -> list[dict[str, Any]]:
    """Tests of one family, with p-values corrected over it."""
    rows = []
    for first, second in pairs:
        for metric in group.main_metrics:
            result = significance.compare(first.by_seed(metric), second.by_seed(metric))
            if not result.pairs:
                continue
            rows.append(
                setting_columns(group)
                | {
                    "first": first.label,
                    "second": second.label,
                    "variation": variation,
                    "metric": metric,
                    "pairs": result.pairs,
                    "difference": result.difference,
                    "effect": result.effect,
                    "effect_low": result.low,
                    "effect_high": result.high,
                    "t": result.t,
                    "wilcoxon": result.wilcoxon,
                    "paper_p": None if variation else _paper_p(group, first, second, metric),
                }
            )
    for test in ("t", "wilcoxon"):
        for row, p in zip(rows, significance.holm([r[test] for r in rows]), strict=True):
            row[f"{test}_holm"] = p
    return rows


def _paper_p(group: Group, first: Arm, second: Arm, metric: str) -> float | None:
    """The p-value of Table 5, which is of the baseline and the proposed method."""
    published = paper_rows(group)
    if published is None or TABLE_OF_RESULTS not in published.tables:
        return None
    if (first.method, second.method) != methods.main_pair():
        return None
    dataset, _ = datasets.split_name(group.values["dataset"])
    return paper.P_VALUES.get((dataset, group.values["model"]), {}).get(metric)


def _pairs(
    firsts: Sequence[Arm], seconds: Sequence[Arm], compared: Sequence[tuple[str, str]]
) -> Iterator[tuple[Arm, Arm]]:
    """Arms to compare: each arm of a second method with the most similar one of the first."""
    for first, second in compared:
        candidates = [arm for arm in firsts if arm.method == first]
        for arm in seconds:
            if arm.method == second and candidates:
                yield max(candidates, key=lambda c: _similarity(c, arm)), arm


def _similarity(a: Arm, b: Arm) -> int:
    return sum(a.config.get(k) == v for k, v in b.config.items())


def _effect_cell(row: dict[str, Any]) -> Cell:
    if math.isnan(row["effect"]):
        return Cell(names.NOTHING)
    low, high = (names.number(row[f"effect_{end}"], 2) for end in ("low", "high"))
    interval = () if names.NOTHING in (low, high) else (f"{low} to {high}",)
    return Cell(names.number(row["effect"], 2), interval)
