"""Trained run -> a file that other programs run, kept only if it predicts what the run predicts.

    onnx            a file for ONNX Runtime and others; made and checked on the PyTorch backend
    saved_model     a folder for TensorFlow (`tf.saved_model.load(...).serve`); on TensorFlow

The inputs are those of the run's model by name, such as `audio` `(batch, steps, dim)` and
`audio_length` `(batch,)`; the batch may have any size, the steps are those of training: pad
shorter sequences with zeros, and give zeros for what is missing. The output is the prediction
`(batch, outputs)`: scores, or logits. Inputs that the model does not read are left out.

A run that was trained on one backend loads on any other, so each format takes the backend that
makes it well. Reference: `keras.Model.export`.
"""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference.predictions import CLS, SEP, RunModel
from keras_m3s.modalities import INDEX, MODALITIES, TEXT_BERT, length_key
from keras_m3s.utils import atomic_files

__all__ = ["FORMATS", "TOLERANCE", "export"]

FORMATS: dict[str, tuple[str, str]] = {
    "onnx": ("torch", "model.onnx"),
    "saved_model": ("tensorflow", "saved_model"),
}
"""Format -> the Keras backend that makes it, and the name of its file or folder."""

TOLERANCE = 1e-5
"""How far apart a prediction and that of the exported model may be; relative beyond 1."""

CHECKED_SIZES = (1, 2, 5)
"""Batches that are compared: a program may hold on to the size it was traced with."""

Runner = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def export(
    run: RunDirectory, form: str, path: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Exports a run's best model and compares it with the run's own predictions.

    Args:
        run: A trained run.
        form: One of `FORMATS`.
        path: Where to; by default in `export/` in the run directory.

    Returns:
        The path.

    Raises:
        ValueError: no such format, another backend than it needs, something is there already, or
            the exported model predicts otherwise; then nothing is left behind.
        ImportError: a package of the extra `export` is not installed.
        FileNotFoundError: this is no trained run.
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {sorted(FORMATS)}. Received: {form!r}.")
    backend, name = FORMATS[form]
    here = keras.backend.backend()
    if here != backend:
        raise ValueError(
            f"`form={form!r}` must be made on the Keras backend {backend}. Received: {here}. Set "
            f"KERAS_BACKEND={backend} before Keras is imported; the run itself may be of any."
        )
    target = run.path / "export" / name if path is None else pathlib.Path(path).expanduser()
    if target.exists():
        raise ValueError(
            f"The path to export to must be free. Received: {target}, which is there. Remove it, "
            "or choose another."
        )
    model = RunModel(run)
    inputs = made_up(model, max(CHECKED_SIZES), seed=0)
    signature = {
        key: keras.layers.InputSpec(
            shape=(None, *array.shape[1:]), dtype=array.dtype.name, name=key
        )
        for key, array in inputs.items()
    }
    parents = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    with atomic_files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=".exporting-", dir=target.parent))
    try:
        with atomic_files.explained(target):
            _check(model, _written(form, model.model, signature, work / name), form)
            os.replace(work / name, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not target.exists():
            for folder in parents:
                folder.rmdir()
    return target


def _written(form: str, model: Any, signature: Mapping[str, Any], path: pathlib.Path) -> Runner:
    """Writes the model, loads it back, and returns what runs it."""
    if form == "onnx":
        from keras_m3s.inference import onnx

        return onnx.write(model, signature, path)
    from keras_m3s.inference import saved_model

    return saved_model.write(model, signature, path)


def made_up(model: RunModel, size: int, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of a run's shapes, sequences of unequal length, a few without any step.

    Args:
        model: Says which.
        size: Rows.
        seed: Int.

    Returns:
        Input -> array `(size, ...)`; without `index`, which only training reads.
    """
    rng = np.random.default_rng(seed)
    batch: dict[str, np.ndarray] = {}
    for key, shape in model.shapes.items():
        if key == TEXT_BERT:
            batch[key] = _tokens(rng, size, shape[1])
        elif key in MODALITIES:
            length = rng.integers(1, shape[0] + 1, size).astype(np.int32)
            features = rng.normal(size=(size, *shape)).astype(np.float32)
            features[np.arange(shape[0]) >= length[:, None]] = 0
            features[rng.uniform(size=size) < 0.2] = 0  # wholly missing
            batch[key], batch[length_key(key)] = features, length
    if TEXT_BERT in batch:
        batch[length_key("text")] = batch[TEXT_BERT][:, 1].sum(axis=1).astype(np.int32)
    return {key: batch[key] for key in model.shapes if key in batch and key != INDEX}


def _tokens(rng: np.random.Generator, size: int, steps: int) -> np.ndarray:
    tokens = np.zeros((size, 3, steps), np.int32)
    for row, length in enumerate(rng.integers(min(3, steps), steps + 1, size)):
        tokens[row, 0, :length] = (CLS, *rng.integers(1000, 2000, length - 2), SEP)
        tokens[row, 1, :length] = 1
    return tokens


def _check(model: RunModel, exported: Runner, form: str) -> None:
    x = made_up(model, max(CHECKED_SIZES), seed=1)
    predicted = model.predict(x)
    for size in CHECKED_SIZES:
        wanted, received = predicted[:size], exported({key: x[key][:size] for key in x})
        apart = np.abs(wanted - received).max() if wanted.shape == received.shape else float("inf")
        if not apart <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise ValueError(
                f"The exported model must predict what the run predicts, to {TOLERANCE}. Received: "
                f"{form} of shape {received.shape}, {apart:.2e} apart in a batch of {size}. "
                "Nothing was kept; use `keras-m3s predict`, and please report this."
            )
