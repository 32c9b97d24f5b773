"""What `dir` shows works, whatever was imported before; what needs no Keras does not import it."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import keras_m3s
from keras_m3s import data, inference, missing

pytestmark = pytest.mark.once

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "tensorflow_datasets")
IMPORTED = f"import sys, json; print(json.dumps([m for m in {FRAMEWORKS} if m in sys.modules]))"


def after(code):
    """Which frameworks are imported after some code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{IMPORTED}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("package", [keras_m3s, data, inference, missing], ids=lambda p: p.__name__)
def test_dir_shows_every_public_name_and_each_works(package):
    assert set(package.__all__) <= set(dir(package))
    for name in dir(package):
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_the_names_of_version_0_1_0_are_there():
    """Modules that users imported names from, and that are folders today."""
    names = {
        data: ("SPLITS", "Split", "inspect", "label_lines", "load", "prepare", "prepare_own", "unlabelled"),
        missing: ("MissingModality", "apply", "fixed_draws", "sample_draws"),
    }  # fmt: skip
    for package, there in names.items():
        assert set(there) <= set(dir(package))


@pytest.mark.parametrize(
    "code",
    [
        "import keras_m3s.data, keras_m3s.missing, keras_m3s.inference.formats, keras_m3s.features",
        "import keras_m3s as m3s; m3s.data.load, m3s.data.prepare_own, m3s.data.load_streamed, dir(m3s)",
        "import keras_m3s.cli.main",
    ],
)
def test_no_framework_is_imported(code):
    assert after(code) == []


@pytest.mark.slow
def test_what_the_docs_name_is_an_attribute():
    """Of `import keras_m3s` alone; the rarest first, so that few are imported by another before."""
    root = pathlib.Path(__file__).resolve().parent.parent
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    named = set(re.findall(r"\b(?:keras_m3s|m3s)((?:\.[A-Za-z]\w*)+)", text))
    assert {".missing.patterns", ".experiments.selection", ".M3S"} <= named
    names = sorted(named, key=lambda name: (-name.count("."), name))
    code = f"import keras_m3s as m3s\nfor name in {names}: eval('m3s' + name)"
    assert "keras" in after(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import keras_m3s",
        "import keras_m3s.data.streaming, keras_m3s.models, keras_m3s.missing.layer",
    ],
)
def test_names_work_whatever_was_imported_before(first):
    names = (
        "data.Batches, m3s.data.batches.WINDOW, m3s.data.callbacks.SetEpoch, m3s.data.streaming",
        "missing.MMIN_CONDITIONS, m3s.missing.apply, m3s.MissingModality, m3s.missing.MissingModality",
        "inference.predictions.rows, m3s.inference.export.export, m3s.inference.RunModel",
    )
    code = "\n".join((first, "import keras_m3s as m3s", *(f"m3s.{line}" for line in names)))
    assert "keras" in after(code)
