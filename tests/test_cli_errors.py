"""What the command prints where something goes wrong: one message, with the user's line if it is theirs."""

import shlex
import subprocess
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from keras_m3s.cli.main import main

pytestmark = pytest.mark.once


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_debug_shows_the_trace():
    result = run("--debug", "evaluate", "no-such-run")
    assert isinstance(result.exception, FileNotFoundError)


def test_whoever_reads_may_stop():
    """`| head` ends a command early, and that is no error of ours to tell of."""
    code = (
        "import click, sys; from keras_m3s.cli.errors import Group\n"
        "main = Group()\n"
        "@main.command()\n"
        "def say():\n"
        "    while True: click.echo('line ' * 1000)\n"
        "main(['say'])"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


UNEXPECTED = [
    KeyError("mae"),
    AttributeError("no such"),
    RecursionError("too deep"),
    RuntimeError("xla"),
    AssertionError(),
]
FAILURES = {
    **{type(e).__name__: (e, 1, f"This should not happen: {type(e).__name__}") for e in UNEXPECTED},
    "ValueError": (ValueError("`x` must be 1. Received: 2."), 1, "`x` must be 1. Received: 2."),
    "without a message": (ValueError(), 1, "This should not happen: ValueError"),
    "OSError": (OSError(5, "Input/output error"), 1, "Input/output error"),
    "FloatingPointError": (FloatingPointError("The loss must stay finite."), 1, "must stay finite"),
    "ImportError": (ImportError("needs its package"), 1, "needs its package"),
    "MemoryError": (MemoryError(), 1, "Error: Out of memory. Take a smaller --batch-size"),
    "memory, said": (MemoryError("Unable to allocate 2 GiB"), 1, "Out of memory: Unable to allocate 2 GiB. Take a smaller"),
    "memory of PyTorch": (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), 1, "Out of memory: CUDA out of memory."),
    "memory of JAX": (RuntimeError("RESOURCE_EXHAUSTED: Out\nof memory"), 1, "Out of memory: RESOURCE_EXHAUSTED: Out of memory."),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Interrupted. What was saved is intact; the same command resumes"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_whatever_goes_wrong_is_one_message(name, monkeypatch, tmp_path):
    error, status, message = FAILURES[name]
    scope = {"__name__": "keras_m3s.data", "error": error}
    exec("def fails(path):\n raise error", scope)  # of the library, not of a user
    monkeypatch.setattr("keras_m3s.data.inspect", scope["fails"])
    result = run("inspect", tmp_path)
    assert result.exit_code == status and message in result.output
    assert "Traceback" not in result.output and len(result.output.splitlines()) == 1
    with pytest.raises((type(error), click.Abort)):  # which is what click makes of Ctrl-C
        CliRunner().invoke(main, ["--debug", "inspect", str(tmp_path)], catch_exceptions=False, standalone_mode=False)  # fmt: skip


OWN = {
    "def f(:\n": "line 1: SyntaxError: ",
    "x = 1\ny = x / 0\n": "line 2: ZeroDivisionError: division by zero",
    "import nothing_like_it\n": "line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
    "import json\njson.loads('{')\n": "line 2: JSONDecodeError: Expecting property name",
    "raise ValueError('of\\ntwo lines')": "line 1: ValueError: of two lines",
}


@pytest.mark.parametrize("source", OWN)
def test_errors_in_the_users_code_name_its_line(source, monkeypatch, tmp_path):
    (tmp_path / "own_hook.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_hook", raising=False)
    scope = {"__name__": "keras_m3s.data"}
    exec("def imports(path):\n import own_hook", scope)
    monkeypatch.setattr("keras_m3s.data.inspect", scope["imports"])
    result = run("inspect", tmp_path)
    assert result.exit_code == 1 and len(result.output.splitlines()) == 1
    assert f"Error: {tmp_path / 'own_hook.py'}, {OWN[source]}" in result.output
    assert "This should not happen" not in result.output


def test_warnings_are_one_line(monkeypatch, tmp_path):
    def warns(path):
        warnings.warn("of the data", stacklevel=1)
        raise ValueError("`x` must be 1.")

    monkeypatch.setattr("keras_m3s.data.inspect", warns)
    assert "Warning: of the data\nError: " in run("inspect", tmp_path).output
