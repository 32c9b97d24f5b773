"""Runs that differ in their seed only, trained as one program: each leaves its own directory.

What a run's callbacks do (history, checkpoints, the selected epoch, patience, schedules, MMIM's
stage 0) they do for it alone between epochs, as in a run by itself; MMIN's teachers are trained one
by one before. A run that fails or has had enough leaves the others as they are.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_m3s.data.split import SplitLike
from keras_m3s.experiments import training
from keras_m3s.experiments.build import validation_batches
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.evaluation import TestMetrics, evaluate
from keras_m3s.experiments.replicas import build_variables, check_backend, fit_replicas
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.experiments.selection import looks_at_test
from keras_m3s.utils import termination

Run = tuple[Experiment, RunDirectory]
Splits = Mapping[str, SplitLike]
Errors = dict[int, Exception | None]
"""Seed of a run -> what went wrong with it."""


def kind(experiment: Experiment) -> str:
    """The same for experiments that can be trained together."""
    return experiment.replace(seed=0).key


def run_together(
    runs: Sequence[Run], splits: Splits, follow: bool = False, wait: bool = False
) -> list[Exception | None]:
    """Trains and tests runs, unless that has been done; interrupted ones go on.

    Args:
        runs: Experiments that differ in `seed`, and their directories.
        splits: As for `keras_m3s.experiments.run.run_experiment`.
        follow: As for `run_experiment`.
        wait: Whether to wait for other processes that are at some of the runs.

    Returns:
        For each run what went wrong with it, or `None`.

    Raises:
        RuntimeError: On a backend other than JAX.
        ValueError: If the experiments do not differ in their seed, or in more.
    """
    check_backend()
    by_seed = {experiment.seed: (experiment, run) for experiment, run in runs}
    if len({kind(experiment) for experiment, _ in runs}) > 1 or len(by_seed) < len(runs):
        raise ValueError(
            "Experiments that run together must differ in `seed`, and in nothing else. "
            f"Received: {[experiment.key for experiment, _ in runs]}."
        )
    errors: Errors = dict.fromkeys(by_seed)
    with contextlib.ExitStack() as locks:
        # In the same order everywhere: so no two processes wait for one another.
        for seed in sorted(by_seed):
            with _kept(errors, seed):
                if not by_seed[seed][1].complete:
                    locks.enter_context(by_seed[seed][1].locked(wait))
        left = {
            seed: (experiment, run)
            for seed, (experiment, run) in by_seed.items()
            if errors[seed] is None and not run.complete
        }
        _train(left, splits, follow, errors)
        for seed, (_, run) in left.items():
            if errors[seed] is None:
                with _kept(errors, seed):
                    evaluate(best_model(run), run, splits["test"])
    return [errors[experiment.seed] for experiment, _ in runs]


def _train(runs: Mapping[int, Run], splits: Splits, follow: bool, errors: Errors) -> None:
    """Trains runs to their end, those together that have done the same number of epochs."""
    ready: dict[int, training.TrainingSetup] = {}
    first: TestMetrics | None = None
    for seed, (experiment, run) in runs.items():
        observers = []
        if follow or looks_at_test(experiment.model, experiment.select):
            observers = [TestMetrics(experiment, splits["test"], like=first)]
            first = first or observers[0]
        with _kept(errors, seed):
            one = training.set_up(experiment, run, splits, observers=observers, share=1 / len(runs))
            # Before the next one sets its seed: initial weights come of the random state now.
            build_variables(one.model, one.batches[0])
            one.batches.epoch = one.epochs_done
            if not one.finished:
                ready[seed] = one
    for done in sorted({one.epochs_done for one in ready.values()}):
        group = {seed: one for seed, one in ready.items() if one.epochs_done == done}
        _fit({seed: runs[seed] for seed in group}, group, splits, errors)


def _fit(
    runs: Mapping[int, Run],
    ready: Mapping[int, training.TrainingSetup],
    splits: Splits,
    errors: Errors,
) -> None:
    guards: dict[int, IsolatedCallbacks] = {}
    for seed, one in ready.items():
        guards[seed] = IsolatedCallbacks(one.callbacks, guards)
    experiment = next(experiment for experiment, _ in runs.values())
    failed: Exception | None = None
    try:
        with termination.graceful():
            fit_replicas(
                lambda seed: ready[seed].model,
                list(ready),
                lambda seed: ready[seed].batches,
                initial_epoch=next(one.epochs_done for one in ready.values()),
                epochs=experiment.epochs,
                validation_data=validation_batches(experiment, splits),
                callbacks=lambda seed: [guards[seed]],
            )
    except Exception as error:
        failed = error
    for seed, guard in guards.items():
        errors[seed] = guard.error or (None if guard.over else failed)


class IsolatedCallbacks(keras.callbacks.Callback):
    """A run's callbacks, kept apart: an error of theirs ends this run, and is raised by the last.

    Args:
        callbacks: Those of the run.
        others: All runs' guards, this one among them.

    Attributes:
        error: What went wrong.
        over: Whether the run came to its end.
    """

    def __init__(
        self, callbacks: list[keras.callbacks.Callback], others: Mapping[int, "IsolatedCallbacks"]
    ) -> None:
        super().__init__()
        self.callbacks = keras.callbacks.CallbackList(callbacks)
        self.others = others
        self.error: Exception | None = None
        self.over = False

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.callbacks.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        self._call("on_train_begin", logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_begin", epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._call("on_train_end", logs)
        self.over = self.error is None

    def _call(self, hook: str, *arguments: Any) -> None:
        if self.error is not None:
            return
        try:
            getattr(self.callbacks, hook)(*arguments)
        except Exception as error:
            self.error = error
            self.model.stop_training = True
            if all(guard.over or guard.error is not None for guard in self.others.values()):
                raise


@contextlib.contextmanager
def _kept(errors: Errors, seed: int) -> Iterator[None]:
    """Whatever goes wrong in this scope is the run's; the others go on."""
    try:
        yield
    except Exception as error:
        errors[seed] = error
