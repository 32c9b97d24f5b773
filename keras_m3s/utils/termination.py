"""Graceful termination: SIGTERM requests that runs save what they have and end with `Stopped`.

Runs are saved at epoch ends, since only from there do they resume to the same numbers. A run that
is asked to stop finishes its epoch if that has anything new to save; an epoch that takes longer
than `keras_m3s.experiments.checkpoints.SAVE_EVERY` has not, since the one before it was saved.

A request lasts until the outermost `graceful` scope ends, so that what runs afterwards in the same
process is not stopped by it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_asked = threading.Event()
_depth = 0
"""Number of nested `graceful` scopes."""


class Stopped(InterruptedError):
    """A run ended early because the process was asked to stop."""


class _Handler:
    """Signal handler that records the request, and forwards it if `children` says so."""

    def __init__(self, children: bool) -> None:
        self.children = children
        self.owner = os.getpid()

    def __call__(self, number: int, frame: Any) -> None:
        _asked.set()
        if self.children and os.getpid() == self.owner:  # not in a fork
            _forward(number)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked.is_set()


def install(children: bool = False) -> None:
    """Makes SIGTERM request a graceful stop from now on, in the main thread; elsewhere a no-op.

    For a process that works on tasks and may get the signal between two of them.

    Args:
        children: Whether to forward the signal to all processes that this one started.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    current = signal.getsignal(signal.SIGTERM)
    if not isinstance(current, _Handler) or (children and not current.children):
        signal.signal(signal.SIGTERM, _Handler(children))


@contextlib.contextmanager
def graceful(children: bool = False) -> Iterator[None]:
    """SIGTERM requests a graceful stop in this scope; no-op outside the main thread.

    Scopes nest; the outermost one drops the request when it ends.

    Args:
        children: As for `install`.
    """
    global _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    install(children)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if _depth == 0:
            _asked.clear()


def _forward(number: int) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.send_signal(number)
