"""The code in the guides runs: Python blocks in one namespace, commands in one folder.

Blocks with a title are for one backend, or one place. They run, with those without one, in processes
that have several devices: here those of two hosts, the others in `meta/test_many_devices.py`.
"""

import ast
import contextlib
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s.cli.main import main

# Three times the same text; each of its calls has tests of its own on every backend.
pytestmark = pytest.mark.once

GUIDES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "guides"
BLOCK = re.compile(r"^```(python|bash)(?: title=\"(.*?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NEEDS_MOSI = {"mosi"}
TITLES = {
    path.stem: {block[2] for block in BLOCK.finditer(path.read_text())}
    for path in GUIDES.glob("*.md")
}
WITH_CODE = sorted(name for name, titles in TITLES.items() if titles == {None})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, which is also home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    return tmp_path


def run_all(path, title=None):
    text = path.read_text()
    names = {"__name__": "guide"}
    for block in BLOCK.finditer(text):
        language, only, code = block.groups()
        if only not in (None, title):
            continue
        # Blank lines before it, so that a trace names the line of the guide.
        above = text[: block.start(3)].count("\n")
        if language == "python":
            exec(compile("\n" * above + code, str(path), "exec"), names)
            continue
        for number, line in enumerate(code.splitlines(), above + 1):
            command, *arguments = [os.path.expanduser(word) for word in shlex.split(line)]
            assert command == "keras-m3s", f"{path}:{number}: only our commands are run"
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{path}:{number}: {result.output}"
    return names


def test_there_are_guides_with_code():
    assert {"own-model", "own-data", "base-model", "mosi"} <= set(WITH_CODE)


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_runs(name, folder, request):
    if name in NEEDS_MOSI:
        (folder / "data").mkdir()
        (folder / "data" / "mosi").symlink_to(request.getfixturevalue("mosi_dir"))
    run_all(GUIDES / f"{name}.md")


TWO = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
ON_EACH_HOST = f"""
import sys
sys.modules["tensorflow"] = None  # Keras imports it where it can; JAX needs no second framework
from tests.test_guides import *
losses = run_all(pathlib.Path({str(GUIDES / "many-devices.md")!r}), "JAX, on each host")["losses"]
names = losses.__globals__
names["keras"].distribution.set_distribution(None)
print(losses(names["x"], names["y"], batch_size=64, shuffle=False))
"""


@pytest.mark.slow
def test_many_hosts():
    """Two hosts of two devices each have the losses of one device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free.getsockname()[1]}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        }
    on_jax = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": TWO} | cluster
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", ON_EACH_HOST],
            cwd=GUIDES.parent.parent,
            env=on_jax | {"KERAS_DISTRIBUTION_PROCESS_ID": str(host)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]
    for host in hosts:
        out, errors = host.communicate(timeout=600)
        assert host.returncode == 0, errors[-3000:]
        together, alone = out.splitlines()[-2:]
        said, losses = together.split(", losses ")
        assert said == "4 devices"
        np.testing.assert_allclose(ast.literal_eval(losses), ast.literal_eval(alone), rtol=1e-5)


def test_every_title_is_run():
    titles = set().union(*TITLES.values()) - {None}
    assert titles == {"JAX", "JAX, on each host", "TensorFlow"}
    assert all(name == "many-devices" for name, found in TITLES.items() if found - {None})


def test_a_broken_guide_is_seen(folder):
    for code in ("```python\nassert False\n```\n", "```bash\nkeras-m3s inspect no.pkl\n```\n"):
        (folder / "a.md").write_text(code)
        with pytest.raises(AssertionError), contextlib.chdir(folder):
            run_all(folder / "a.md")
