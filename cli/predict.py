"""`keras-m3s predict`."""

import pathlib

import click

from keras_m3s.inference.formats import PREDICTION_FORMATS


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=pathlib.Path))
@click.option("--format", type=click.Choice(PREDICTION_FORMATS), default="csv", help="A table, or a JSON object a line.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="File to write; it appears when all is written.  [default: stdout]")  # fmt: skip
@click.option("--split", help="Which split of INPUT.  [default: all there are]")
@click.option("--batch-size", type=click.IntRange(1), default=64)
def predict(
    run: pathlib.Path,
    source: pathlib.Path,
    format: str,
    output: pathlib.Path | None,
    split: str | None,
    batch_size: int,
) -> None:
    """Predict the clips of INPUT with the best model in directory RUN.

    INPUT is a .pkl or .npz in MMSA's schema, or a folder of .npy. It needs no labels; any modality
    may be absent, and steps that are missing are zeros or NaN. Beside each prediction stands what
    share of each modality was missing.

    \b
    Example:
      keras-m3s predict runs/mine-misa-m3s-seed0-0123456789 clips.npz --output predictions.csv
    """
    from keras_m3s import data
    from keras_m3s.utils import backend

    backend.import_backend()
    from keras_m3s.experiments.run_directory import RunDirectory
    from keras_m3s.inference import RunModel, predictions

    model = RunModel(RunDirectory(run))
    clips = data.unlabelled(source, split)
    with predictions.open_output(output) as file:
        predictions.write(predictions.rows(model, clips, batch_size), file, format)
