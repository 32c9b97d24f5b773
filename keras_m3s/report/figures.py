"""Plots with Matplotlib: lines with bands, heat maps; reproducible SVG and PDF.

Colours are those of Okabe and Ito, which are safe for the colour-blind; each method also has its
own line style and marker. In a page, text and grid take the page's colours.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.registry import methods
from keras_m3s.report.content import Figure, Panel

OTHER_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#009E73", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#56B4E9", "linestyle": (0, (8, 2)), "marker": "P"},
    {"color": "#6A5ACD", "linestyle": (0, (2, 1)), "marker": "X"},
    {"color": "#8C6D1F", "linestyle": (0, (3, 1, 1, 1)), "marker": "<"},
    {"color": "#777777", "linestyle": (0, (1, 1)), "marker": ">"},
)

# Placeholders that are replaced with the colours of the page or file.
TEXT, GRID = "#010203", "#040506"
PAGE_COLORS = {TEXT: "currentColor", GRID: "var(--grid, #cccccc)"}

FILE_COLORS = {TEXT: "#222222", GRID: "#cccccc"}

PANEL_SIZE = (4.1, 2.9)
"""Width and height of a plot in inches; in a page it scales with its column."""

SETTINGS: dict[str, Any] = {
    "axes.edgecolor": TEXT,
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text, for search and in the page's colour
    "text.color": TEXT,
    "text.parse_math": False,  # labels may hold names of files and settings with a $
    "xtick.color": TEXT,
    "xtick.labelsize": 9,
    "ytick.color": TEXT,
    "ytick.labelsize": 9,
}


def style(method: str, number: int = 0) -> dict[str, Any]:
    """Line style of a method.

    Args:
        method: Name of the method.
        number: Index among the methods without a style of their own.
    """
    return dict(_own_style(method) or other_style(number))


def other_style(number: int) -> dict[str, Any]:
    """One of the line styles that no method has."""
    return dict(OTHER_STYLES[number % len(OTHER_STYLES)])


def has_style(method: str) -> bool:
    """Whether a method's card has a style."""
    return _own_style(method) is not None


def _own_style(method: str) -> Mapping[str, Any] | None:
    return methods.CARDS[method].style if method in methods.CARDS else None


def draw_lines(
    axes: Any,
    lines: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, float]]]],
    x: str,
    xlabel: str,
    markers: int = 8,
) -> None:
    """Draws lines of means with bands.

    Args:
        axes: Matplotlib axes.
        lines: (style, rows) of each line; a row has the value of `x`, `mean`, `low` and `high`.
        x: Key of the horizontal position in a row.
        xlabel: Label of the horizontal axis.
        markers: Approximate number of markers on a line.
    """
    for style, rows in lines:
        at = [row[x] for row in rows]
        axes.fill_between(
            at,
            [row["low"] for row in rows],
            [row["high"] for row in rows],
            color=style["color"],
            alpha=0.18,
            linewidth=0,
        )
        every = max(1, len(rows) // markers)
        axes.plot(at, [row["mean"] for row in rows], markevery=every, **style)
    axes.set_xlabel(xlabel)
    axes.locator_params(axis="x", integer=True)


def draw_heat_map(
    axes: Any,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    reverse: bool,
) -> None:
    """Draws a matrix with its numbers; brighter is better.

    Args:
        axes: Matplotlib axes.
        values: Matrix, NaN for empty cells.
        rows: Labels of the rows: missing rates in training.
        columns: Labels of the columns: missing rates in testing.
        limits: Lowest and highest value of the colour scale.
        reverse: Whether lower values are brighter.
    """
    colors = "cividis_r" if reverse else "cividis"
    # Drawn as vectors: sharp at any size, and no bitmap in the page.
    image = axes.pcolormesh(values, cmap=colors, vmin=limits[0], vmax=limits[1])
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value == value:
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                color = "#ffffff" if dark else "#000000"
                axes.text(
                    j + 0.5, i + 0.5, f"{value:.4f}", ha="center", va="center", color=color, size=9
                )
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([j + 0.5 for j in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.invert_yaxis()
    axes.set_xlabel("Missing in testing")
    axes.set_ylabel("Missing in training")


@contextlib.contextmanager
def _figure(width: float, height: float, salt: str, colors: Any = None) -> Iterator[Any]:
    """A Matplotlib figure with `SETTINGS`, made without pyplot, which needs a display backend.

    Args:
        width: In inches.
        height: In inches.
        salt: Makes the ids in an SVG unique and reproducible.
        colors: Colours that replace `TEXT` and `GRID`.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    settings = {k: (colors or {}).get(v, v) for k, v in SETTINGS.items()}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings, "svg.hashsalt": salt}):
        yield Canvas(figsize=(width, height))


def panel_svg(panel: Panel, key: str) -> str:
    """One plot as an `<svg>` element for a page.

    Args:
        panel: The plot.
        key: Prefix of the ids inside, unique on the page.
    """
    with _figure(*PANEL_SIZE, key) as figure:
        axes = figure.add_subplot()
        panel.draw(axes)
        axes.set_title(panel.title)
        return _inline(_save(figure, "svg").decode(), key, panel.alt)


def swatch_svg(style: Mapping[str, Any], key: str) -> str:
    """A sample of a line as an `<svg>` element, for a legend."""
    with _figure(0.5, 0.16, key) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.plot([0, 0.5, 1], [0, 0, 0], markevery=[1], **style)
        axes.set_axis_off()
        return _inline(_save(figure, "svg").decode(), key, "")


def figure_file(content: Figure, kind: str) -> bytes:
    """All plots of a figure with their legend, as the content of a file.

    Args:
        content: The figure.
        kind: `"svg"` or `"pdf"`.
    """
    from matplotlib.lines import Line2D

    across = min(3, len(content.panels))
    down = -(-len(content.panels) // across)
    width, height = PANEL_SIZE
    size = (across * width, down * height + 0.3)
    with _figure(*size, content.key, colors=FILE_COLORS) as figure:
        grid = figure.subplots(down, across, squeeze=False).ravel()
        for axes, panel in zip(grid, content.panels, strict=False):
            panel.draw(axes)
            axes.set_title(panel.title)
        for axes in grid[len(content.panels) :]:
            axes.set_axis_off()
        if content.legend:
            lines = [Line2D([], [], label=label, **style) for label, style in content.legend]
            figure.legend(handles=lines, loc="outside upper center", ncols=min(4, len(lines)))
        return _save(figure, kind)


def _save(figure: Any, kind: str) -> bytes:
    """The file's content, without a date, so that the same runs give the same file."""
    file = io.BytesIO()
    date = {"svg": "Date", "pdf": "CreationDate"}[kind]
    figure.savefig(file, format=kind, metadata={date: None})
    return file.getvalue()


def _inline(svg: str, key: str, alt: str) -> str:
    """The `<svg>` element alone, with ids unique on the page and a text alternative."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"|\sversion="1.1"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    for placeholder, color in PAGE_COLORS.items():
        svg = svg.replace(placeholder, color)
    named = f'role="img" aria-label="{escape(alt)}"' if alt else 'aria-hidden="true"'
    return svg.replace("<svg", f"<svg {named}", 1).strip()
