"""The code in the guides runs: Python blocks in one namespace, commands in one folder.

Blocks with a title are for one backend, or one place: each title has processes of its own, which
run the blocks without one too.
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


FLAGS = os.environ.get("XLA_FLAGS", "")
FOUR = f"{FLAGS} --xla_force_host_platform_device_count=4"
TWO = f"{FLAGS} --xla_force_host_platform_device_count=2"
FOUR_OF_TENSORFLOW = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
"""


# Keras imports it where it can, and JAX needs no second framework.
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None"


def start(title, before="", after="", **environment):
    """A process of its own that runs the blocks of `many-devices` which are for there."""
    guide = GUIDES / "many-devices.md"
    run = f"names = run_all(pathlib.Path({str(guide)!r}), {title!r})"
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join((before, "from tests.test_guides import *", run, after))],
        cwd=GUIDES.parent.parent,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_line(process):
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return out.splitlines()[-1]


@pytest.mark.slow
def test_many_devices():
    """Two hosts of two devices each have the losses of one device, and so has one host of four."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free.getsockname()[1]}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        }
    on_jax = {"KERAS_BACKEND": "jax", "XLA_FLAGS": TWO}
    hosts = [
        start(
            "JAX, on each host",
            WITHOUT_TENSORFLOW,
            **on_jax,
            **cluster,
            KERAS_DISTRIBUTION_PROCESS_ID=str(host),
        )
        for host in (0, 1)
    ]
    lines = [last_line(host) for host in hosts]
    assert lines[0].startswith("4 devices, losses [") and lines[0] == lines[1]
    alone = last_line(
        start(
            "JAX",
            WITHOUT_TENSORFLOW + "\nimport jax; assert len(jax.devices()) == 4",
            "print(names['one'])",
            **on_jax | {"XLA_FLAGS": FOUR},
        )
    )
    np.testing.assert_allclose(
        ast.literal_eval(lines[0].split("losses ")[1]), ast.literal_eval(alone), rtol=1e-5
    )
    said = last_line(
        start(
            "TensorFlow",
            FOUR_OF_TENSORFLOW,
            "print(len(names['devices']))",
            KERAS_BACKEND="tensorflow",
        )
    )
    assert said == "4"


def test_every_title_is_run():
    titles = set().union(*TITLES.values()) - {None}
    assert titles == {"JAX", "JAX, on each host", "TensorFlow"}
    assert all(name == "many-devices" for name, found in TITLES.items() if found - {None})


def test_a_broken_guide_is_seen(folder):
    for code in ("```python\nassert False\n```\n", "```bash\nkeras-m3s inspect no.pkl\n```\n"):
        (folder / "a.md").write_text(code)
        with pytest.raises(AssertionError), contextlib.chdir(folder):
            run_all(folder / "a.md")
