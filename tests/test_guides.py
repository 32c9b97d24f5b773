"""The code in the guides runs: Python blocks in one namespace, commands in one folder."""

import contextlib
import os
import pathlib
import re
import shlex

import pytest
from click.testing import CliRunner

from keras_m3s.cli.main import main

# Three times the same text; each of its calls has tests of its own on every backend.
pytestmark = pytest.mark.once

GUIDES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "guides"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NEEDS_MOSI = {"mosi"}
WITH_CODE = sorted(path.stem for path in GUIDES.glob("*.md") if BLOCK.search(path.read_text()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, which is also home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    return tmp_path


def run_all(path):
    text = path.read_text()
    names = {"__name__": "guide"}
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        # Blank lines before it, so that a trace names the line of the guide.
        above = text[: block.start(2)].count("\n")
        if language == "python":
            exec(compile("\n" * above + code, str(path), "exec"), names)
            continue
        for number, line in enumerate(code.splitlines(), above + 1):
            command, *arguments = [os.path.expanduser(word) for word in shlex.split(line)]
            assert command == "keras-m3s", f"{path}:{number}: only our commands are run"
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{path}:{number}: {result.output}"


def test_there_are_guides_with_code():
    assert {"own-model", "own-data", "base-model", "mosi"} <= set(WITH_CODE)


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_runs(name, folder, request):
    if name in NEEDS_MOSI:
        (folder / "data").mkdir()
        (folder / "data" / "mosi").symlink_to(request.getfixturevalue("mosi_dir"))
    run_all(GUIDES / f"{name}.md")


def test_a_broken_guide_is_seen(folder):
    for code in ("```python\nassert False\n```\n", "```bash\nkeras-m3s inspect no.pkl\n```\n"):
        (folder / "a.md").write_text(code)
        with pytest.raises(AssertionError), contextlib.chdir(folder):
            run_all(folder / "a.md")
