"""`RunModel`: the best model of a trained run, and the inputs that it reads."""

import reprlib
from collections.abc import Mapping

import numpy as np

from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.own_model import read_spec, served, served_inputs
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.layers.text_states import TextStates
from keras_m3s.modalities import DRAWS, TEXT_BERT
from keras_m3s.registry import models

CLS, SEP = 101, 102
"""Ids of [CLS] and [SEP] in BERT's vocabularies, English and Chinese."""


class RunModel:
    """The best model of a run, for inference.

    Args:
        run: A trained run.

    Attributes:
        experiment: The run's `Experiment`.
        model: The base model, without the missing-modality transform; a model of one's own with
            it, since it fills what is missing.
        shapes: Name of an input -> its shape in training, without the batch axis. Runs of MMIN
            that version 0.1.0 trained do not tell the number of steps: there it is `None`.
        fills: Whether the model takes NaN for what is missing.

    Raises:
        FileNotFoundError: `run` is no run directory, or has no model yet.
        DamagedRunError: A file of the run cannot be read.
        ValueError: A model with a card was trained with `fill` or `rescale`.
    """

    shapes: dict[str, tuple[int | None, ...]]

    def __init__(self, run: RunDirectory) -> None:
        self.experiment = run.experiment()
        trained = best_model(run, compile=False)
        self.fills = models.is_own(self.experiment.model)
        if self.fills:
            spec = read_spec(run)
            self.model = served(trained, spec)
            self.shapes = {**served_inputs(trained, spec)}
            return
        holes = trained.missing
        if holes is not None and (holes.fill != 0 or holes.rescale):
            raise ValueError(
                "A model with a card must be trained on holes of zeros and without `rescale` to be "
                "served: it is served without the transform. "
                f"Received: fill={reprlib.repr(holes.fill)}, rescale={holes.rescale} in the run "
                f"{run.path}. Train it by another method, or use "
                "keras_m3s.experiments.checkpoints.best_model(run) on NaN."
            )
        self.model = trained.model
        built = self.model.get_build_config()["input_shape"]
        self.shapes = {
            key: tuple(shape[1:])
            for key, shape in built.items()
            if key != DRAWS and not isinstance(shape, Mapping)  # such as those of `complement`
        }
        # Data sets may hold both kinds of text. A model reads one of them; the other is optional.
        self.shapes.pop("text" if self._reads_tokens() else TEXT_BERT, None)

    def _reads_tokens(self) -> bool:
        return TEXT_BERT in self.shapes and any(
            isinstance(layer, TextStates) and layer.bert is not None
            for layer in self.model._flatten_layers()
        )

    def predict(self, x: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predictions of one batch.

        Args:
            x: Batch with the inputs in `shapes`.

        Returns:
            Float32 `(batch, outputs)`: scores, or logits of classes.
        """
        return np.asarray(self.model.predict_on_batch(dict(x)), "float32")
