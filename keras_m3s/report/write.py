"""Writes a report to files, in one or more formats."""

import contextlib
import csv
import io
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.report.build import build
from keras_m3s.report.content import Content, Figure
from keras_m3s.report.reading import read_runs
from keras_m3s.utils.atomic_files import whole

FORMATS: tuple[str, ...] = ("html", "markdown", "latex", "csv")


def write_report(
    runs_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    formats: Iterable[str] = FORMATS,
    title: str = "Missing modalities: results",
    command: str | None = None,
) -> list[pathlib.Path]:
    """Writes a report on all runs in a folder; the same runs give the same files.

    Args:
        runs_dir: Folder that holds run directories, at any depth.
        out_dir: Folder of the files: `report.html`, `report.md`, `report.tex`, `data/*.csv`, and
            `figures/` for Markdown and LaTeX.
        formats: Some of `FORMATS`.
        title: Title of the report.
        command: The command that made the runs, to print.

    Returns:
        Paths of the files, the main file of each format before its figures.

    Raises:
        FileNotFoundError: If there are no runs.
        ValueError: If there is no such format.
        WriteError: If `out_dir` is full or not writable.
    """
    wanted = tuple(dict.fromkeys(formats))
    if not wanted or set(wanted) - set(FORMATS):
        raise ValueError(f"`formats` must be some of {FORMATS}. Received: {wanted}.")
    runs = read_runs(pathlib.Path(runs_dir))
    content = build(runs, title, command)
    files: dict[str, bytes] = {}
    if "html" in wanted:
        from keras_m3s.report import html

        files["report.html"] = html.render(content).encode()
    if "markdown" in wanted:
        from keras_m3s.report import markdown

        files["report.md"] = markdown.render(content).encode()
        files |= _figures(content, "svg")
    if "latex" in wanted:
        from keras_m3s.report import latex

        files["report.tex"] = latex.render(content).encode()
        files |= _figures(content, "pdf")
    if "csv" in wanted:
        files |= {f"data/{name}.csv": _csv(rows) for name, rows in content.data.items()}
    paths = [pathlib.Path(out_dir) / name for name in files]
    with contextlib.ExitStack() as stack:  # replaces older files only once all are written
        for path, data in zip(paths, files.values(), strict=True):
            stack.enter_context(whole(path)).write_bytes(data)
    return paths


def _figures(content: Content, kind: str) -> dict[str, bytes]:
    from keras_m3s.report import figures

    return {
        f"figures/{element.key}.{kind}": figures.figure_file(element, kind)
        for section in content.sections
        for element in section.elements
        if isinstance(element, Figure)
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    # Missing values and NaN are empty cells.
    writer.writerows({k: "" if v is None or v != v else v for k, v in row.items()} for row in rows)
    return text.getvalue().encode()
