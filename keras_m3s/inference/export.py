"""Export of a trained run's best model to a file that other programs run.

    onnx            a file for ONNX Runtime and others; written and checked on the PyTorch backend
    saved_model     a folder for TensorFlow (`tf.saved_model.load(...).serve`); on TensorFlow

The exported model must reproduce the run's predictions, or nothing is kept. Its inputs are those of
the run's model, by name, such as `audio` `(batch, steps, dim)` and `audio_length` `(batch,)`. The
batch size is free; the number of steps is that of training: pad shorter sequences with zeros, and
pass zeros for what is missing. A model of one's own takes NaN for what is missing, and fills it as
in training. The output is the prediction `(batch, outputs)`: scores, or logits.
Inputs that the model does not read are left out.

A run loads on any backend, whichever it was trained on, so each format uses the backend that
exports it well. Reference: `keras.Model.export`.
"""

import importlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import TypeAlias

import keras
import numpy as np

from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference.formats import EXPORT_FORMATS
from keras_m3s.inference.trained_model import CLS, SEP, RunModel
from keras_m3s.modalities import INDEX, TEXT_BERT, length_key
from keras_m3s.utils import atomic_files

__all__ = ["TOLERANCE", "export"]

TOLERANCE = 1e-5
"""Largest difference between a prediction and that of the exported model; relative beyond 1."""

CHECKED_SIZES = (1, 2, 5)
"""Batch sizes to compare: an exported model may have kept the one that it was traced with."""

Runner: TypeAlias = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Runs an exported model on a batch."""


def export(
    run: RunDirectory, format: str, path: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Exports the best model of a run and compares it with the run's own predictions.

    Args:
        run: A trained run.
        format: One of `keras_m3s.inference.formats.EXPORT_FORMATS`.
        path: File or folder to write; by default in `export/` of the run directory.

    Returns:
        The path that was written.

    Raises:
        ValueError: There is no such format, the backend is not the format's, `path` exists, or the
            exported model predicts something else; then nothing is kept.
        ImportError: A package of the extra `export` is not installed.
        FileNotFoundError: `run` is not a trained run.
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"`format` must be one of {sorted(EXPORT_FORMATS)}. Received: {format!r}.")
    card = EXPORT_FORMATS[format]
    backend = keras.backend.backend()
    if backend != card.backend:
        raise ValueError(
            f"`format={format!r}` must be exported on the Keras backend {card.backend}. Received: "
            f"{backend}. Set KERAS_BACKEND={card.backend} before Keras is imported; the run itself "
            "may be of any backend."
        )
    default = run.path / "export" / card.filename
    target = default if path is None else pathlib.Path(path).expanduser()
    if target.exists():
        raise ValueError(
            f"The path to export to must not exist. Received: {target}. Remove it, or choose "
            "another path."
        )
    model = RunModel(run)
    signature = {
        key: keras.layers.InputSpec(
            shape=(None, *array.shape[1:]), dtype=array.dtype.name, name=key
        )
        for key, array in random_inputs(model, 1, seed=0).items()
    }
    created = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    with atomic_files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=".exporting-", dir=target.parent))
    try:
        with atomic_files.explained(target):
            module, _, writer = card.writer.partition(":")
            write = getattr(importlib.import_module(module), writer)
            _check(model, write(model.model, signature, work / card.filename), format)
            os.replace(work / card.filename, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not target.exists():
            for folder in created:
                folder.rmdir()
    return target


def random_inputs(model: RunModel, size: int, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of a model: sequences of different lengths, some of them all zero.

    Those of a model that fills what is missing have cells that are NaN.

    Args:
        model: Model of a trained run.
        size: Batch size.
        seed: Int.

    Returns:
        Name of an input -> array `(size, ...)`; without `index`, which is read in training only.
    """
    rng = np.random.default_rng(seed)
    batch: dict[str, np.ndarray] = {}
    for key, shape in model.shapes.items():
        if key == TEXT_BERT:
            batch[key] = _random_tokens(rng, size, _known(model, key, shape)[1])
        elif len(shape) == 1:
            values = rng.normal(size=(size, *_known(model, key, shape)))
            batch[key] = values.astype(np.float32)
        elif len(shape) == 2:
            steps, dim = _known(model, key, shape)
            length = rng.integers(1, steps + 1, size).astype(np.int32)
            features = rng.normal(size=(size, steps, dim)).astype(np.float32)
            features[np.arange(steps) >= length[:, None]] = 0
            features[rng.uniform(size=size) < 0.2] = 0  # the whole modality is missing
            batch[key], batch[length_key(key)] = features, length
        if model.fills and key in batch and batch[key].dtype.kind == "f":
            batch[key][rng.uniform(size=batch[key].shape) < 0.2] = np.nan
    if TEXT_BERT in batch:
        batch[length_key("text")] = batch[TEXT_BERT][:, 1].sum(axis=1).astype(np.int32)
    return {key: batch[key] for key in model.shapes if key in batch and key != INDEX}


def _known(model: RunModel, key: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The shape of an input, which must be known as a whole."""
    known = tuple(size for size in shape if size is not None)
    if len(known) < len(shape):
        raise ValueError(
            "A run must tell the number of steps of its inputs to be exported. Received: a run of "
            f"{model.experiment.model} from an older version, which did not keep that of {key!r}. "
            "Train it again; `keras-m3s predict` reads it as it is."
        )
    return known


def _random_tokens(rng: np.random.Generator, size: int, steps: int) -> np.ndarray:
    tokens = np.zeros((size, 3, steps), np.int32)
    for row, length in enumerate(rng.integers(min(3, steps), steps + 1, size)):
        tokens[row, 0, :length] = (CLS, *rng.integers(1000, 2000, length - 2), SEP)
        tokens[row, 1, :length] = 1
    return tokens


def _check(model: RunModel, exported: Runner, format: str) -> None:
    """Raises unless an exported model predicts what the run predicts."""
    x = random_inputs(model, max(CHECKED_SIZES), seed=1)
    predictions = model.predict(x)
    for size in CHECKED_SIZES:
        expected, received = predictions[:size], exported({key: x[key][:size] for key in x})
        same_shape = expected.shape == received.shape
        difference = np.abs(expected - received).max() if same_shape else float("inf")
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ValueError(
                f"The exported model must predict what the run predicts, to {TOLERANCE}. Received: "
                f"{format} of shape {received.shape}, a difference of {difference:.2e} in a batch "
                f"of {size}. Nothing was kept; use `keras-m3s predict`, and please report this."
            )
