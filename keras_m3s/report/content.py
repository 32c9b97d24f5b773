"""Content of a report, independent of its format: sections of tables, figures and lists."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

BETTER, WORSE, BEST = "better", "worse", "best"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: Its text.
        details: Smaller lines below, such as the paper's value.
        mark: `BETTER`, `WORSE`, `BEST` or empty, for styles; the text carries the meaning too.
    """

    text: str
    details: Sequence[str] = ()
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first `left` columns hold words, the others numbers.

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
        alt: Text alternative for readers who cannot see it.
        draw: Function that draws it on Matplotlib axes.
    """

    title: str
    alt: str
    draw: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure: plots that share a legend.

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
    """A collapsible list of (name, value) pairs."""

    title: str
    values: Sequence[tuple[str, str]]


Element = Table | Figure | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the report."""

    key: str
    title: str
    intro: str
    elements: Sequence[Element]


class Command(str):
    """A command line, shown so that it can be copied."""


@dataclasses.dataclass(frozen=True)
class Content:
    """The whole report.

    Attributes:
        title: Title of the report.
        facts: (name, value) pairs on the number of runs, their data, methods and versions.
        warnings: Sentences shown before all sections.
        sections: The sections.
        data: File name -> rows, the same numbers in machine-readable form.
        beside_paper: Whether there are runs that the paper has results beside.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[Section]
    data: dict[str, list[dict[str, Any]]]
    beside_paper: bool = True
