"""`keras-m3s inspect`: what a file holds, what is wrong with it, which command reads it."""

import pathlib
import sys

import click


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=pathlib.Path))
@click.option("--plot", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="Draw how much of each modality is missing, and when, to this picture (.png, .svg, .pdf).")  # fmt: skip
def inspect(path: pathlib.Path, plot: pathlib.Path | None) -> None:
    """Print what FILE (or a folder) holds, what is wrong with it, and which command reads it.

    FILE is told by its content, whatever its ending: features of MMSA, MulT, MISA, MMIM, MAG-BERT,
    MMSA-FET, the CMU-MultimodalSDK or MMIN, .npz and folders of .npy, recordings with label.csv;
    arrays of any other modalities, tables with a description in YAML; of an archive, a web page or the like it says so, and what to do. It is read as the command
    that is named reads it. Of values that were never measured (NaN) it says how much of each
    modality is missing: of single values, of rows (time steps without any value), of examples. No code in the file is run. Ends with status 1 where something is wrong.

    \b
    Example:
      keras-m3s inspect ~/data/mosi/unaligned_50.pkl
      keras-m3s inspect ~/data/mosi
      keras-m3s inspect sensors.npz --plot missing.png
    """
    from keras_m3s import data

    found = data.inspect(path)
    click.echo(f"{path.name}: {found.kind}")
    for line in found.holds:
        click.echo(f"  {line}")
    for name, gaps in found.gaps.items():
        click.echo(f"  {name:<22}missing: {gaps}")
    if plot is not None and not found.problems:
        data.plot_gaps(found.gaps, plot)
    click.echo("\nWrong:" if found.problems else "\nNothing wrong was found.")
    for row, line in enumerate(found.problems):
        first = "What reading it says first: " if found.holds and row == 0 else ""
        click.echo(f"  - {first}{line}")
    for line in found.notes:
        click.echo(f"  note: {line}")
    if found.commands:
        click.echo("\nRead it with:\n  " + "\n  ".join(found.commands))
    if found.problems:
        sys.exit(1)
