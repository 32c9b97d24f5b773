"""Test results of each setting, laid out as the paper's Table 2, beside the paper's."""

from collections.abc import Sequence
from typing import Any

from keras_m3s.registry import methods, models, patterns
from keras_m3s.report import names, paper, significance
from keras_m3s.report.content import BEST, BETTER, WORSE, Cell, Table
from keras_m3s.report.groups import Arm, Group


def paper_rows(group: Group) -> paper.PaperRows | None:
    """The paper's results of the same setting; all of them are of one pattern."""
    v = group.values
    if v["pattern"] != patterns.PAPER:
        return None
    return paper.find(v["dataset"], v["model"], v["missing_rate"], v["test_missing_rate"])


def result_rows(group: Group, arms: Sequence[Arm] | None = None) -> list[dict[str, Any]]:
    """A row for each method and metric: ours, the paper's, the difference.

    Args:
        group: What compares.
        arms: The arms to list; `None` for one of each method.
    """
    published = paper_rows(group)
    rows = []
    for arm in group.arms if arms is None else arms:
        # The paper's values are of its own settings, not of variations.
        printed = published.values.get(arm.method, {}) if published and arm in group.arms else {}
        for metric in group.metrics:
            values = arm.by_seed(metric)
            if not values:
                continue
            ours = significance.summarize(list(values.values()))
            theirs = printed.get(metric)
            rows.append(
                setting_columns(group)
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
    """Methods down, metrics across; the paper's values below ours."""
    lines = _result_lines(group, group.arms)
    by_method = {arm.method: arm for arm in group.arms}
    pair = methods.main_pair()
    delta = ""
    if set(pair) <= set(by_method):
        first, second = (by_method[method] for method in pair)
        lines.append(_delta_line(group, first, second))
        delta = (
            f" Δ {first.short_label}: {second.short_label} minus {first.short_label}, * where it "
            "is an improvement."
        )
    notes = [f"Mean ± standard deviation over seeds; bold: best of a column.{delta}"]
    published = paper_rows(group)
    if published:
        tables = " and ".join(str(t) for t in published.tables)
        plural = "s" if len(published.tables) > 1 else ""
        notes.append(f"Below ours: the paper's Table{plural} {tables}, and ours minus the paper's.")
    header = ["Method", *(names.metric_title(m) for m in group.metrics)]
    return Table(key, group.title, header, lines, [*notes, *cautions(group)])


def variation_table(group: Group, key: str) -> Table | None:
    """Results of the methods with other settings; `None` if there are no variations."""
    if not group.variations:
        return None
    varied = {arm.method for arm in group.variations}
    arms = [arm for arm in group.arms if arm.method in varied]
    arms = sorted([*arms, *group.variations], key=lambda arm: names.method_order(arm.method))
    header = ["Method", *(names.metric_title(m) for m in group.metrics)]
    note = (
        "Mean ± standard deviation over seeds; bold: best of a column. A name states what differs "
        "from the method's settings in the table of results."
    )
    return Table(key, group.title, header, _result_lines(group, arms), [note, *group.notes])


def coverage_table(groups: Sequence[Group]) -> Table:
    """Number of runs of each of the paper's rows."""
    lines = []
    for published in paper.ROWS:
        runs: dict[str, int] = {}
        for group in groups:
            if paper_rows(group) is published:
                for arm in group.arms:
                    runs[arm.method] = runs.get(arm.method, 0) + len(arm.runs)
        lines.append(
            [
                Cell(", ".join(map(str, published.tables))),
                Cell(names.dataset_title(published.dataset)),
                Cell(names.model_title(published.model)),
                Cell(names.rate_title(published.missing_rate)),
                Cell(names.rate_title(published.test_missing_rate)),
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


def cautions(group: Group) -> list[str]:
    """Notes on what limits the comparison of a group's numbers."""
    found = group.notes
    if paper_rows(group):
        found += _other_settings(group)
    for what, values in (
        ("data", {_comparable(run.environment.get("data")) for run in group.runs}),
        ("backends", {run.environment.get("backend") for run in group.runs}),
    ):
        if len(values) > 1:
            found.append(f"Careful: these runs were made with {len(values)} different {what}.")
    seeds = {tuple(arm.runs) for arm in group.arms}
    if len(seeds) > 1:
        found.append("Careful: not all methods have the same seeds.")
    return found


def change_cell(change: float, metric: str) -> Cell:
    """A change of a metric as an arrow and a number, with `*` for an improvement."""
    better = change < 0 if names.lower_is_better(metric) else change > 0
    mark = "" if not change else BETTER if better else WORSE
    return Cell(f"{_arrow(change)}{' *' if better and change else ''}", mark=mark)


def setting_columns(group: Group) -> dict[str, Any]:
    """The setting of a group as columns of flat rows."""
    v = group.values
    rates = {
        f"{name}_{end}": v[name][i]
        for name in ("missing_rate", "test_missing_rate")
        for i, end in enumerate(("low", "high"))
    }
    kept = {k: v[k] for k in ("dataset", "model")}
    return kept | rates | {k: v[k] for k in ("pattern", "site", "select")}


def _result_lines(group: Group, arms: Sequence[Arm]) -> list[list[Cell]]:
    rows = {(r["label"], r["metric"]): r for r in result_rows(group, arms)}
    best = {m: _best([r for (_, metric), r in rows.items() if metric == m]) for m in group.metrics}
    lines = []
    for arm in arms:
        count = len(arm.runs)
        cells = [Cell(arm.label, (f"{count} seed{'s' if count != 1 else ''}",))]
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


def _delta_line(group: Group, first: Arm, second: Arm) -> list[Cell]:
    """The paper's ΔORIG: the proposed method minus the baseline."""
    cells = [Cell(f"Δ {first.short_label}")]
    published = paper_rows(group)
    for metric in group.metrics:
        a, b = list(first.by_seed(metric).values()), list(second.by_seed(metric).values())
        if not a or not b:
            cells.append(Cell(names.NOTHING))
            continue
        change = significance.summarize(b).mean - significance.summarize(a).mean
        cell = change_cell(change, metric)
        if published and metric in published.values.get(second.method, {}):
            cell = Cell(cell.text, (f"paper {_arrow(published.delta(metric))}",), cell.mark)
        cells.append(cell)
    return cells


def _arrow(change: float) -> str:
    arrow = "↑ " if change > 0 else "↓ " if change < 0 else ""
    return f"{arrow}{names.number(abs(change))}"


def _best(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Labels of the arms with the best mean as printed; none if all are equal."""
    if not rows:
        return set()
    sign = -1 if names.lower_is_better(rows[0]["metric"]) else 1
    means = {row["label"]: round(sign * row["mean"], 4) for row in rows}
    best = {label for label, mean in means.items() if mean == max(means.values())}
    return set() if len(best) == len(means) else best


def _other_settings(group: Group) -> list[str]:
    """Where runs differ from section 4.4, whose numbers the paper's are."""
    card = models.CARDS.get(group.values["model"])
    published = card.settings if card else {}
    seen: dict[str, str] = {}
    for arm in group.arms:
        for name, value in published.items():
            if name in arm.config and _comparable(arm.config[name]) != _comparable(value):
                seen[name] = f"{name} {names.setting(arm.config[name])}"
        if arm.config.get("model_arguments"):
            seen["model_arguments"] = f"model: {names.setting(arm.config['model_arguments'])}"
    if not seen:
        return []
    return [f"Not with the paper's settings: {'; '.join(seen.values())}."]


def _comparable(value: Any) -> str:
    """Text that is equal for equal values, whatever the order of a mapping's keys."""
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)
