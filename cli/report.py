"""`keras-m3s report`: a report on a folder of runs."""

import pathlib

import click

FORMATS = ("html", "markdown", "latex", "csv")
"""Those of `keras_m3s.report`, which imports NumPy."""


@click.command(context_settings={"show_default": True})
@click.argument("runs", type=click.Path(path_type=pathlib.Path))
@click.option("--output", "--out", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Folder of the report.  [default: RUNS/report]")  # fmt: skip
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, default=FORMATS, help="Repeat for several.")  # fmt: skip
@click.option("--title", default="Missing modalities: results", help="Title of the report.")
def report(
    runs: pathlib.Path, output: pathlib.Path | None, formats: tuple[str, ...], title: str
) -> None:
    """Report on all runs in folder RUNS beside the paper's numbers: one self-contained page.

    \b
    Example:
      keras-m3s report runs --output report --format html
    """
    from keras_m3s.report import write_report

    for path in write_report(runs, output or runs / "report", formats, title):
        if path.parent.name not in ("figures", "data"):
            click.echo(path)
