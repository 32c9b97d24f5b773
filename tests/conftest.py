"""Where tests find what the project does not ship: reference numbers and real data, skipped if absent."""

import contextlib
import gc
import os
import pathlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ONCE_BACKEND = "torch"

# Keras is imported where it is used: the process that only hands out the tests does without it, and
# starts those that run them so many seconds sooner.

# What importing makes stays; to look through it for garbage is a sixth of its time.
gc.disable()


def pytest_collection_finish() -> None:
    """Once the tests are imported, before the first of them."""
    import keras

    # Nor is it looked through later on, which took a tenth of the time of tracing.
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 50, 50)
    if keras.backend.backend() == "jax":
        import jax

        # Compiling is most of what the tests do, often of the same programs.
        jax.config.update("jax_compilation_cache_dir", str(ROOT / ".pytest_cache" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A graph that runs once or twice is not worth optimising.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        _operations_without_their_stack()


def _operations_without_their_stack() -> None:
    """TensorFlow keeps of each traced operation where it was made; under pytest, whose own calls lie
    below, that is a quarter of tracing. Here all are said to be made on one line.
    """
    with contextlib.suppress(ImportError, AttributeError):  # of a private module
        from tensorflow.python.util import tf_stack

        somewhere = tf_stack.extract_stack()
        tf_stack.extract_stack = lambda stacklevel=1: somewhere


def pytest_ignore_collect(collection_path: pathlib.Path) -> bool | None:
    """A file all of whose tests are `once` is not even imported for the other backends."""
    if collection_path.suffix != ".py" or _carries_all():
        return None
    marked = re.search(r"^pytestmark = pytest\.mark\.once$", collection_path.read_text(), re.M)
    return True if marked else None


def _carries_all() -> bool:
    import keras

    everything = bool(os.environ.get("KERAS_M3S_ALL_TESTS"))
    return everything or keras.backend.backend() == ONCE_BACKEND


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `once` need one backend only: one of the three runs carries them.

    What is slow goes first, so that at the end no process waits long for another.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if _carries_all():
        return
    left_out = [item for item in items if item.get_closest_marker("once")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("once")]


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder of reference numbers and real data; `KERAS_M3S_SHARED` or `../shared`."""
    path = pathlib.Path(os.environ.get("KERAS_M3S_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip("no reference data here: set KERAS_M3S_SHARED to its folder")
    return path


@pytest.fixture(scope="session")
def golden(shared_dir: pathlib.Path) -> Callable[[str], dict[str, np.ndarray]]:
    """Loads `reference/golden/{name}_A.npz`: weights, inputs, outputs, gradients."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(shared_dir / "reference" / "golden" / f"{name}_A.npz") as file:
            return {key: file[key] for key in file.files}

    return load


@pytest.fixture(scope="session")
def mosi_dir(shared_dir: pathlib.Path) -> pathlib.Path:
    """Folder with the small real `unaligned_50.pkl` of CMU-MOSI."""
    path = shared_dir / "data" / "mosi"
    if not (path / "unaligned_50.pkl").is_file():
        pytest.skip("no real CMU-MOSI here")
    return path


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """Programs that JAX has compiled stay in memory, gigabytes of them by the end."""
    yield
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture(autouse=True)
def seeded() -> None:
    import keras

    keras.utils.set_random_seed(0)
