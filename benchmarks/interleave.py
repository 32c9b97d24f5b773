"""Times cases of one or several backends in turn, A, B, A, B, ...: what else a machine does then
slows all of them alike, and the ratios of a round hold.

A backend is chosen once in a process, so each has a process of its own, which builds its cases and
runs some steps of one of them when it is asked to.
"""

import importlib
import multiprocessing
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """Something to time.

    Attributes:
        name: What the tables call it.
        backend: Keras' backend in its process.
        make: `"module:function"`. The function returns `run(steps)`, which returns when they are
            done.
        arguments: Of that function.
    """

    name: str
    backend: str
    make: str
    arguments: Mapping[str, Any] = {}


def found(name: str) -> Any:
    """`"module:function"`, imported."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


class Worker:
    """A process of one backend, which answers one request after the other."""

    def __init__(self, backend: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = backend
        self.process.start()
        other.close()  # so that this end learns of it if the process dies
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function, `"module:function"`, gives there.

        Raises:
            RuntimeError: It raised there; the text is that of its error.
        """
        self.connection.send((function, arguments))
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise RuntimeError(f"{type(answer).__name__}: {answer}")
        return answer

    def stop(self) -> None:
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


_runs: dict[str, Any] = {}


def _serve(connection: Any) -> None:
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = found(function)(*arguments)
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        connection.send(answer)


def build(case: Case) -> None:
    """Makes the case, compiles it and runs it a little."""
    _runs[case.name] = found(case.make)(**case.arguments)
    _runs[case.name](2)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(name: str, steps: int, clock: str) -> float:
    """Seconds of a step of a case, after one that is not counted."""
    run, now = _runs[name], CLOCKS[clock]
    run(1)
    start = now()
    run(steps)
    return (now() - start) / steps


def interleaved(
    cases: Iterable[Case], rounds: int, steps: int, clock: str = "wall"
) -> dict[str, np.ndarray[Any, Any]]:
    """Seconds of a step of each case, `(rounds,)`.

    Args:
        cases: With different names.
        rounds: How often each is timed.
        steps: How many steps a round times together.
        clock: `"wall"`, or `"cpu"`, the time that all threads of the process computed. On a busy
            machine, with one thread, the latter is what the former would be on a quiet one.
    """
    cases = list(cases)
    workers = {backend: Worker(backend) for backend in dict.fromkeys(c.backend for c in cases)}
    try:
        for case in cases:
            workers[case.backend].ask(f"{__name__}:build", case)
        times: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(rounds):
            for case in cases:
                worker = workers[case.backend]
                took = worker.ask(f"{__name__}:seconds", case.name, steps, clock)
                times[case.name].append(took)
    finally:
        for worker in workers.values():
            worker.stop()
    return {name: np.array(values) for name, values in times.items()}
