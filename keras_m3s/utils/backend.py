"""Keras' backend by name; TensorFlow imported quietly, and only where it is used."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator

DEFAULT = "tensorflow"
"""Keras' backend where neither the environment nor its configuration file names one."""


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Discards what the process writes to standard error. Exceptions propagate."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def backend_name() -> str:
    """Name of Keras' backend, found without importing Keras or a backend.

    That is the environment variable `KERAS_BACKEND`, else the backend that Keras has if it is
    imported already, else the one in Keras' configuration file.
    """
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    if "keras" in sys.modules:
        import keras

        return str(keras.backend.backend())
    return _configured_backend()


def _configured_backend() -> str:
    """The backend in `keras.json`, looked for where Keras looks (`keras.src.backend.config`)."""
    base = os.path.expanduser("~")
    folder = os.path.join(base if os.access(base, os.W_OK) else "/tmp", ".keras")
    path = pathlib.Path(os.path.expanduser(os.environ.get("KERAS_HOME", folder)), "keras.json")
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        return DEFAULT
    return str(config.get("backend", DEFAULT))


def import_backend() -> None:
    """Imports TensorFlow if it is the backend, without its messages on a machine without a GPU.

    Import errors propagate.
    """
    if backend_name() != "tensorflow":
        return
    with no_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # prints its own messages


def tensorflow_unused() -> contextlib.AbstractContextManager[None]:
    """A scope in which Keras does without TensorFlow, unless that is imported already.

    To seed TensorFlow, and to recognise its tensors when saving, Keras would import it on any
    backend, which takes five seconds.
    """
    from keras_m3s.utils import keras_private

    return keras_private.tensorflow_unused()


def set_random_seed(seed: int) -> None:
    """As `keras.utils.set_random_seed`, but seeds TensorFlow only if it is in use.

    Args:
        seed: Int, for Python, NumPy, Keras and the backend.
    """
    import keras

    with tensorflow_unused():
        keras.utils.set_random_seed(seed)
