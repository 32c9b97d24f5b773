"""`compare`: several models on the same holes, with paired differences."""

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_m3s.evaluation.robustness import robustness
from keras_m3s.evaluation.table import RobustnessTable, aligned, main_metric

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Tables of several models on the same holes.

    Attributes:
        tables: Name -> a table for each of its models (seeds).
    """

    tables: Mapping[str, Sequence[RobustnessTable]]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that all models have."""
        each = [table.metrics for tables in self.tables.values() for table in tables]
        return tuple(m for m in each[0] if all(m in metrics for metrics in each))

    def rows(self, metric: str | None = None) -> list[dict[str, Any]]:
        """A row for each condition and model after the first: how it differs from the first.

        Pairs are seeds where there are several, in their order; else draws of the holes, which say
        nothing about other seeds.

        Args:
            metric: By default the first that is not the loss.

        Returns:
            Dicts with `condition`, `first`, `second`, their means, `difference` (second minus
            first), the ends `low` and `high` of its 95 % interval by the paired t distribution (NaN
            for a single pair), `pairs` and `over` (`"seeds"` or `"draws"`).
        """
        metric = metric or main_metric(self.metrics)
        first, *others = self.tables
        rows = []
        for condition in _conditions(self.tables[first][0]):
            for second in others:
                a, b, over = self._paired(first, second, condition, metric)
                differences = [y - x for x, y in zip(a, b, strict=True)]
                low, high = _interval(differences)
                rows.append(
                    {
                        "condition": _title(condition),
                        "first": first,
                        "second": second,
                        "first_mean": statistics.fmean(a),
                        "second_mean": statistics.fmean(b),
                        "difference": statistics.fmean(differences),
                        "low": low,
                        "high": high,
                        "pairs": len(differences),
                        "over": over,
                    }
                )
        return rows

    def _paired(
        self, first: str, second: str, condition: Any, metric: str
    ) -> tuple[list[float], list[float], str]:
        a, b = (
            [_values(table, condition, metric) for table in self.tables[name]]
            for name in (first, second)
        )
        if len(a) == len(b) > 1:
            return [statistics.fmean(v) for v in a], [statistics.fmean(v) for v in b], "seeds"
        if len(a) != len(b):
            raise ValueError(
                "All models must be given for as many seeds, to be paired. Received: "
                f"{len(a)} of {first!r}, {len(b)} of {second!r}."
            )
        return a[0], b[0], "draws"

    def plot(self, path: str | os.PathLike[str] | None = None, metric: str | None = None) -> Any:
        """Draws all models together; arguments as of `RobustnessTable.plot`."""
        from keras_m3s.evaluation.plot import draw_tables

        figure = draw_tables(self.tables, metric or main_metric(self.metrics))
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def __str__(self) -> str:
        metric = main_metric(self.metrics)
        rows = self.rows(metric)
        first = next(iter(self.tables))
        lines = [[f"{metric}, missing", first, *(f"{n} - {first}" for n in list(self.tables)[1:])]]
        by_condition: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_condition.setdefault(row["condition"], []).append(row)
        for condition, members in by_condition.items():
            cells = [_cell(row) for row in members]
            lines.append([condition, f"{members[0]['first_mean']:.4f}", *cells])
        if not rows:
            return str(self.tables[first][0])
        over, pairs = rows[0]["over"], max(row["pairs"] for row in rows)
        note = f"95 % intervals of the difference, paired over {over} (up to {pairs})"
        return f"{aligned(lines)}\n{note}"


def compare(
    models: Mapping[str, keras.Model | Sequence[keras.Model]],
    x: Any,
    y: Any = None,
    **arguments: Any,
) -> Comparison:
    """Tests several models on the same holes.

    Examples:
        >>> print(compare({"plain": a, "holes": b, "m3s": c}, x_test, y_test))
        >>> compare({"plain": [a0, a1, a2], "m3s": [c0, c1, c2]}, x_test, y_test).plot("seeds.png")

    Args:
        models: Name -> a compiled model, or models of several seeds; the first name is what others
            are compared with.
        x: As of `robustness`, likewise `y` and all else.
        y: Labels.
        **arguments: As of `robustness`.

    Returns:
        A comparison that prints and plots itself.

    Raises:
        ValueError: As `robustness`, or there is no model.
    """
    if not models:
        raise ValueError("`models` must hold at least one model. Received: none.")
    tables = {}
    for name, given in models.items():
        each = given if isinstance(given, Sequence) else [given]
        tables[name] = [robustness(model, x, y, **arguments) for model in each]
    return Comparison(tables)


def _conditions(table: RobustnessTable) -> list[tuple[Any, Any, tuple[str, ...]]]:
    found: dict[str, tuple[Any, Any, tuple[str, ...]]] = {}
    for r in table.results:  # complete data is the same under every pattern
        condition = (r.pattern, r.rate, r.absent)
        found.setdefault(_title(condition), condition)
    return list(found.values())


def _values(table: RobustnessTable, condition: Any, metric: str) -> list[float]:
    return [r.metrics[metric] for r in table.results if (r.pattern, r.rate, r.absent) == condition]


def _title(condition: tuple[Any, Any, tuple[str, ...]]) -> str:
    pattern, rate, absent = condition
    if absent:
        return "without " + ", ".join(absent)
    return f"{pattern} {rate:.0%}" if rate else "nothing"


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    from scipy import stats

    if len(differences) < 2:
        return float("nan"), float("nan")
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * sd / len(differences) ** 0.5
    return mean - float(half), mean + float(half)


def _cell(row: Mapping[str, Any]) -> str:
    text = f"{row['difference']:+.4f}"
    return text if row["low"] != row["low"] else f"{text} [{row['low']:+.4f}, {row['high']:+.4f}]"
