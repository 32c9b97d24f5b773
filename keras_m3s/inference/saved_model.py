"""Export to TensorFlow's SavedModel, through `keras.Model.export`; read back by TensorFlow."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def write(
    model: Any, signature: Mapping[str, Any], path: pathlib.Path
) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Writes a model to a folder and returns a function that runs the folder.

    Args:
        model: A Keras model that takes a dict.
        signature: Name of an input -> `keras.InputSpec`.
        path: Folder to write.

    Returns:
        Function from a batch of inputs to predictions, by TensorFlow.
    """
    import tensorflow as tf

    model.export(path, "tf_saved_model", verbose=False, input_signature=[dict(signature)])
    loaded = tf.saved_model.load(str(path))

    def run(x: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(loaded.serve({name: tf.constant(x[name]) for name in signature}))

    return run
