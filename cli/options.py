"""Options that several commands share."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import click

from keras_m3s.experiments.validators import FILLS
from keras_m3s.registry import models
from keras_m3s.registry.datasets import is_file, split_name


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where data is; `data_arguments` makes arguments of them."""
    for option in (
        click.option("--config", help="Config of the data set, as its README names it."),
        click.option(
            "--manual-dir",
            type=click.Path(path_type=pathlib.Path, file_okay=False),
            help="Folder of the files that the data set is made from, where you brought them.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=pathlib.Path, file_okay=False),
            help="Folder of prepared data sets.  [default: TFDS_DATA_DIR or ~/tensorflow_datasets]",
        ),
    ):
        command = option(command)
    return command


def data_arguments(
    dataset: str,
    config: str | None,
    manual_dir: pathlib.Path | None,
    data_dir: pathlib.Path | None,
) -> dict[str, Any]:
    """Arguments of `keras_m3s.data.load`.

    Args:
        dataset: Name of a data set, `name/config`, or the path of a feature file.
        config: As of the options, likewise the others.

    Raises:
        click.UsageError: An option would be ignored, or contradicts `dataset`.
    """
    options = {"--config": config, "--manual-dir": manual_dir, "--data-dir": data_dir}
    given = [name for name, value in options.items() if value is not None]
    if is_file(dataset):
        if given:
            raise click.UsageError(
                f"{' and '.join(given)} must be left out with a file, which is read as it is. "
                f"Received: --dataset {dataset}."
            )
        return {"name": dataset}
    name, own = split_name(dataset)
    if config is not None and own not in (None, config):
        raise click.UsageError(
            f"--config must be that of --dataset, or be left out. Received: --dataset {dataset} "
            f"--config {config}."
        )
    return {
        "name": name,
        "config": config if own is None else own,
        "manual_dir": manual_dir,
        "data_dir": data_dir,
    }


def given(**values: Any) -> dict[str, Any]:
    """The values of options that were given."""
    return {name: value for name, value in values.items() if value not in (None, ())}


class CardName(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """The name of a card, also of one that was registered after the command was imported.

    Args:
        kind: What the cards are of, for the message.
        cards: A table of `keras_m3s.registry`.
    """

    def __init__(self, kind: str, cards: Mapping[str, Any]) -> None:
        self.name, self.cards = kind, cards

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self.cards)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.cards:
            listed = ", ".join(map(repr, self.cards))
            self.fail(f"{value!r} is not one of {listed}.", param, ctx)
        return str(value)


class ModelName(CardName):
    """The name of a model's card, or a function of one's own that makes a model."""

    def __init__(self) -> None:
        super().__init__("model", models.CARDS)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self.cards)}|FILE.py:FUNCTION]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if models.is_own(str(value)) else super().convert(value, param, ctx)


class Fill(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """What stands in a hole: one of `FILLS` or a number."""

    name = "fill"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(FILLS)}|NUMBER]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | float:
        if value in FILLS:
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither one of {', '.join(FILLS)} nor a number.", param, ctx)


def need_tensorboard() -> None:
    """Raises `ImportError` if TensorBoard is not installed: before training, not an epoch later."""
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "`--tensorboard` needs TensorBoard, which is not installed. Install it with: "
            "pip install 'keras-m3s[tensorboard]'"
        )
