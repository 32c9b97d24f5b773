"""TensorFlow, imported without what it says of the machine before it reads its log level."""

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


def import_tensorflow() -> None:
    """For the data, whatever the backend; what is wrong with it shows as its exception."""
    with no_stderr():
        import tensorflow  # noqa: F401
