"""Records of runs -> the content of a report."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from keras_m3s.registry import datasets, models
from keras_m3s.report import curves, names, protocols, results, robustness, trial
from keras_m3s.report.content import WORSE, Cell, Command, Content, Details, Element, Section, Table
from keras_m3s.report.groups import (
    SETTING,
    TRAINING,
    Group,
    duplicates,
    group_runs,
    with_paper_retests,
)
from keras_m3s.report.records import COMPLETE, FAILED, INCOMPLETE, UNREADABLE, RunRecord
from keras_m3s.report.significance_tables import significance_rows, significance_table

HASH_LENGTH = 12
"""Digits of a fingerprint that the facts show."""


def build(
    runs: Sequence[RunRecord],
    title: str = "Missing modalities: results",
    command: str | None = None,
) -> Content:
    """The content of a report.

    Args:
        runs: As `read_runs` returns them.
        title: Title of the report.
        command: The command that made the runs, to print.
    """
    others = [run for run in runs if not trial.is_of_trial(run)]
    settings = group_runs(with_paper_retests(others), SETTING)
    trainings = group_runs(others, TRAINING)
    beside = any(map(_beside_paper, runs))
    sections = [
        trial.section(runs),
        robustness.section(runs),
        _results(settings, beside),
        _significance(settings),
        _variations(settings),
        protocols.section(trainings),
        _learning(trainings, beside),
        _rates(trainings),
        _matrix(trainings, beside),
        *([_coverage(settings)] if beside else []),
        _runs(runs, trainings),
        _environment(runs),
    ]
    return Content(
        title,
        [*_facts(runs), *([("Command", Command(command))] if command else [])],
        _warnings(runs, settings, others),
        [section for section in sections if section.elements],
        _data(runs, settings, trainings),
        beside,
    )


def _beside_paper(run: RunRecord) -> bool:
    """Whether the paper has something to compare a run with: such a model on such data.

    Generated data counts, which stands in for the paper's. Runs that cannot be read may be of any.
    """
    e = run.experiment
    if not e:
        return True
    card = models.CARDS.get(e["model"])
    return card is not None and bool(card.dataset) and datasets.find(e["dataset"]) is not None


def _results(settings: Sequence[Group], beside: bool) -> Section:
    return Section(
        "results",
        "Results beside the paper's" if beside else "Results",
        "On the test data, with the model that was best on the validation data unless marked. "
        "There is one table for each data set, model and missing rate.",
        [results.result_table(g, f"results-{i}") for i, g in enumerate(settings, 1)],
    )


def _significance(settings: Sequence[Group]) -> Section:
    tables = [significance_table(g, f"significance-{i}") for i, g in enumerate(settings, 1)]
    return Section(
        "significance",
        "Significance of differences",
        "Methods are compared seed by seed. A difference is the first named method's mean "
        "minus the second's; * marks an improvement.",
        [table for table in tables if table],
    )


def _variations(settings: Sequence[Group]) -> Section:
    elements: list[Element] = []
    for number, group in enumerate(settings, 1):
        for table in (
            results.variation_table(group, f"variations-{number}"),
            significance_table(group, f"variations-{number}-tests", variations=True),
        ):
            elements += [table] if table else []
    return Section(
        "variations",
        "Other settings of the methods",
        "Runs with other inner steps, learning rates, orders of the gradient and so on. Each is "
        "compared with its method's settings above, and M3S with the control of equal budget if "
        "there is one.",
        elements,
    )


def _learning(trainings: Sequence[Group], beside: bool) -> Section:
    found = [curves.learning_figure(g, f"learning-{i}") for i, g in enumerate(trainings, 1)]
    return Section(
        "learning",
        "Learning curves",
        ("As in the paper's Figures 1, 3 and 4. " if beside else "")
        + "Recorded test values were not used to select epochs unless marked.",
        [figure for figure in found if figure],
    )


def _rates(trainings: Sequence[Group]) -> Section:
    elements: list[Element] = []
    for number, group in enumerate(trainings, 1):
        for pattern, ranges in curves.rate_kinds(group):
            key = f"rates-{number}-{pattern}-{'ranges' if ranges else 'points'}"
            figure = curves.rate_figure(group, pattern, ranges, key)
            elements.append(figure)
            table = curves.area_table(group, pattern, ranges, figure.title, f"{key}-area")
            if table:
                elements.append(table)
    return Section(
        "rates",
        "Curves over missing rates",
        "Each trained model, tested at rates above and below those of its training.",
        elements,
    )


def _matrix(trainings: Sequence[Group], beside: bool) -> Section:
    return Section(
        "matrix",
        "Missing rate in training × in testing",
        "The paper's Table 3 is the diagonal of these matrices, its Table 4 one cell beside it."
        if beside
        else "The diagonal: tested as trained.",
        curves.matrix_figures(trainings),
    )


def _coverage(settings: Sequence[Group]) -> Section:
    return Section("coverage", "Coverage of the paper", "", [results.coverage_table(settings)])


def _runs(runs: Sequence[RunRecord], trainings: Sequence[Group]) -> Section:
    repeated = {run.name for run in duplicates(runs)}
    lines = []
    for run in runs:
        e = run.experiment
        problem = "repeats an earlier run, not counted" if run.name in repeated else run.problem
        mark = "" if run.status == COMPLETE else WORSE
        status = Cell(run.status, (problem,) if problem else (), mark)
        if not e:
            lines.append([status, Cell(run.name), *[Cell(names.NOTHING)] * 7])
            continue
        mark = f" {names.SELECTED_ON_TEST}" if e["select"] == "paper" else ""
        lines.append(
            [
                status,
                Cell(run.name),
                Cell(names.dataset_title(e["dataset"])),
                Cell(names.source_title(e)),
                Cell(names.method_title(e["method"], short=True) + mark),
                Cell(names.rate_title(e["missing_rate"])),
                Cell(names.rate_title(e["test_missing_rate"])),
                Cell(str(e["seed"])),
                Cell(f"{len(run.history)}"),
            ]
        )
    header = ["Status", "Run", "Data", "Model", "Method", "Missing", "In testing", "Seed", "Epochs"]
    notes = list(dict.fromkeys(note for g in trainings for note in g.notes))
    elements: list[Element] = [Table("run-list", "Runs", header, lines, notes, left=7)]
    for group in trainings:
        for arm in (*group.arms, *group.variations):
            seeds = ", ".join(map(str, arm.runs))
            listed = [(k, names.setting(v)) for k, v in arm.config.items()]
            elements.append(Details(f"{group.title} · {arm.label}", [*listed, ("seeds", seeds)]))
    return Section("runs", "Runs and their configuration", "", elements)


def _environment(runs: Sequence[RunRecord]) -> Section:
    """Versions and data, each distinct set once with its number of runs."""
    versions: dict[str, tuple[dict[str, Any], int]] = {}
    data: dict[tuple[str, str, str], int] = {}
    for run in runs:
        if not run.environment:
            continue
        e = run.environment
        packages = {k: str(v) for k, v in (e.get("packages") or {}).items()}
        kind = {k: str(e[k]) for k in ("backend", "python", "platform") if k in e} | packages
        key = json.dumps(kind, sort_keys=True)
        versions[key] = (kind, versions.get(key, (kind, 0))[1] + 1)
        for split, digest in (e.get("data") or {}).items():
            row = (names.dataset_title(run.experiment["dataset"]), split, str(digest))
            data[row] = data.get(row, 0) + 1
    elements: list[Element] = []
    if versions:
        kinds = list(versions.values())
        fields = list(dict.fromkeys(k for kind, _ in kinds for k in kind))
        lines = [
            [Cell(f), *(Cell(kind.get(f, names.NOTHING)) for kind, _ in kinds)] for f in fields
        ]
        header = ["", *(f"{count} run{'s' if count > 1 else ''}" for _, count in kinds)]
        elements.append(Table("versions", "Versions", header, lines, left=len(header)))
    if data:
        lines = [[*(Cell(c) for c in row), Cell(str(n))] for row, n in sorted(data.items())]
        header = ["Data", "Split", "SHA-256 of its content", "Runs"]
        elements.append(Table("data", "Data", header, lines, left=3))
    return Section("environment", "Versions and data", "", elements)


def _facts(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    statuses = (COMPLETE, INCOMPLETE, FAILED, UNREADABLE)
    counts = {status: sum(run.status == status for run in runs) for status in statuses}
    read = [run for run in runs if run.experiment]
    packages = _distinct((r.environment.get("packages") or {}).get("keras-m3s") for r in read)
    hashes = sorted(
        {str(d)[:HASH_LENGTH] for r in read for d in (r.environment.get("data") or {}).values()}
    )
    models = sorted({r.experiment["model"] for r in read}, key=names.model_order)
    methods = sorted({r.experiment["method"] for r in read}, key=names.method_order)
    facts = [
        ("Runs", ", ".join(f"{n} {status}" for status, n in counts.items() if n)),
        ("Data", _distinct(names.dataset_title(r.experiment["dataset"]) for r in read)),
        ("Models", ", ".join(names.model_title(m) for m in models)),
        ("Methods", ", ".join(names.method_title(m, short=True) for m in methods)),
        ("Seeds", ", ".join(str(s) for s in sorted({r.seed for r in read}))),
        ("Backends", _distinct(r.environment.get("backend") for r in read)),
        ("keras-m3s", packages),
        ("Data hashes", ", ".join(hashes)),
    ]
    return [(name, value) for name, value in facts if value]


def _warnings(
    runs: Sequence[RunRecord], settings: Sequence[Group], others: Sequence[RunRecord]
) -> list[str]:
    found = []
    left_out = sum(run.status != COMPLETE for run in runs)
    if left_out:
        found.append(
            f"{left_out} of {len(runs)} runs failed, are not finished or cannot be read. They are "
            "in the list of runs, and in no table or figure above it."
        )
    if any(group.selected_on_test for group in settings):
        found.append(names.SELECTED_NOTE)
    if not others:
        return found
    if not settings and len(others) == len(runs):
        found.append("No run is complete: there are no results yet.")
    elif settings and all(len(arm.runs) < 2 for group in settings for arm in group.arms):
        found.append("A single seed each: differences may be chance, and cannot be tested.")
    return found


def _data(
    runs: Sequence[RunRecord], settings: Sequence[Group], trainings: Sequence[Group]
) -> dict[str, list[dict[str, Any]]]:
    """The report's numbers as flat rows, by file name."""
    data: dict[str, list[dict[str, Any]]] = {
        "results": [
            row
            for group in settings
            for row in results.result_rows(group, [*group.arms, *group.variations])
        ],
        "significance": [row for group in settings for row in significance_rows(group)],
        "trial": trial.rows(runs),
        "robustness": robustness.rows(runs),
        "learning": [],
        "protocols": protocols.rows(trainings),
        "rates": [],
        "areas": [],
        "runs": [_run_row(run) for run in runs],
    }
    for group in trainings:
        v = group.values
        setting = {k: v[k] for k in ("dataset", "model", "pattern", "site", "select")}
        setting |= {
            "missing_rate_low": v["missing_rate"][0],
            "missing_rate_high": v["missing_rate"][1],
        }
        for arm in (*group.arms, *group.variations):
            columns = dict.fromkeys(c for r in arm.runs.values() for row in r.history for c in row)
            for column in [c for c in columns if c != "epoch"]:
                for row in curves.learning(arm, column):
                    numbers = {k: row[k] for k in ("epoch", "runs", "mean", "sd")}
                    line = {"label": arm.label, "column": column, **numbers}
                    data["learning"].append(setting | line)
        for pattern, ranges in curves.rate_kinds(group):
            tested = {"test_pattern": pattern, "ranges": ranges}
            for label, rates in curves.by_rate(group, pattern, ranges).items():
                for (low, high), seeds in sorted(rates.items()):
                    for seed, metrics in sorted(seeds.items()):
                        at = {"label": label, "test_low": low, "test_high": high, "seed": seed}
                        for metric, value in metrics.items():
                            values = {"metric": metric, "value": value}
                            data["rates"].append(setting | tested | at | values)
            for row in curves.area_rows(group, pattern, ranges):
                data["areas"].append(setting | tested | row)
    return {name: rows for name, rows in data.items() if rows}


def _run_row(run: RunRecord) -> dict[str, Any]:
    e = run.environment
    packages = json.dumps(e.get("packages") or {}, sort_keys=True)
    return {
        "run": run.name,
        "status": run.status,
        "problem": run.problem,
        "epochs_done": len(run.history),
        "backend": e.get("backend", ""),
        "packages": packages,
        "data": json.dumps(e.get("data") or {}, sort_keys=True),
        "experiment": json.dumps(dict(run.experiment), sort_keys=True),
        "metrics": json.dumps(dict(run.metrics), sort_keys=True),
    }


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(v) for v in values if v))
