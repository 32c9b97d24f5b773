"""What a report consists of, before it is HTML, Markdown or LaTeX."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

BETTER, WORSE, BEST = "better", "worse", "best"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says.
        details: Smaller lines below, such as the paper's value.
        mark: `BETTER`, `WORSE`, `BEST` or nothing; never the only bearer of a meaning.
    """

    text: str
    details: Sequence[str] = ()
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; cells of the first `left` columns are words, the others numbers.

    Attributes:
        key: Unique in the report, for links and file names.
        title: Above it.
        header: Titles of the columns.
        rows: Rows of cells.
        notes: Sentences below.
        left: Number of columns of words.
    """

    key: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    left: int = 1


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    Attributes:
        title: Above it.
        alt: What it shows, in words, for who does not see it.
        draw: Draws it on a `matplotlib` axes.
    """

    title: str
    alt: str
    draw: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Figure:
    """Plots that share a legend.

    Attributes:
        key: Unique in the report.
        title: Above it.
        caption: Below it.
        panels: The plots.
        legend: (label, style) of each line; styles as `figures.style` gives them.
        notes: Sentences below.
    """

    key: str
    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, dict[str, Any]]] = ()
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Details:
    """A list of (name, value) that opens when wanted."""

    title: str
    values: Sequence[tuple[str, str]]


Block = Table | Figure | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report under a heading."""

    key: str
    title: str
    intro: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Content:
    """The whole report.

    Attributes:
        title: On top.
        facts: (name, value) pairs: how many runs, of what, with which versions.
        warnings: Sentences a reader must not miss.
        sections: The parts.
        data: File name -> rows, the same numbers for machines.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[Section]
    data: dict[str, list[dict[str, Any]]]
