"""The trial of methods: what to use, the tests that decide, and how the methods were chosen."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras_m3s.registry import methods
from keras_m3s.registry import trial as cards
from keras_m3s.report import names, significance
from keras_m3s.report.content import BEST, Cell, Element, Section, Table
from keras_m3s.report.groups import Arm, Group, group_runs
from keras_m3s.report.records import RunRecord, ordered
from keras_m3s.report.results import change_cell

TOGETHER = ("dataset", "model", "model_source", "pattern", "missing_rate", "site", "select")
"""Fields of an experiment that the methods of a trial share."""

TEST, VALID = "test", "valid"

Values = Mapping[int, Mapping[str, float]]
"""Seed -> metrics."""


class Line(NamedTuple):
    """A method against the baseline, on the tests that decide.

    Attributes:
        method: Its name.
        values: Its metrics.
        compared: Metric -> the comparison with the baseline; none for the baseline itself.
        p: Metric -> p of the paired t-test after Holm.
        cost: Gradients, as a share of the baseline's.
        time: Seconds of an epoch, likewise; NaN where they are not known.
    """

    method: str
    values: Values
    compared: Mapping[str, significance.Comparison]
    p: Mapping[str, float]
    cost: float
    time: float

    def wins(self, metrics: Sequence[str]) -> bool:
        """Whether it is better than the baseline in all of some metrics."""
        return bool(self.compared) and all(
            self.p[m] < cards.LEVEL and _sign(m) * self.compared[m].difference > 0 for m in metrics
        )


def section(runs: Sequence[RunRecord]) -> Section:
    """Of all runs that belong to a trial."""
    elements: list[Element] = []
    advice = []
    for number, group in enumerate(_groups(runs), 1):
        lines = decisive(group)
        if lines:
            advice.append(f"{_title(group)}: {recommendation(lines)}")
            elements += _tables(group, lines, f"trial-{number}")
        elements += _screening(group, f"trial-{number}-screening")
    return Section("trial", "What to use", " ".join(advice), elements)


def is_of_trial(run: RunRecord) -> bool:
    """Whether a run belongs to a trial."""
    return bool(run.drawn)


def rows(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Every metric of every test, run and split as flat rows."""
    found = []
    for group in _groups(runs):
        for arm in (*group.arms, *group.variations):
            for seed, run in arm.runs.items():
                for test in run.drawn:
                    rate, pattern, _ = test.condition
                    at = {
                        **{k: group.values[k] for k in ("dataset", "model")},
                        "method": arm.method,
                        "learning_rate": run.experiment.get("learning_rate"),
                        "seed": seed,
                        "split": test.split,
                        "test_low": rate[0],
                        "test_high": rate[1],
                        "pattern": pattern,
                    }
                    found += [at | {"metric": m, "value": v} for m, v in test.metrics.items()]
    return found


def recommendation(lines: Sequence[Line]) -> str:
    """What to use, by the tests that decide: a sentence or two."""
    metrics = _metrics(lines)
    baseline = next((line for line in lines if line.method == cards.BASELINE), None)
    seeds = max(len(line.values) for line in lines)
    if baseline is None or seeds < 2:
        return "nothing can be said without the baseline and two seeds at least."
    both = " and ".join(names.metric_title(m) for m in metrics)
    winners = [line for line in lines if line.wins(metrics) and line.cost <= 1]
    title = names.method_title(cards.BASELINE, short=True)
    if winners:
        error = metrics[1]
        best = min(winners, key=lambda line: _mean(line.values, error))
        others = [names.method_title(line.method) for line in winners if line is not best]
        also = f" So do {', '.join(others)}." if others else ""
        return (
            f"use {names.method_title(best.method)}. It beats {title} in {both} "
            f"(p < {cards.LEVEL} after Holm, {seeds} seeds, as many gradients).{also}"
        )
    plain = [line for line in lines if line.method == methods.named("baseline")[0]]
    gains = plain and all(
        _sign(m) * (_mean(baseline.values, m) - _mean(plain[0].values, m)) > 0 for m in metrics
    )
    than = ", which is better than fixed holes," if gains else ""
    return (
        f"use {title}{than} and nothing more. No other method beats it in both {both} "
        f"(p < {cards.LEVEL} after Holm, {seeds} seeds, as many gradients)."
    )


def decisive(group: Group) -> list[Line]:
    """The methods on test data, missing as in training; none if there are no such tests."""
    first = ordered(next(iter(cards.TESTS.values())))
    found = {arm.method: (arm, _values(arm, TEST, first)) for arm in _confirmed(group)}
    values = {method: seeds for method, (_, seeds) in found.items() if seeds}
    if not values:
        return []
    metrics = cards.metrics_of(next(iter(next(iter(values.values())).values())))
    baseline = values.get(cards.BASELINE, {})
    compared: dict[str, dict[str, significance.Comparison]] = {
        method: {m: significance.compare(_column(baseline, m), _column(seeds, m)) for m in metrics}
        for method, seeds in values.items()
        if method != cards.BASELINE and baseline
    }
    tests = [(method, m) for method in compared for m in metrics]
    holm = significance.holm([compared[method][m].t for method, m in tests])
    p: dict[str, dict[str, float]] = {}
    for (method, m), corrected in zip(tests, holm, strict=True):
        p.setdefault(method, {})[m] = corrected
    seconds = {method: _seconds(found[method][0]) for method in values}
    return [
        Line(
            method,
            seeds,
            compared.get(method, {}),
            p.get(method, {}),
            _cost(method),
            seconds[method] / seconds.get(cards.BASELINE, math.nan),
        )
        for method, seeds in values.items()
    ]


def _tables(group: Group, lines: Sequence[Line], key: str) -> list[Element]:
    metrics = _metrics(lines)
    header = ["Method", "Seeds"]
    for metric in metrics:
        header += [names.metric_title(metric), "difference", "p after Holm"]
    header += ["Gradients", "Time"]
    body = []
    for line in lines:
        cells = [Cell(names.method_title(line.method, short=True)), Cell(str(len(line.values)))]
        for metric in metrics:
            summary = significance.summarize(list(_column(line.values, metric).values()))
            cells.append(Cell(names.spread(summary.mean, summary.sd)))
            if metric in line.compared:
                corrected = line.p[metric]
                cells.append(change_cell(line.compared[metric].difference, metric))
                mark = BEST if corrected < cards.LEVEL else ""
                cells.append(Cell(names.p_value(corrected), (), mark))
            else:
                cells += [Cell(names.NOTHING)] * 2
        cells += [Cell(f"× {line.cost:.2g}"), Cell(f"× {line.time:.2f}")]
        body.append(cells)
    label = next(iter(cards.TESTS))
    notes = [
        f"Test data, {label} of each modality missing, means over {cards.DRAWS} draws of the holes "
        f"for each seed. Differences are from {names.method_title(cards.BASELINE, short=True)}, "
        f"paired by seed; Holm over all tests of the table; bold: p below {cards.LEVEL}. Gradients "
        "and time of an epoch: as multiples of the same.",
    ]
    found: list[Element] = [Table(key, _title(group), header, body, notes, left=1)]
    for metric in metrics:
        found.append(_conditions(group, metric, f"{key}-{metric}"))
    return found


def _conditions(group: Group, metric: str, key: str) -> Table:
    """A metric under every condition."""
    tests = {label: ordered(condition) for label, condition in cards.TESTS.items()}
    arms = _confirmed(group)
    columns = {
        label: {arm.method: _column(_values(arm, TEST, c), metric) for arm in arms}
        for label, c in tests.items()
    }
    body = []
    for arm in arms:
        cells = [Cell(names.method_title(arm.method, short=True))]
        for label in tests:
            seeds = columns[label][arm.method]
            means = [round(_fmean(v), 4) for v in columns[label].values() if v]
            best = (min if names.lower_is_better(metric) else max)(means, default=math.nan)
            if not seeds:
                cells.append(Cell(names.NOTHING))
                continue
            summary = significance.summarize(list(seeds.values()))
            mark = BEST if round(summary.mean, 4) == best else ""
            cells.append(Cell(names.spread(summary.mean, summary.sd), (), mark))
        body.append(cells)
    title = f"{_title(group)} · {names.metric_title(metric)}"
    better = "lower" if names.lower_is_better(metric) else "higher"
    notes = [
        "What is missing in testing; half the modalities: each as a whole with probability one "
        "half. Mean ± standard deviation over seeds; bold: best of a "
        f"column, {better} is better."
    ]
    return Table(key, title, ["Method", *tests], body, notes)


def _screening(group: Group, key: str) -> list[Element]:
    """What the learning rates and the arms were chosen by, on validation data."""
    first = ordered(next(iter(cards.TESTS.values())))
    tried: dict[str, dict[float, Values]] = {}
    for arm in (*group.arms, *group.variations):
        seeds = _values(arm, VALID, first)
        if seeds:
            tried.setdefault(arm.method, {})[_rate(arm)] = seeds
    # Screening goes on with the rate that was chosen, so that one has the most seeds.
    taken = {m: max(found, key=lambda r: len(found[r])) for m, found in tried.items()}
    screened = {m: tried[m][rate] for m, rate in taken.items()}
    if not screened:
        return []
    metrics = cards.metrics_of(next(iter(next(iter(screened.values())).values())))
    rates = sorted({rate for found in tried.values() for rate in found})
    went_on = {arm.method for arm in _confirmed(group)}
    body = []
    for method in sorted(tried, key=names.method_order):
        cells = [Cell(names.method_title(method, short=True))]
        for rate in rates:
            error = _column(tried[method].get(rate, {}), metrics[1])
            chosen = [v for seed, v in error.items() if seed in cards.GRID_SEEDS]
            mark = BEST if rate == taken[method] else ""
            mean = statistics.fmean(chosen) if chosen else math.nan
            cells.append(Cell(names.number(mean), (), mark))
        cells.append(Cell(str(len(screened[method]))))
        for metric in metrics:
            summary = significance.summarize([*_column(screened[method], metric).values()])
            cells.append(Cell(names.spread(summary.mean, summary.sd)))
        score = _score(screened.get(cards.BASELINE, {}), screened[method], metrics)
        mark = BEST if method in cards.ARMS and method in went_on else ""
        cells.append(Cell(names.number(score, 2, sign=True), (), mark))
        body.append(cells)
    error_title = names.metric_title(metrics[1])
    tried_titles = [f"{error_title} at {rate:.2g}" if rate else error_title for rate in rates]
    header = ["Method", *tried_titles, "Seeds", *map(names.metric_title, metrics), "Score"]
    note = (
        f"Validation data, {next(iter(cards.TESTS))} missing. First {error_title} at each "
        f"learning rate, seeds {cards.GRID_SEEDS[0]} to {cards.GRID_SEEDS[-1]}; bold: the "
        "rate that was taken. Then all seeds at that rate. Score: the lesser of the two paired t "
        f"statistics against {names.method_title(cards.BASELINE, short=True)}; bold: arms that "
        f"went on, {cards.MOST_ARMS} at most."
    )
    return [Table(key, f"{_title(group)} · screening", header, body, [note])]


def _score(baseline: Values, values: Values, metrics: Sequence[str]) -> float:
    """The lesser of the t statistics of two metrics' improvements; NaN for the baseline itself."""
    if values is baseline or not baseline:
        return math.nan
    found = []
    for metric in metrics:
        test = significance.compare(_column(baseline, metric), _column(values, metric))
        found.append(_sign(metric) * test.effect * math.sqrt(test.pairs))
    return min(found)


def _groups(runs: Sequence[RunRecord]) -> Iterator[Group]:
    yield from group_runs([run for run in runs if is_of_trial(run)], TOGETHER)


def _confirmed(group: Group) -> list[Arm]:
    """For each method the arm that was tested on test data with the most seeds."""
    best: dict[str, tuple[int, Arm]] = {}
    for arm in (*group.arms, *group.variations):
        tested = sum(any(t.split == TEST for t in run.drawn) for run in arm.runs.values())
        if tested > best.get(arm.method, (0, arm))[0]:
            best[arm.method] = tested, arm
    return sorted((arm for _, arm in best.values()), key=lambda a: names.method_order(a.method))


def _values(arm: Arm, split: str, condition: Any) -> dict[int, Mapping[str, float]]:
    return {
        seed: test.metrics
        for seed, run in arm.runs.items()
        for test in run.drawn
        if test.split == split and test.condition == condition
    }


def _column(seeds: Values, metric: str) -> dict[int, float]:
    return {seed: metrics[metric] for seed, metrics in seeds.items() if metric in metrics}


def _metrics(lines: Sequence[Line]) -> tuple[str, str]:
    return cards.metrics_of(next(iter(lines[0].values.values())))


def _mean(values: Values, metric: str) -> float:
    return _fmean(_column(values, metric))


def _fmean(seeds: Mapping[int, float]) -> float:
    return statistics.fmean(seeds.values())


def _sign(metric: str) -> int:
    return -1 if names.lower_is_better(metric) else 1


def _cost(method: str) -> float:
    """Gradients of an epoch with one inner step, over the baseline's."""
    if method not in methods.CARDS:
        return math.nan
    return methods.CARDS[method].gradients(1) / methods.CARDS[cards.BASELINE].gradients(1)


def _seconds(arm: Arm) -> float:
    found = [run.epoch_seconds for run in arm.runs.values() if math.isfinite(run.epoch_seconds)]
    return statistics.median(found) if found else math.nan


def _rate(arm: Arm) -> float:
    return float(arm.config.get("learning_rate") or 0.0)


def _title(group: Group) -> str:
    return f"{names.dataset_title(group.values['dataset'])} · {names.source_title(group.values)}"
