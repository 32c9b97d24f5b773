"""`keras-m3s report`."""

import pathlib

import click

FORMATS = ("html", "markdown", "latex", "csv")


@click.command(context_settings={"show_default": True})
@click.argument("runs", type=click.Path(path_type=pathlib.Path))
@click.option("--out", "out_dir", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Where the report goes.  [default: RUNS/report]")  # fmt: skip
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, default=FORMATS, help="Repeat for several.")  # fmt: skip
@click.option("--title", default="Missing modalities: results", help="On top of the report.")
def report(
    runs: pathlib.Path, out_dir: pathlib.Path | None, formats: tuple[str, ...], title: str
) -> None:
    """Set all runs in folder RUNS beside the paper's numbers: one page that opens anywhere.

    \b
    Example:
      keras-m3s report runs --out report --format html
    """
    from keras_m3s.report import write_report

    for path in write_report(runs, out_dir or runs / "report", formats, title):
        if path.parent.name not in ("figures", "data"):
            click.echo(path)
