"""How a study of many runs goes on, seen from outside: no framework is imported here."""

import pathlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click

from keras_m3s.study import estimate, executors


class StudyProgress:
    """Shows how a study goes on, by what its runs' directories hold, until the scope is left.

    A line for each run that ends; on a terminal also one that counts, with the time left.

    Args:
        planned: The runs.
        place: Where they are.
        jobs: Runs at once.
    """

    def __init__(self, planned: Sequence[Any], place: Any, jobs: int) -> None:
        self.planned, self.place, self.jobs = planned, place, jobs
        known = estimate.measured(pathlib.Path(place.runs))
        self.seconds = {p.experiment.key: estimate.seconds(p, known) for p in planned}
        self.seen: set[str] = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "StudyProgress":
        self.started = time.monotonic()
        states = self._states()
        self.seen = {key for key, (status, _) in states.items() if status == "done"}
        self.at_first = self._work(states)
        if self.seen:
            click.echo(f"{len(self.seen)} runs are there already")
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.set()
        self.thread.join()
        self._show(last=True)

    def _states(self) -> dict[str, tuple[str, int]]:
        return executors.states(self.planned, self.place)

    def _watch(self) -> None:
        while not self.stop.wait(1.0):
            self._show()

    def _work(self, states: dict[str, tuple[str, int]]) -> float:
        """Seconds of work that are done, as estimated before."""
        done = 0.0
        for p in self.planned:
            status, epochs = states[p.experiment.key]
            share = 1.0 if status in ("done", "failed") else epochs / p.experiment.epochs
            done += share * self.seconds[p.experiment.key]
        return done

    def left(self, states: dict[str, tuple[str, int]]) -> float:
        """Seconds until all is done, at the pace so far."""
        passed, work = time.monotonic() - self.started, self._work(states)
        done, rest = work - self.at_first, sum(self.seconds.values()) - work
        return rest * passed / done if done > 0 else rest / self.jobs

    def _show(self, last: bool = False) -> None:
        states = self._states()
        ended = [key for key, (status, _) in states.items() if status in ("done", "failed")]
        counts = f"{len(ended)}/{len(self.planned)}"
        left = f"about {estimate.readable(self.left(states))} left"
        terminal = sys.stdout.isatty()
        clear = "\r\x1b[2K" if terminal else ""
        for key in ended:
            if key not in self.seen:
                self.seen.add(key)
                click.echo(f"{clear}{counts}  {states[key][0]}  {key}  {'' if last else left}")
        if terminal:
            working = sum(status == "busy" for status, _ in states.values())
            end = "" if last else f"{counts} runs  {working} begun  {left}"
            click.echo(f"{clear}{end}", nl=False)
