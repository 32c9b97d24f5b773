"""Progress of a study, read from its run directories without importing a framework."""

import pathlib
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from keras_m3s.study import run_time
from keras_m3s.study.workspace import DONE, FAILED, STARTED, RunState, run_states

INTERVAL = 1.0
"""Seconds between two looks at the run directories."""


class StudyProgress:
    """Context manager that prints a line for each run that ends, with the time left.

    On a terminal a last line is kept up to date.

    Args:
        planned: The runs.
        workspace: Where they are.
        jobs: Runs at once.
    """

    def __init__(self, planned: Sequence[Any], workspace: Any, jobs: int) -> None:
        self.planned, self.workspace, self.jobs = planned, workspace, jobs
        measured = run_time.measured_epochs(pathlib.Path(workspace.runs))
        self.seconds = {p.experiment.key: run_time.run_seconds(p, measured) for p in planned}
        self.printed: set[str] = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "StudyProgress":
        self.started = time.monotonic()
        self.states = run_states(self.planned, self.workspace)
        self.printed = {key for key, state in self.states.items() if state.status == DONE}
        self.seconds_before = self._seconds_done(self.states)
        if self.printed:
            click.echo(f"{len(self.printed)} runs are already done")
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.set()
        self.thread.join()
        self._print(last=True)

    def _watch(self) -> None:
        while not self.stop.wait(INTERVAL):
            self._print()

    def _seconds_done(self, states: Mapping[str, RunState]) -> float:
        """Estimated seconds of the work that is done."""
        done = 0.0
        for p in self.planned:
            status, epochs = states[p.experiment.key]
            share = 1.0 if status in (DONE, FAILED) else min(1.0, epochs / p.experiment.epochs)
            done += share * self.seconds[p.experiment.key]
        return done

    def seconds_left(self, states: Mapping[str, RunState]) -> float:
        """Seconds until all runs end, at the pace so far."""
        passed, work = time.monotonic() - self.started, self._seconds_done(states)
        done, rest = work - self.seconds_before, sum(self.seconds.values()) - work
        return rest * passed / done if done > 0 else rest / self.jobs

    def _print(self, last: bool = False) -> None:
        # What is done stays done: of hundreds of runs, a second look is at the others alone.
        states = self.states
        undone = [p for p in self.planned if states[p.experiment.key].status != DONE]
        states |= run_states(undone, self.workspace)
        ended = [key for key, state in states.items() if state.status in (DONE, FAILED)]
        counts = f"{len(ended)}/{len(self.planned)}"
        left = f"about {run_time.format_seconds(self.seconds_left(states))} left"
        terminal = sys.stdout.isatty()
        clear = "\r\x1b[2K" if terminal else ""
        for key in ended:
            if key not in self.printed:
                self.printed.add(key)
                status = states[key].status
                click.echo(f"{clear}{counts}  {status}  {key}  {'' if last else left}")
        if terminal:
            started = sum(state.status == STARTED for state in states.values())
            line = "" if last else f"{counts} runs  {started} started  {left}"
            click.echo(f"{clear}{line}", nl=False)
