"""The house holds its order: who imports whom, who names a backend, what the wheel holds."""

import ast
import functools
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests import wings
from tests.wings import WINGS

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent

BACKENDS = ("jax", "jaxlib", "tensorflow", "torch")
# Who may name a backend: the gradient primitives and the fast kernels, all of them; tf.data and the
# reader of .pth files, one each, imported when used.
NAMES_ANY = ("meta/", "layers/recurrent/")
NAMES_ONE = {
    "data/decoding.py": "tensorflow",
    "data/batches.py": "tensorflow",
    "models/torch_import/checkpoints.py": "torch",
    "utils/backend.py": "tensorflow",
    "utils/torch_onnx.py": "torch",
    "inference/onnx.py": "torch",
    "inference/saved_model.py": "tensorflow",
    "experiments/programs.py": "jax",
    "experiments/replicas.py": "jax",
    "experiments/replica_program.py": "jax",
}


class Import(NamedTuple):
    """One `import` statement: which module, on which line, and whether it runs at once."""

    module: str
    line: int
    at_once: bool


def folders() -> dict[str, pathlib.Path]:
    return {
        "keras_m3s": ROOT / "keras_m3s",
        "keras_m3s.cli": ROOT / "cli",
        "keras_m3s.tfds_builders": ROOT / "tfds_builders",
    }


@functools.cache
def sources() -> dict[str, pathlib.Path]:
    """Module name -> file, of all that is installed and is no test."""
    found = {}
    for package, folder in folders().items():
        for path in sorted(folder.rglob("*.py")):
            if path.name.endswith("_test.py"):
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


def imports(module: str, source: str, is_package: bool) -> Iterator[Import]:
    """All imports of a module, those of `if TYPE_CHECKING:` left out; relative ones resolved."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_once)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package else -1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, at_once)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not inside)

    return visit(ast.parse(source), True)


def part(module: str) -> str | None:
    """`keras_m3s.meta.m3s` -> `meta`; None for the package itself and for other packages."""
    names = module.split(".")
    return names[1] if names[0] == "keras_m3s" and len(names) > 1 else None


def wrong_directions(module: str, source: str, is_package: bool = False) -> list[str]:
    here = part(module)
    if here is None:  # keras_m3s/__init__.py gives all parts their short names
        return []
    wrong = []
    for item in imports(module, source, is_package):
        there = part(item.module)
        if item.module.split(".")[0] != "keras_m3s" or there == here:
            continue
        if there not in WINGS[here][1]:
            wrong.append(f"{module}:{item.line} imports {item.module}")
    return wrong


def wrong_backends(path: str, module: str, source: str) -> list[str]:
    """Uses of a backend, by import or by name, where none may be; `path` as in the package."""
    if path.startswith(NAMES_ANY):
        return []
    allowed = [one for name, one in NAMES_ONE.items() if path == name]
    wrong = []
    for item in imports(module, source, is_package=False):
        name = item.module.split(".")[0]
        if name in BACKENDS and (name not in allowed or item.at_once):
            wrong.append(f"{path}:{item.line} imports {item.module}")
    for number, line in enumerate(source.splitlines(), 1):
        branch = re.search(
            r"(?<!_)backend\(\)\s*(?:==|!=|in\b|not in\b)\s*(?:[\"'](\w+)[\"'])?", line
        )
        if branch and branch[1] not in allowed:
            wrong.append(f"{path}:{number} branches on the backend")
        asks = re.search(r"environ\b.*KERAS_BACKEND", line)
        if asks and path != "utils/backend.py" and not module.startswith("keras_m3s.cli."):
            wrong.append(f"{path}:{number} asks the environment for the backend")
    return wrong


def test_every_wing_has_a_row():
    parts = {part(module) for module in sources()} - {None}
    assert parts == set(WINGS), "tests/wings.py must have a row for each wing, and none besides"
    assert len([p for p in (ROOT / "keras_m3s").iterdir() if not p.name.startswith((".", "__pycache__")) and not p.is_symlink()]) <= 18  # fmt: skip


def test_the_wings_stand_one_above_another():
    """Each imports only from rows above its own, so that no import runs in a circle."""
    above: set[str] = set()
    for wing, (_, imports) in WINGS.items():
        assert set(imports) <= above, wing
        above.add(wing)


def test_contributing_has_the_table():
    assert wings.written() == wings.table(), "write it with: python -m tests.wings"


@pytest.mark.parametrize("module", sources())
def test_imports_go_one_way(module):
    path = sources()[module]
    assert wrong_directions(module, path.read_text(), path.name == "__init__.py") == []


@pytest.mark.parametrize("module", [m for m in sources() if part(m) != "tfds_builders"])
def test_only_some_name_a_backend(module):
    path = sources()[module]
    package = next(f for f in reversed(folders().values()) if path.is_relative_to(f))
    assert wrong_backends(path.relative_to(package).as_posix(), module, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("keras_m3s.missing", "from keras_m3s.models import misa", 1),
        ("keras_m3s.missing", "def f():\n    import keras_m3s.meta.m3s", 1),
        ("keras_m3s.meta.m3s", "from ..models import misa", 1),
        ("keras_m3s.models.misa", "from . import base\nfrom keras_m3s import losses", 0),
        ("keras_m3s.models.misa", "from keras_m3s import M3S", 1),
        ("keras_m3s.tfds_builders.a.b", "import keras_m3s.modalities", 1),
        ("keras_m3s.tfds_builders.a.b", "from keras_m3s.tfds_builders import pickles", 0),
        ("keras_m3s.data", "from keras_m3s.tfds_builders import pickles\nimport numpy", 0),
    ],
)
def test_the_check_of_directions_sees(module, source, count):
    assert len(wrong_directions(module, source)) == count


@pytest.mark.parametrize(
    ("path", "source", "count"),
    [
        ("losses.py", "import torch.nn", 1),
        ("losses.py", "def f():\n    from jax import numpy", 1),
        ("losses.py", "if keras.backend.backend() == 'jax': pass", 1),
        ("data/batches.py", "import tensorflow as tf", 1),
        ("data/batches.py", "def f():\n    import tensorflow as tf", 0),
        ("data/batches.py", "def f():\n    import jax", 1),
        ("losses.py", "if os.environ['KERAS_BACKEND'] == 'jax': pass", 1),
        ("losses.py", "x = os.environ.get('KERAS_BACKEND', 'jax')", 1),
        ("meta/backend/jax.py", "import jax", 0),
        ("experiments/replicas.py", "if keras.backend.backend() != 'jax': pass", 0),
        ("experiments/replicas.py", "if keras.backend.backend() != 'torch': pass", 1),
    ],
)
def test_the_check_of_backends_sees(path, source, count):
    assert len(wrong_backends(path, "keras_m3s.x", source)) == count


@pytest.mark.slow
def test_the_wheel_holds_one_package(tmp_path):
    """Built from a copy, so that nothing of an earlier build gets in."""
    if not (ROOT / "README.md").is_file():
        pytest.skip("not a checkout")
    for name in ("keras_m3s", "cli", "tfds_builders"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    pytest.importorskip("setuptools", minversion="77")
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in files} == {"keras_m3s", "keras_m3s-0.1.0.dist-info"}
    for module, path in sources().items():
        inside = module.replace(".", "/")
        name = f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"
        assert name in files, (
            f"{path.relative_to(ROOT)} is not installed: no __init__.py beside it?"
        )
    assert not any("dummy_data" in name for name in files)


@pytest.mark.parametrize("folder", ["keras_m3s", "cli", "tfds_builders", "benchmarks"])
def test_each_type_that_is_ignored_has_a_reason(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search("# type: ignore", line):
                pattern = r"# type: ignore\[[a-z, -]+\]  # \w+"
                assert re.search(pattern, line), f"{path}:{number}: which error, and why?"


def literal_comparisons(source: str, names: set[str]) -> list[int]:
    """Lines that compare something with one of some names, or look it up in a table of them."""

    def named(node: ast.AST) -> bool:
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return any(map(named, node.elts))
        return isinstance(node, ast.Constant) and node.value in names

    lines = []
    for node in ast.walk(ast.parse(source)):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        keys = [key for key in node.keys if key] if isinstance(node, ast.Dict) else []
        matched = [node.value] if isinstance(node, ast.MatchValue) else []
        if any(map(named, (*compared, *keys, *matched))):
            lines.append(node.lineno)
    return lines


def card_names() -> set[str]:
    from keras_m3s.registry import datasets, methods, models, patterns

    return {*datasets.CARDS, *methods.CARDS, *models.CARDS, *patterns.CARDS}


@pytest.mark.parametrize("module", [m for m in sources() if part(m) not in ("registry", "tfds_builders")])  # fmt: skip
def test_only_the_registry_compares_names(module):
    """Published numbers are data under their own names (`report.paper`, `report.published`)."""
    if module in ("keras_m3s.report.paper", "keras_m3s.report.published"):
        pytest.skip("printed tables as data")
    assert literal_comparisons(sources()[module].read_text(), card_names()) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("if method == 'm3s': pass", 1),
        ("if 'misa' != model: pass", 1),
        ("x = name in ('orig', 'm3s')", 1),
        ("TITLES = {'misa': 'MISA'}", 1),
        ("match model:\n    case 'mmin': pass", 1),
        ("load('cmu_mosi')", 0),
        ("if method == proposed: pass", 0),
    ],
)
def test_the_check_of_names_sees(source, count):
    assert len(literal_comparisons(source, card_names())) == count


@pytest.mark.parametrize("module", sources())
def test_a_long_file_says_why(module):
    lines = sources()[module].read_text().splitlines()
    assert len(lines) <= 350 or "Longer than 350 lines: " in "\n".join(lines[:4])
