"""What the benchmarks print: a table of times, and one of ratios beside what is claimed of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Claim(NamedTuple):
    """A ratio and what is claimed of it.

    Attributes:
        what: Of what to what.
        ratios: One for each round.
        at_most: What the median must not exceed; `None` where nothing is claimed.
        limit: Where it does: what keeps it there, and how that was measured.
    """

    what: str
    ratios: Any
    at_most: float | None = None
    limit: str = ""

    @property
    def holds(self) -> bool:
        return self.at_most is None or float(np.median(self.ratios)) <= self.at_most


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its columns padded so that it reads well as it is."""
    cells = [list(heads), *([*row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )
    return "\n".join(f"| {line} |" for line in lines)


def of_times(times: Mapping[str, Any]) -> str:
    """Milliseconds of a step: median and quartiles over the rounds."""
    rows = []
    for name, seconds in times.items():
        low, middle, high = np.percentile(seconds, (25, 50, 75)) * 1e3
        rows.append((name, f"{middle:.1f}", f"{low:.1f} to {high:.1f}"))
    return table(("case", "ms a step", "quartiles"), rows)


def of_claims(claims: Iterable[Claim]) -> str:
    """Ratios: median and quartiles over the rounds, and whether they are within what is claimed."""
    rows, limits = [], []
    for claim in claims:
        low, middle, high = np.percentile(claim.ratios, (25, 50, 75))
        at_most = "" if claim.at_most is None else f"{claim.at_most:g}"
        reached = "" if claim.at_most is None else "yes" if claim.holds else "no"
        rows.append((claim.what, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", at_most, reached))
        if not claim.holds and claim.limit:
            limits.append(f"{claim.what}: {claim.limit}")
    heads = ("ratio", "median", "quartiles", "at most", "reached")
    return "\n\n".join([table(heads, rows), *limits])
