"""Export to ONNX with PyTorch's exporter, through `keras.Model.export`; read by ONNX Runtime."""

import contextlib
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_m3s.utils import torch_onnx

OPSET = 18
"""Version of ONNX's operator set that is written: old enough for the runtimes in use."""


def write(
    model: Any, signature: Mapping[str, Any], path: pathlib.Path
) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Writes a model to a file and returns a function that runs the file.

    Args:
        model: A Keras model that takes a dict.
        signature: Name of an input -> `keras.InputSpec`.
        path: File to write.

    Returns:
        Function from a batch of inputs to predictions, by ONNX Runtime.

    Raises:
        ImportError: A package of the extra `export` is not installed.
        ValueError: The model has an operation that the exporter does not support.
    """
    try:
        import onnx  # noqa: F401 - PyTorch's exporter imports it
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"Exporting to ONNX needs onnx and onnxruntime: {error}. Install them: "
            "pip install 'keras-m3s[export]'."
        ) from error
    import torch

    try:
        # The exporter prints and warns about details; the caller compares the result.
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            _quiet(logging.getLogger("torch.onnx")),
            torch_onnx.operations(),
        ):
            warnings.simplefilter("ignore")
            model.export(
                path, "onnx", verbose=False, input_signature=[dict(signature)], opset_version=OPSET
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ValueError(
            "The model must consist of operations that ONNX has. Received: "
            f"{type(model).__name__}; PyTorch's exporter says: {str(error).splitlines()[0]}. "
            "Try `--format saved_model`."
        ) from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda x: np.asarray(session.run(None, {name: x[name] for name in names})[0])


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Shows errors only."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
