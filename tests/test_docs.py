"""The docs site: every public name has an entry, and all of it builds without a warning."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENTRY = re.compile(r"^::: (\S+)$(?:\n    options:\n      members: \[(.*)\])?", re.MULTILINE)

PUBLIC = ("", ".data", ".data.streaming", ".features", ".inference.export", ".layers", ".losses",
          ".metrics", ".missing", ".models", ".optimizers", ".report")  # fmt: skip


def entries():
    """Documented module -> names, None for all."""
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    return {m[1]: m[2].split(", ") if m[2] else None for m in ENTRY.finditer(pages)}


def public_names():
    """Every function and class that users are shown, with the module it is written in."""
    for part in PUBLIC:
        module = importlib.import_module(f"keras_m3s{part}")
        for name in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, name)
            home = getattr(value, "__module__", "") or ""
            if callable(value) and home.startswith("keras_m3s") and not name.startswith("_"):
                yield home, value.__name__, value


def test_every_public_name_has_an_entry():
    shown, missing = entries(), []
    for home, name, value in public_names():
        documented = home in shown and (shown[home] is None or name in shown[home])
        if not documented or not value.__doc__:
            missing.append(f"{home}.{name}")
    assert not missing, f"to be put on a page of docs/reference, with a docstring: {missing}"
    assert len({*public_names()}) > 40


def test_every_entry_is_there():
    for module, names in entries().items():
        for name in names or ():
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_it_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "training-with-holes" / "index.html").read_text()
    assert 'id="keras_m3s.missing.layer.MissingModality"' in page
    assert not re.search(r'(?:src|href)="https?://(?:fonts|cdn|unpkg)', page)
