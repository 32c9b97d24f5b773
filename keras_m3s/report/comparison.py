"""A short table of results, laid out as the paper's Table 2: methods down, metrics across."""

import statistics
from collections.abc import Mapping, Sequence

from keras_m3s.registry import methods
from keras_m3s.report.names import lower_is_better, method_title, metric_title

Results = Mapping[str, Sequence[Mapping[str, float]]]


def comparison_rows(results: Results) -> list[list[str]]:
    """Cells of the table: a header, a row per method, and the last method minus the first.

    Args:
        results: Method -> metrics of each seed. With several seeds a cell is mean ± standard
            deviation. Metrics that not all runs have are left out.
    """
    everything = [run for runs in results.values() for run in runs]
    metrics = [m for m in everything[0] if all(m in run for run in everything)]
    rows = [["Method", *(metric_title(m) for m in metrics)]]
    for method, runs in results.items():
        cells = [_cell([run[metric] for run in runs]) for metric in metrics]
        rows.append([method_title(method), *cells])
    if len(results) > 1:
        first, *_, last = results.values()
        baseline, _ = methods.main_pair()
        title = f"Δ {method_title(baseline, short=True)}" if baseline in results else "Δ"
        rows.append([title, *(_delta(first, last, m) for m in metrics)])
    return rows


def _cell(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def _delta(
    first: Sequence[Mapping[str, float]], last: Sequence[Mapping[str, float]], metric: str
) -> str:
    change = statistics.fmean(r[metric] for r in last) - statistics.fmean(r[metric] for r in first)
    better = change < 0 if lower_is_better(metric) else change > 0
    return f"{'↑' if change > 0 else '↓'} {abs(change):.4f}{' *' if better else ''}"


def text_table(results: Results) -> str:
    """The table as plain text for a terminal; `*` marks an improvement."""
    rows = comparison_rows(results)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def markdown_table(results: Results) -> str:
    """The table in Markdown."""
    header, *rows = comparison_rows(results)
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, marks, *rows))
