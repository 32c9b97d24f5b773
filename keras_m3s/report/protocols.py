"""The protocols of robustness: a table for each and each metric, models and methods down."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras_m3s import registry
from keras_m3s.registry import datasets
from keras_m3s.registry import protocols as cards
from keras_m3s.registry.patterns import Condition
from keras_m3s.report import names, published, significance
from keras_m3s.report.content import BEST, Cell, Element, Section, Table
from keras_m3s.report.groups import Group, arm_label, as_key, nearest_to_paper
from keras_m3s.report.records import DEFAULTS, Evaluation, RunRecord, ordered

Metrics = Mapping[str, float]
Tests = dict[str, Metrics]
"""Label of a test -> metrics."""


class Line(NamedTuple):
    """A model, trained by a method, under a protocol.

    Attributes:
        model: Name of the model.
        method: Label of the method, with what its configuration changes.
        seeds: Seed -> tests; seeds that have all tests of the protocol.
    """

    model: str
    method: str
    seeds: dict[int, Tests]


def section(groups: Sequence[Group]) -> Section:
    """The section of the report.

    Args:
        groups: Groups by `TRAINING`.
    """
    elements: list[Element] = []
    for number, (dataset, key, lines) in enumerate(_found(groups), 1):
        elements += _tables(dataset, key, lines, f"protocol-{number}")
    return Section(
        "protocols",
        "Protocols of robustness",
        "Each protocol trains and tests as its own papers do; here the epoch is always selected on "
        "validation data, on missingness as in training. All models and methods are tested on the "
        "same holes. Values are means over seeds.",
        elements,
    )


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Every metric of every test and seed as flat rows, and the summaries."""
    found = []
    for dataset, key, lines in _found(groups):
        for line in lines:
            for seed, tests in line.seeds.items():
                at: dict[str, Any] = {"dataset": dataset, "protocol": key, "model": line.model}
                at |= {"label": line.method, "seed": seed}
                each = {**tests, cards.cards()[key].summary_title: _summaries(dataset, key, tests)}
                found += [
                    at | {"test": label, "metric": metric, "value": value}
                    for label, metrics in each.items()
                    for metric, value in metrics.items()
                ]
    return found


def _found(groups: Sequence[Group]) -> Iterator[tuple[str, str, list[Line]]]:
    """Data set, protocol and its lines, for protocols that have any."""
    usual = [g for g in groups if not g.selected_on_test and g.values["site"] == DEFAULTS["site"]]
    for dataset in dict.fromkeys(g.values["dataset"] for g in usual):
        members = [g for g in usual if g.values["dataset"] == dataset]
        for key, card in cards.cards().items():
            tests = {label: ordered(c) for label, c in _of(card, dataset).items()}
            if lines := _lines(members, card, tests):
                yield dataset, key, lines


def _of(card: cards.ProtocolCard, dataset: str) -> dict[str, Condition]:
    return card.of(datasets.split_name(dataset)[0])


def _lines(
    groups: Sequence[Group], card: cards.ProtocolCard, tests: Mapping[str, Condition]
) -> list[Line]:
    """A line for each model, method and configuration whose trainings are all there.

    A protocol may have a training for each rate: all of a line's are of one configuration.
    """
    wanted = {test: card.trained or condition for test, condition in tests.items()}
    found: dict[tuple[str, str], list[tuple[dict[str, Any], dict[int, Tests]]]] = {}
    for config, runs in _trained(groups):
        if not all(condition in runs for condition in wanted.values()):
            continue
        seeds: dict[int, Tests] = {}
        for seed in runs[next(iter(wanted.values()))]:
            results = {
                test: _test(runs[training].get(seed), tests[test])
                for test, training in wanted.items()
            }
            if all(results.values()):
                seeds[seed] = {test: metrics for test, metrics in results.items() if metrics}
        if seeds:
            found.setdefault((config["model"], config["method"]), []).append((config, seeds))
    lines = []
    for (model, method), members in found.items():
        nearest = nearest_to_paper(config for config, _ in members)[method]
        lines += [Line(model, arm_label(config, nearest), seeds) for config, seeds in members]
    return sorted(lines, key=lambda line: names.model_order(line.model))


def _trained(
    groups: Sequence[Group],
) -> Iterator[tuple[dict[str, Any], dict[Condition, Mapping[int, RunRecord]]]]:
    """Each configuration but for what is missing in training, and by that its runs."""
    configs: dict[str, dict[str, Any]] = {}
    trained: dict[str, dict[Condition, Mapping[int, RunRecord]]] = {}
    for group in groups:
        condition = Condition(tuple(group.values["missing_rate"]), group.values["pattern"])
        for arm in (*group.arms, *group.variations):
            config = {k: v for k, v in arm.config.items() if k not in ("missing_rate", "pattern")}
            key = as_key(config)
            configs[key] = config
            trained.setdefault(key, {})[condition] = arm.runs
    yield from ((configs[key], runs) for key, runs in trained.items())


def _test(run: RunRecord | None, condition: Condition) -> Metrics | None:
    tests: Sequence[Evaluation] = run.tests if run else ()
    return next((t.metrics for t in tests if t.condition == condition), None)


def _summaries(dataset: str, key: str, tests: Tests) -> dict[str, float]:
    """Metric -> its summary over the tests, for metrics that all of them have."""
    card = cards.cards()[key]
    summary = registry.load(card.summary)
    conditions = _of(card, dataset)
    rates = [sum(conditions[label].missing_rate) / 2 for label in tests]
    places = rates if len(set(rates)) == len(rates) else list(range(len(rates)))
    shared = [m for m in next(iter(tests.values())) if all(m in found for found in tests.values())]
    return {
        metric: summary({p: t[metric] for p, t in zip(places, tests.values(), strict=True)})
        for metric in shared
    }


def _tables(dataset: str, key: str, lines: Sequence[Line], name: str) -> list[Table]:
    """A table for each metric, those of the paper first."""
    card = cards.cards()[key]
    first = next(iter(lines[0].seeds.values()))
    present = list(_summaries(dataset, key, first))
    main = names.main_metrics(dataset, present)
    tables = []
    for metric in [*main, *(m for m in present if m not in main)]:
        rows = _metric_rows(dataset, key, lines, metric)
        notes = [card.about] if metric == main[0] else []
        if known := _published_rows(dataset, key, metric, len(first)):
            rows += known
            notes.append(
                "published: as printed, on full features, with epochs selected on test data; "
                "re-run: others' re-runs with epochs selected on validation data."
            )
        title = f"{names.dataset_title(dataset)} · {card.title} · {names.metric_title(metric)}"
        header = ["Model", "Method", *first, card.summary_title]
        tables.append(Table(f"{name}-{metric}", title, header, rows, notes, left=2))
    return tables


def _metric_rows(
    dataset: str, key: str, lines: Sequence[Line], metric: str
) -> list[Sequence[Cell]]:
    numbers = []
    for line in lines:
        seeds = line.seeds.values()
        tests = [[t[label].get(metric, float("nan")) for t in seeds] for label in next(iter(seeds))]
        totals = [_summaries(dataset, key, t).get(metric, float("nan")) for t in seeds]
        numbers.append([significance.summarize(values) for values in [*tests, totals]])
    sign = -1 if names.lower_is_better(metric) else 1
    best = [max(sign * round(s.mean, 4) for s in column) for column in zip(*numbers, strict=True)]
    rows: list[Sequence[Cell]] = []
    for line, summaries in zip(lines, numbers, strict=True):
        count = len(line.seeds)
        cells = [
            Cell(names.model_title(line.model)),
            Cell(line.method, (f"{count} seed{'s' if count != 1 else ''}",)),
        ]
        for column, (summary, highest) in enumerate(zip(summaries, best, strict=True)):
            last = column == len(summaries) - 1
            text = names.spread(summary.mean, summary.sd) if last else names.number(summary.mean)
            leads = sign * round(summary.mean, 4) == highest and len(lines) > 1
            cells.append(Cell(text, (), BEST if leads else ""))
        rows.append(cells)
    return rows


def _published_rows(dataset: str, key: str, metric: str, tests: int) -> list[Sequence[Cell]]:
    card = datasets.find(dataset)
    name = next((n for n, c in datasets.CARDS.items() if c is card), "")
    rows: list[Sequence[Cell]] = []
    for row in published.ROWS.get((key, name), ()):
        for source, values in (("published", row.values), ("re-run", row.rerun)):
            if metric in values:
                empty = [Cell(names.NOTHING)] * tests
                rows.append(
                    [Cell(row.title), Cell(source), *empty, Cell(names.number(values[metric]))]
                )
    return rows
