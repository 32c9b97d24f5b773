"""`keras-m3s export`."""

import os
import pathlib
import sys

import click

from keras_m3s.inference.formats import EXPORT_FORMATS, default_export_format


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--format", type=click.Choice(list(EXPORT_FORMATS)), help="For ONNX Runtime, or for TensorFlow.  [default: onnx; saved_model without the extra]")  # fmt: skip
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="File or folder to write.  [default: in RUN/export]")  # fmt: skip
def export(run: pathlib.Path, format: str | None, output: pathlib.Path | None) -> None:
    """Export the best model in directory RUN, if it then predicts the same to 1e-5.

    Each format is written by the backend that supports it best, ONNX by PyTorch and SavedModel by
    TensorFlow, whatever backend the run was trained on and --backend says.

    \b
    Example:
      keras-m3s export runs/mine-misa-m3s-seed0-0123456789 --format onnx
    """
    format = format or default_export_format()
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = EXPORT_FORMATS[format].backend
    from keras_m3s.utils import backend

    backend.import_backend()
    from keras_m3s.experiments.run_directory import RunDirectory
    from keras_m3s.inference import export as exporting

    path = exporting.export(RunDirectory(run), format, output)
    click.echo(f"{path}  predicts as the run does, to {exporting.TOLERANCE}")
