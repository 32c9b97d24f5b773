"""One case: a damaged input, read under watch."""

import itertools
import os
import pathlib
import resource
import shutil
import sys
import tempfile
from typing import Any, NoReturn

import numpy as np

from tests.fuzz.mutate import damage
from tests.fuzz.readers import READERS

MEMORY = 512 * 2**20
"""Bytes that reading a file of some kilobytes may take on top, imports included."""

ADDRESSES = 8 * 2**30
"""Bytes beyond which the system gives none: before the machine suffers, a case does."""

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen",
             "socket.connect", "os.remove", "os.rename", "os.mkdir", "os.chmod", "shutil.rmtree")  # fmt: skip

_watching = False
_seen: list[str] = []
_made: dict[str, pathlib.Path] = {}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in FORBIDDEN or (event == "open" and _writes(arguments)):
        _seen.append(f"{event}{arguments}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    if str(path) == os.devnull or isinstance(path, int) or "__pycache__" in str(path):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else not set(mode) <= set("rbtU")


def _most_memory(anew: bool = False) -> int:
    """Bytes that this process has held at most; `anew`: from now on."""
    if anew:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _prepared(target: str) -> pathlib.Path:
    """Valid files of a reader, made once and read once: what is imported then is not watched."""
    if target not in _made:
        if not _made:
            sys.addaudithook(_hook)
            used = (
                int(pathlib.Path("/proc/self/statm").read_text().split()[0])
                * resource.getpagesize()
            )
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, hard))
        folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
        READERS[target].make(folder)
        READERS[target].read(folder)
        _made[target] = folder
    return _made[target]


def case(target: str, seed: int) -> None:
    """Reads one damaged input.

    Raises:
        AssertionError: what must hold does not.
    """
    global _watching
    valid = _prepared(target)
    rng = np.random.default_rng([list(READERS).index(target), seed])
    with tempfile.TemporaryDirectory(prefix="fuzz-case-") as temporary:
        folder = pathlib.Path(temporary) / "in"
        shutil.copytree(valid, folder)
        damage(rng, folder)
        before = sorted(folder.rglob("*"))
        memory = _most_memory(anew=True)
        _seen.clear()
        _watching = True
        try:
            READERS[target].read(folder)
        finally:
            _watching = False
        taken = _most_memory() - memory
        assert not _seen, f"something was done that reading is not: {_seen}"
        assert sorted(folder.rglob("*")) == before, "something was written beside the input"
        assert taken < MEMORY, f"{taken} bytes of memory were taken"


def work(targets: list[str], start: int) -> NoReturn:
    """Case after case, each named on stdout before it is read, until one finds something."""
    for target in targets:
        _prepared(target)
    for seed in itertools.count(start):
        for target in targets:
            print(f"python -m tests.fuzz --target '{target}' --seed {seed}", flush=True)
            case(target, seed)
    raise AssertionError
