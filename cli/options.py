"""Options that several commands share, and what they need."""

import pathlib
from collections.abc import Callable
from typing import Any

import click


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where data is."""
    for option in (
        click.option("--config", help="Which form of the data set, as its README names it."),
        click.option(
            "--manual-dir",
            type=click.Path(path_type=pathlib.Path, file_okay=False),
            help="Folder with the files that you brought yourself.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=pathlib.Path, file_okay=False),
            help="Folder of prepared data sets.  [default: TFDS_DATA_DIR or ~/tensorflow_datasets]",
        ),
    ):
        command = option(command)
    return command


def need_tensorboard() -> None:
    """Whether TensorBoard is there, asked before hours of training rather than after an epoch."""
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "`--tensorboard` needs TensorBoard, which is not here. Install it with: "
            "pip install 'keras-m3s[tensorboard]'"
        )
