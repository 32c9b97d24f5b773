"""The backend, imported without what TensorFlow says of a machine that has no GPU."""

import contextlib
import os
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


def import_backend() -> None:
    """Imports TensorFlow if it is the backend; what is wrong with it shows as its exception."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    with no_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # it speaks once more when it looks for them
