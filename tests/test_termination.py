"""SIGTERM requests a stop; a request is over when the outermost scope ends."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from keras_m3s.utils import termination

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def handler():
    """A handler that does nothing, so that a failing test does not end pytest."""

    def ignore(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, ignore)
    yield ignore
    signal.signal(signal.SIGTERM, before)
    termination._asked.clear()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_scope_makes_it_a_request_and_drops_it(handler):
    with termination.graceful():
        assert not termination.asked()
        terminate()
        assert termination.asked()
    assert not termination.asked() and signal.getsignal(signal.SIGTERM) == handler


def test_a_request_lasts_through_the_scopes_within():
    """What comes after a run that was stopped must know, as long as an outer scope is open."""
    with termination.graceful():
        with termination.graceful():
            terminate()
        assert termination.asked()
        with termination.graceful():
            assert termination.asked()
    assert not termination.asked()


def test_what_runs_next_is_not_stopped_though_the_handler_was_installed_for_good():
    termination.install()
    installed = signal.getsignal(signal.SIGTERM)
    with pytest.raises(termination.Stopped), termination.graceful():
        terminate()
        raise termination.Stopped
    with termination.graceful():
        assert not termination.asked()
    assert signal.getsignal(signal.SIGTERM) is installed


def test_a_request_between_two_scopes_counts_for_the_next():
    """A worker may get it while it waits for a task."""
    termination.install()
    terminate()
    with termination.graceful():
        assert termination.asked()
    assert not termination.asked()


CHILD = """
import time
from keras_m3s.utils import termination
with termination.graceful():
    print("ready", flush=True)
    while not termination.asked():
        time.sleep(0.01)
print("asked")
"""


@pytest.mark.parametrize("outer", [False, True])
def test_children_are_told_by_an_inner_scope_too(outer):
    """A study tells its workers, whatever scope it is called in."""
    with termination.graceful(children=outer), termination.graceful(children=not outer):
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout.readline() == "ready\n"
            terminate()
            assert child.communicate(timeout=60)[0] == "asked\n"
        finally:
            child.kill()


def test_other_threads_leave_it_alone(handler):
    def scope():
        termination.install()
        with termination.graceful():
            found.append(signal.getsignal(signal.SIGTERM))
        found.append(termination.asked())

    found = []
    with termination.graceful():
        terminate()
        ours = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=scope)
        thread.start()
        thread.join()
        assert found == [ours, True]
