"""`RobustnessTable`: results at rates, patterns and without modalities, printed, kept, drawn."""

import csv
import dataclasses
import os
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple


class Result(NamedTuple):
    """Metrics of one evaluation.

    Attributes:
        pattern: Of the holes; `None` where modalities were left out as a whole.
        rate: Missing rate; `None` likewise.
        absent: Modalities that were left out.
        draw: Number of the draw.
        metrics: Name -> value.
    """

    pattern: str | None
    rate: float | None
    absent: tuple[str, ...]
    draw: int
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RobustnessTable:
    """What a model withstands.

    Attributes:
        results: One for each evaluation.
        complete: Metrics on the data as it is.
        modalities: Names of the modalities.
    """

    results: tuple[Result, ...]
    complete: Mapping[str, float]
    modalities: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the model's order."""
        return tuple(self.complete)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each pattern and rate, and for each set of absent modalities.

        Returns:
            Dicts with `pattern`, `rate`, `absent`, `draws`, and `metric`, `metric_sd` of each
            metric: mean and standard deviation over draws, the latter NaN for a single one.
        """
        grouped: dict[Any, list[Result]] = {}
        for result in self.results:
            grouped.setdefault((result.pattern, result.rate, result.absent), []).append(result)
        found = []
        for (pattern, rate, absent), members in grouped.items():
            row: dict[str, Any] = {
                "pattern": pattern, "rate": rate, "absent": absent, "draws": len(members),
            }  # fmt: skip
            for metric in self.metrics:
                values = [member.metrics[metric] for member in members]
                row[metric] = statistics.fmean(values)
                row[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else float("nan")
            found.append(row)
        return found

    def curve(self, metric: str, pattern: str) -> list[tuple[float, float, float]]:
        """Rates with mean and standard deviation of a metric, in the order of the rates."""
        rows = [row for row in self.rows() if row["pattern"] == pattern]
        points = [(row["rate"], row[metric], row[f"{metric}_sd"]) for row in rows]
        return sorted(points)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Names of the patterns."""
        return tuple(dict.fromkeys(r.pattern for r in self.results if r.pattern is not None))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes every single evaluation: pattern, rate, absent, draw and the metrics."""
        with pathlib.Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["pattern", "rate", "absent", "draw", *self.metrics])
            for result in self.results:
                values = [result.metrics[metric] for metric in self.metrics]
                where = [result.pattern or "", "" if result.rate is None else result.rate]
                writer.writerow([*where, "+".join(result.absent), result.draw, *values])

    def plot(self, path: str | os.PathLike[str] | None = None, metric: str | None = None) -> Any:
        """Draws curves over missing rates with bands of a standard deviation, and a bar for each
        set of absent modalities.

        Args:
            path: File to write, its ending decides the format; `None` to only return the figure.
            metric: Name of a metric; by default the first that is not the loss.

        Returns:
            The Matplotlib figure.
        """
        from keras_m3s.evaluation.plot import draw_table

        figure = draw_table(self, metric or main_metric(self.metrics))
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def __str__(self) -> str:
        header = ["missing", *self.metrics]
        lines = [header, ["nothing", *(f"{self.complete[m]:.4f}" for m in self.metrics)]]
        for row in self.rows():
            if row["pattern"] is not None and not row["rate"]:
                continue
            named = (
                f"{row['pattern']} {row['rate']:.0%}"
                if row["pattern"] is not None
                else "without " + ", ".join(row["absent"])
            )
            lines.append([named, *(_spread(row[m], row[f"{m}_sd"]) for m in self.metrics)])
        return aligned(lines)


def main_metric(metrics: tuple[str, ...]) -> str:
    """The first metric that is not the loss, or the loss."""
    return next((m for m in metrics if m != "loss" and not m.endswith("_loss")), metrics[0])


def aligned(lines: list[list[str]]) -> str:
    """Lines of cells as text, the first column to the left and a rule below the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        text.append("  ".join([name.ljust(widths[0]), *padded]))
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _spread(mean: float, sd: float) -> str:
    return f"{mean:.4f}" if sd != sd else f"{mean:.4f} ± {sd:.4f}"
