"""The fuzzer (`make fuzz`): a few cases of each reader, and that it sees what it is for."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.fuzz import watch
from tests.fuzz.mutate import damaged
from tests.fuzz.readers import READERS, Reader

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    """Of the whole process, which has other tests to do."""
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)


@pytest.mark.parametrize("target", READERS)
def test_damaged_files_end_in_the_readers_own_errors(target):
    for seed in range(5):
        watch.case(target, seed)


def test_damage_is_repeatable_and_is_damage():
    content = bytes(range(256)) * 4
    made = {damaged(np.random.default_rng(seed), content) for seed in range(50)}
    assert len(made) > 45
    assert {damaged(np.random.default_rng(seed), content) for seed in range(50)} == made


def big(path):
    np.ones(9 * 2**23)  # 576 MiB


# What a reader must not do, and what is said of it.
BAD = {
    "an error of others": (lambda path: {}["key"], KeyError, "key"),
    "an error that says nothing": (lambda path: int("x"), AssertionError, "no reader's own error"),
    "a command": (lambda path: os.system("true"), AssertionError, "os.system"),
    "a process": (lambda path: subprocess.run(["true"], check=True), AssertionError, "subprocess.Popen"),
    "a file beside": (lambda path: (path / "new").touch(), AssertionError, "open"),
    "a file elsewhere": (lambda path: pathlib.Path("/dev/full").open("w").close(), AssertionError, "open"),
    "memory": (big, AssertionError, "bytes of memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_the_fuzzer_sees(name, monkeypatch):
    from tests.fuzz.readers import _each

    read, error, message = BAD[name]
    calls = []

    def fine_at_first(path):
        calls.append(path)
        if len(calls) > 1:
            _each(lambda: read(path))

    monkeypatch.setattr(watch, "_made", {"other": None})
    monkeypatch.setitem(READERS, "bad", Reader(lambda folder: (folder / "a").write_text("abc") and None, fine_at_first))  # fmt: skip
    sys.addaudithook(watch._hook)
    with pytest.raises(error, match=message):
        watch.case("bad", 0)
