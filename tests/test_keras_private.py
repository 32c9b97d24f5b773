"""Private names of Keras stand in one file, beside the places that it names."""

import ast
import inspect

import pytest

from keras_m3s.utils import keras_private
from tests.test_imports import ROOT

pytestmark = pytest.mark.once

EXEMPT = ("utils/keras_private.py", "meta/backend/", "layers/recurrent/")
FOLDER = ROOT / "keras_m3s"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))


def private_imports(source):
    """Lines that import from `keras.src`."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if any(f"{name}.".startswith("keras.src.") for name in names):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", [path for path in FILES if not path.startswith(EXEMPT)])
def test_only_one_file_imports_from_keras_src(path):
    assert private_imports((FOLDER / path).read_text()) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import keras.src.utils", 1),
        ("from keras import src", 1),
        ("def f():\n    from keras.src.utils import module_utils", 1),
        ("from keras import ops\nfrom keras_hub.src import models", 0),
    ],
)
def test_the_check_sees(source, count):
    assert len(private_imports(source)) == count


@pytest.mark.parametrize("path", [path for path in EXEMPT if path.endswith(".py")])
def test_what_is_exempt_uses_it(path):
    assert private_imports((FOLDER / path).read_text())


def test_each_use_has_its_reason():
    functions = inspect.getmembers(keras_private, inspect.isfunction)
    assert all(f.__doc__ for _, f in functions if f.__module__ == keras_private.__name__)
