"""Test results of each setting beside the paper's, and the tests of their differences."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from keras_m3s.registry import datasets, methods, models, patterns
from keras_m3s.report import names, paper, significance
from keras_m3s.report.collect import Arm, Group
from keras_m3s.report.content import BEST, BETTER, WORSE, Cell, Table


def paper_block(group: Group) -> paper.Block | None:
    """The paper's results of the same setting; it knows one pattern only."""
    v = group.values
    if v["pattern"] != patterns.PAPER:
        return None
    return paper.find(v["dataset"], v["model"], v["missing_rate"], v["test_missing_rate"])


def result_rows(group: Group, arms: Sequence[Arm] | None = None) -> list[dict[str, Any]]:
    """A row for each method and metric: ours, the paper's, the difference.

    Args:
        group: What compares.
        arms: Which of its arms; `None` for one each method.
    """
    block = paper_block(group)
    rows = []
    for arm in group.arms if arms is None else arms:
        # The paper's values are of its own settings, not of variations.
        printed = block.values.get(arm.method, {}) if block and arm in group.arms else {}
        for metric in group.metrics:
            values = arm.by_seed(metric)
            if not values:
                continue
            ours = significance.summarize(list(values.values()))
            theirs = printed.get(metric)
            rows.append(
                _setting(group)
                | {
                    "method": arm.method,
                    "label": arm.label,
                    "metric": metric,
                    "runs": ours.count,
                    "seeds": " ".join(map(str, values)),
                    "mean": ours.mean,
                    "sd": ours.sd,
                    "paper": theirs,
                    "difference": None if theirs is None else ours.mean - theirs,
                }
            )
    return rows


def result_table(group: Group, key: str) -> Table:
    """Methods down, metrics across, as the paper's Table 2; the paper's values below ours."""
    lines = _result_lines(group, group.arms)
    for first, second in _pairs(group.arms, group.arms, (methods.main_pair(),)):
        lines.append(_delta_row(group, first, second))
    notes = [f"Mean ± standard deviation over seeds; bold: best of a column. {_delta_note(group)}"]
    block = paper_block(group)
    if block:
        tables = " and ".join(str(t) for t in block.tables)
        plural = "s" if len(block.tables) > 1 else ""
        notes.append(f"Below ours: the paper's Table{plural} {tables}, and ours minus the paper's.")
    header = ["Method", *(names.metric_title(m) for m in group.metrics)]
    return Table(key, group.title, header, lines, [*notes, *cautions(group)])


def variation_table(group: Group, key: str) -> Table | None:
    """Other settings of the methods beside those of the table of results; `None` without any."""
    if not group.variations:
        return None
    varied = {arm.method for arm in group.variations}
    arms = [arm for arm in group.arms if arm.method in varied]
    arms = sorted([*arms, *group.variations], key=lambda arm: names.method_order(arm.method))
    header = ["Method", *(names.metric_title(m) for m in group.metrics)]
    note = (
        "Mean ± standard deviation over seeds; bold: best of a column. A name says what differs "
        "from the method's settings in the table of results."
    )
    return Table(key, group.title, header, _result_lines(group, arms), [note, *_marks(group)])


def _result_lines(group: Group, arms: Sequence[Arm]) -> list[list[Cell]]:
    rows = {(r["label"], r["metric"]): r for r in result_rows(group, arms)}
    best = {m: _best([r for (_, metric), r in rows.items() if metric == m]) for m in group.metrics}
    lines = []
    for arm in arms:
        cells = [Cell(arm.label, (_runs(len(arm.runs)),))]
        for metric in group.metrics:
            row = rows.get((arm.label, metric))
            if row is None:
                cells.append(Cell(names.NOTHING))
                continue
            details: tuple[str, ...] = ()
            if row["paper"] is not None:
                details = (
                    f"paper {names.number(row['paper'])}",
                    f"differs {names.number(row['difference'], sign=True)}",
                )
            mark = BEST if row["label"] in best[metric] else ""
            cells.append(Cell(names.spread(row["mean"], row["sd"]), details, mark))
        lines.append(cells)
    return lines


def cautions(group: Group) -> list[str]:
    """What a reader must know before comparing the numbers of a group."""
    found = _marks(group)
    if paper_block(group):
        found += _other_settings(group)
    for what, values in (
        ("data", {_fixed(run.environment.get("data")) for run in group.runs}),
        ("backends", {run.environment.get("backend") for run in group.runs}),
    ):
        if len(values) > 1:
            found.append(f"Careful: these runs were made with {len(values)} different {what}.")
    seeds = {tuple(arm.runs) for arm in group.arms}
    if len(seeds) > 1:
        found.append("Careful: not all methods have the same seeds.")
    return found


def comparison_rows(group: Group) -> list[dict[str, Any]]:
    """A row for each pair of methods and each of the paper's metrics: the tests of significance.

    Holm's correction is over all rows of a group, for each kind of test by itself; variations are
    a family of their own, each compared with its method's arm and, of M3S, with the equal budget.
    """
    pairs = list(_pairs(group.arms, group.arms, methods.compared()))
    varied = [(arm.method, arm.method) for arm in group.variations]
    more = list(_pairs(group.arms, group.variations, tuple(dict.fromkeys(varied))))
    controls = [*group.arms, *group.variations]
    more += _pairs(
        controls,
        group.variations,
        [
            (first, second)
            for second in methods.named("proposed")
            for first in methods.equal_budget()
        ],
    )
    return [*_family(group, pairs), *_family(group, more)]


def _family(group: Group, pairs: Sequence[tuple[Arm, Arm]]) -> list[dict[str, Any]]:
    rows = []
    for first, second in pairs:
        for metric in group.main_metrics:
            result = significance.compare(first.by_seed(metric), second.by_seed(metric))
            if not result.pairs:
                continue
            p = None
            main = first in group.arms and second in group.arms
            if main and (first.method, second.method) == methods.main_pair() and _table_5(group):
                v = group.values
                dataset, _ = datasets.split_name(v["dataset"])
                p = paper.P_VALUES.get((dataset, v["model"]), {}).get(metric)
            rows.append(
                _setting(group)
                | {
                    "first": first.label,
                    "second": second.label,
                    "variation": not main,
                    "metric": metric,
                    "pairs": result.pairs,
                    "difference": result.difference,
                    "effect": result.effect,
                    "effect_low": result.low,
                    "effect_high": result.high,
                    "t": result.t,
                    "wilcoxon": result.wilcoxon,
                    "paper_p": p,
                }
            )
    for test in ("t", "wilcoxon"):
        for row, p in zip(rows, significance.holm([r[test] for r in rows]), strict=True):
            row[f"{test}_holm"] = p
    return rows


def comparison_table(group: Group, key: str, variations: bool = False) -> Table | None:
    """The tests of a group or of its variations; `None` where no two arms share a seed."""
    rows = [row for row in comparison_rows(group) if row["variation"] == variations]
    if not rows:
        return None
    with_paper = any(row["paper_p"] is not None for row in rows)
    lines, before = [], ""
    for row in rows:
        what = f"{row['second']} against {row['first']}".replace("ORIG + ", "")
        line = [
            Cell("" if what == before else what),
            Cell(names.metric_title(row["metric"])),
            Cell(str(row["pairs"])),
            _change(row["difference"], row["metric"]),
            _effect(row),
        ]
        for test in ("t", "wilcoxon"):
            corrected = row[f"{test}_holm"]
            mark = BEST if corrected <= 0.05 else ""
            line += [Cell(names.p_value(row[test])), Cell(names.p_value(corrected), mark=mark)]
        if with_paper:
            p = row["paper_p"]
            line.append(Cell(names.NOTHING if p is None else names.p_value(p)))
        lines.append(line)
        before = what
    notes = [
        "Two-tailed, paired by seed. Effect: Cohen's d_z with its 95\u202f% bootstrap interval. "
        f"After Holm: corrected for the {len(rows)} tests of this table; bold where at most 0.05."
    ]
    pairs = max(row["pairs"] for row in rows)
    if pairs == 1:
        notes.append("With one seed nothing can be tested.")
    elif pairs < 6:
        notes.append(
            f"With {pairs} pairs the Wilcoxon test cannot fall below {names.number(2 / 2**pairs)}; "
            "6 seeds are the fewest with which it can reach 0.05."
        )
    if with_paper:
        notes.append("Paper: Table 5, which does not say how many runs it rests on.")
    header = ["Comparison", "Metric", "Pairs", "Difference", "Effect", "p (t)", "after Holm"]
    header += ["p (Wilcoxon)", "after Holm", *(["Paper's p"] if with_paper else [])]
    return Table(key, group.title, header, lines, [*notes, *cautions(group)], left=2)


def coverage_table(groups: Sequence[Group]) -> Table:
    """Which of the paper's rows there are runs of."""
    lines = []
    for block in paper.BLOCKS:
        runs: dict[str, int] = {}
        for group in groups:
            if paper_block(group) is block:
                for arm in group.arms:
                    runs[arm.method] = runs.get(arm.method, 0) + len(arm.runs)
        lines.append(
            [
                Cell(", ".join(map(str, block.tables))),
                Cell(names.dataset_title(block.dataset)),
                Cell(names.model_title(block.model)),
                Cell(names.rate_title(block.missing_rate)),
                Cell(names.rate_title(block.test_missing_rate)),
                *(Cell(str(runs.get(m, 0) or names.NOTHING)) for m in methods.paper()),
            ]
        )
    columns = [names.method_title(m, short=True) for m in methods.paper()]
    return Table(
        "paper-rows",
        "The paper's rows and the runs there are of them",
        ["Table", "Data", "Model", "Missing", "In testing", *columns],
        sorted(lines, key=lambda line: line[0].text),
        [f"Numbers of complete runs; {names.NOTHING}: none in this folder."],
        left=5,
    )


def _pairs(
    firsts: Sequence[Arm], seconds: Sequence[Arm], compared: Sequence[tuple[str, str]]
) -> Iterator[tuple[Arm, Arm]]:
    """Arms to compare: each of the second method with the likest one of the first."""
    for first, second in compared:
        candidates = [arm for arm in firsts if arm.method == first]
        for arm in seconds:
            if arm.method == second and candidates:
                yield max(candidates, key=lambda c: _alike(c, arm)), arm


def _alike(a: Arm, b: Arm) -> int:
    return sum(a.config.get(k) == v for k, v in b.config.items())


def _delta_row(group: Group, first: Arm, second: Arm) -> list[Cell]:
    cells = [Cell(f"Δ {names.method_title(first.method, short=True)}")]
    block = paper_block(group)
    for metric in group.metrics:
        a, b = list(first.by_seed(metric).values()), list(second.by_seed(metric).values())
        if not a or not b:
            cells.append(Cell(names.NOTHING))
            continue
        change = significance.summarize(b).mean - significance.summarize(a).mean
        cell = _change(change, metric)
        if block and metric in block.values[methods.main_pair()[1]]:
            cell = Cell(cell.text, (f"paper {_arrow(block.delta(metric))}",), cell.mark)
        cells.append(cell)
    return cells


def _delta_note(group: Group) -> str:
    pair = methods.main_pair()
    if not set(pair) <= {arm.method for arm in group.arms}:
        return ""
    first, second = (names.method_title(method, short=True) for method in pair)
    return f"Δ {first}: {second} minus {first}, * where that is for the better."


def _arrow(change: float) -> str:
    arrow = "↑ " if change > 0 else "↓ " if change < 0 else ""
    return f"{arrow}{names.number(abs(change))}"


def _change(change: float, metric: str) -> Cell:
    better = change < 0 if names.lower_is_better(metric) else change > 0
    mark = "" if not change else BETTER if better else WORSE
    return Cell(f"{_arrow(change)}{' *' if better and change else ''}", mark=mark)


def _effect(row: dict[str, Any]) -> Cell:
    if math.isnan(row["effect"]):
        return Cell(names.NOTHING)
    low, high = (names.number(row[f"effect_{end}"], 2) for end in ("low", "high"))
    interval = () if names.NOTHING in (low, high) else (f"{low} to {high}",)
    return Cell(names.number(row["effect"], 2), interval)


def _best(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Labels of the methods with the best mean as printed; none where all are alike."""
    if not rows:
        return set()
    sign = -1 if names.lower_is_better(rows[0]["metric"]) else 1
    means = {row["label"]: round(sign * row["mean"], 4) for row in rows}
    best = {label for label, mean in means.items() if mean == max(means.values())}
    return set() if len(best) == len(means) else best


def _marks(group: Group) -> list[str]:
    return [names.SELECTED_NOTE] if group.selected_on_test else []


def _runs(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def _setting(group: Group) -> dict[str, Any]:
    v = group.values
    rates = {
        f"{name}_{end}": v[name][i]
        for name in ("missing_rate", "test_missing_rate")
        for i, end in enumerate(("low", "high"))
    }
    kept = {k: v[k] for k in ("dataset", "model")}
    return kept | rates | {k: v[k] for k in ("pattern", "site", "select")}


def _table_5(group: Group) -> bool:
    block = paper_block(group)
    return block is not None and 2 in block.tables


def _other_settings(group: Group) -> list[str]:
    """Where runs differ from section 4.4, for the paper's numbers are not of such runs."""
    card = models.CARDS.get(group.values["model"])
    published = card.settings if card else {}
    seen: dict[str, str] = {}
    for arm in group.arms:
        for name, value in published.items():
            if name in arm.config and _fixed(arm.config[name]) != _fixed(value):
                seen[name] = f"{name} {names.setting(arm.config[name])}"
        if arm.config.get("model_arguments"):
            seen["model_arguments"] = f"model: {names.setting(arm.config['model_arguments'])}"
    if not seen:
        return []
    return [f"Not with the paper's settings: {'; '.join(seen.values())}."]


def _fixed(value: Any) -> str:
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)
