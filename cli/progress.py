"""Progress of one run: a line that is updated after each epoch."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import click
import keras

from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory


class Progress(keras.callbacks.Callback):
    """Shows epoch, losses and the time left; without a terminal in every tenth of the epochs.

    Args:
        experiment: What is trained.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment = experiment
        self.title = f"{experiment.model_name} {experiment.method:<8} seed {experiment.seed}"
        self.started = time.monotonic()
        self.first: int | None = None
        """The first epoch of this training, which is not the run's if it is resumed."""

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.started, self.first = time.monotonic(), None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        self.first = epoch if self.first is None else self.first
        total = self.experiment.epochs
        passed = time.monotonic() - self.started
        left = passed / (epoch + 1 - self.first) * (total - epoch - 1)
        shown = "  ".join(f"{name} {float(logs[name]):.4f}" for name in ("loss", "val_loss"))
        line = f"{self.title}  epoch {epoch + 1:>{len(str(total))}}/{total}  {shown}  {left:4.0f} s left"
        if sys.stdout.isatty():
            click.echo(f"\r\x1b[2K{line}", nl=False)
        elif (epoch + 1) % max(1, total // 10) == 0:
            click.echo(line)

    def close(self, run: RunDirectory) -> None:
        """The run's last line."""
        end = "\r\x1b[2K" if sys.stdout.isatty() else ""
        click.echo(f"{end}{self.title}  done: {run.path}")


def for_tensorboard(run: RunDirectory) -> keras.callbacks.Callback:
    """Writes each epoch's values to `tensorboard/` in the run directory."""
    return keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False)
