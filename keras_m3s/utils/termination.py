"""SIGTERM as a request: a run saves what it has and ends with `Stopped`.

Runs are saved when epochs end, for only from there do they go on to the same numbers. So a run that
is asked to stop finishes its epoch if that has anything new to save, and an epoch that takes longer
than `keras_m3s.experiments.checkpoints.SAVE_EVERY` has nothing: the one before it was saved.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_asked = threading.Event()
_installed = False


class Stopped(InterruptedError):
    """A run ended before its time, because the process was asked to."""


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked.is_set()


def install(children: bool = False) -> None:
    """Makes SIGTERM a request from now on; does nothing outside the main thread.

    Args:
        children: Whether to pass the request on to all processes that this one started.
    """
    global _installed
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        _asked.set()
        if children and os.getpid() == owner:
            _pass_on(number)

    signal.signal(signal.SIGTERM, handle)
    _installed = True


@contextlib.contextmanager
def graceful(children: bool = False) -> Iterator[None]:
    """In this scope SIGTERM is a request, unless it is one already.

    Args:
        children: As of `install`.
    """
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    install(children)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        _installed = False
        _asked.clear()


def _pass_on(number: int) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.send_signal(number)
