"""Which framework is imported when: the backend quietly, TensorFlow only where it is in use."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Drops what is written to the process's standard error; exceptions pass."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def backend_name() -> str:
    """Keras' backend; where the environment names it, found out without importing one."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    import keras

    return str(keras.backend.backend())


def import_backend() -> None:
    """Imports TensorFlow if it is the backend, without what it says of a machine without a GPU.

    What is wrong with it shows as its exception.
    """
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    with no_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # it speaks once more when it looks for them


@contextlib.contextmanager
def tensorflow_unused() -> Iterator[None]:
    """Here Keras does without TensorFlow, unless that is the backend or has been imported.

    To seed it, and to see that nothing that is saved is TensorFlow's, Keras would import it on any
    backend: five seconds of a run on JAX or PyTorch.
    """
    from keras.src.utils import module_utils  # has no public name

    known = module_utils.tensorflow
    unused = "tensorflow" not in sys.modules and vars(known).get("_available", True) is None
    if unused:
        known._available = False
    try:
        yield
    finally:
        if unused:
            known._available = None


def set_random_seed(seed: int) -> None:
    """As `keras.utils.set_random_seed`; TensorFlow is seeded where it is in use.

    Args:
        seed: Of Python, NumPy, Keras and the backend.
    """
    import keras

    with tensorflow_unused():
        keras.utils.set_random_seed(seed)
