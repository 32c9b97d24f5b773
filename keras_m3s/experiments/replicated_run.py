"""Runs that differ only in their seed, trained as one program, each into its own directory.

Between epochs each run's callbacks work as in a single run: history, checkpoints, the selected
epoch, patience, schedules, MMIM's stage 0. First stages (MMIN's teachers) are trained one by one
before. A run that fails or stops early does not affect the others.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_m3s.data.split import SplitLike
from keras_m3s.experiments import training
from keras_m3s.experiments.build import validation_batches
from keras_m3s.experiments.checkpoints import RunCheckpoint, best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.environment import check_unchanged
from keras_m3s.experiments.evaluation import TestMetrics, evaluate
from keras_m3s.experiments.programs import Programs
from keras_m3s.experiments.replicas import build_variables, check_backend, fit_replicas
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.experiments.selection import looks_at_test
from keras_m3s.utils import termination

ExperimentRun = tuple[Experiment, RunDirectory]
Splits = Mapping[str, SplitLike]
Errors = dict[int, Exception | None]
"""Seed of a run -> the error that ended it, if any."""


def run_replicas(
    runs: Sequence[ExperimentRun], splits: Splits, follow: bool = False, wait: bool = False
) -> list[Exception | None]:
    """Trains and tests runs that are not complete; interrupted ones resume.

    Complete runs are checked against the data: one that was made with other data has an error.

    Args:
        runs: Experiments that differ only in `seed`, and their directories.
        splits: As for `keras_m3s.experiments.run.run_experiment`.
        follow: As for `run_experiment`.
        wait: Whether to wait for other processes that hold some of the runs.

    Returns:
        The error of each run, or `None`.

    Raises:
        RuntimeError: On a backend other than JAX.
        ValueError: If the experiments do not differ in their seed, or differ in more.
    """
    check_backend()
    by_seed = {experiment.seed: (experiment, run) for experiment, run in runs}
    kinds = {experiment.replace(seed=0).key for experiment, _ in runs}
    if len(kinds) > 1 or len(by_seed) < len(runs):
        raise ValueError(
            "Experiments that run together must differ in `seed`, and in nothing else. "
            f"Received: {[experiment.key for experiment, _ in runs]}."
        )
    errors: Errors = dict.fromkeys(by_seed)
    with contextlib.ExitStack() as locks:
        # In the same order in every process, so that no two wait for each other.
        for seed in sorted(by_seed):
            with _record_error(errors, seed):
                if not by_seed[seed][1].complete:
                    locks.enter_context(by_seed[seed][1].locked(wait))
        for seed, (experiment, run) in by_seed.items():
            if errors[seed] is None and run.complete:
                with _record_error(errors, seed):
                    run.start(experiment)
                    check_unchanged(run, splits)
        left = {
            seed: (experiment, run)
            for seed, (experiment, run) in by_seed.items()
            if errors[seed] is None and not run.complete
        }
        _train(left, splits, follow, errors)
        for seed, (_, run) in left.items():
            if errors[seed] is None:
                with _record_error(errors, seed):
                    evaluate(best_model(run), run, splits["test"])
    return [errors[experiment.seed] for experiment, _ in runs]


def _train(runs: Mapping[int, ExperimentRun], splits: Splits, follow: bool, errors: Errors) -> None:
    """Trains runs to their end; those with the same number of epochs done are trained together."""
    ready: dict[int, training.TrainingSetup] = {}
    programs = Programs()
    for seed, (experiment, run) in runs.items():
        observers = []
        if follow or looks_at_test(experiment.model, experiment.select):
            observers = [TestMetrics(experiment, splits["test"], programs)]
        with _record_error(errors, seed):
            one = training.set_up(experiment, run, splits, observers=observers)
            # Before the next run sets its seed: initial weights use the global random state.
            build_variables(one.model, one.batches[0])
            one.batches.epoch = one.epochs_done
            if not one.finished:
                ready[seed] = one
    for done in sorted({one.epochs_done for one in ready.values()}):
        group = {seed: one for seed, one in ready.items() if one.epochs_done == done}
        _fit({seed: runs[seed] for seed in group}, group, splits, errors)


def _fit(
    runs: Mapping[int, ExperimentRun],
    ready: Mapping[int, training.TrainingSetup],
    splits: Splits,
    errors: Errors,
) -> None:
    """Trains runs together and records the error of each."""
    isolated: dict[int, IsolatedCallbacks] = {}
    for seed, one in ready.items():
        isolated[seed] = IsolatedCallbacks(one.callbacks, isolated)
        for callback in one.callbacks:
            if isinstance(callback, RunCheckpoint):
                callback.share = 1 / len(ready)
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
                callbacks=lambda seed: [isolated[seed]],
                validate_averages=True,
            )
    except Exception as error:
        failed = error
    for seed, callbacks in isolated.items():
        errors[seed] = callbacks.error or (None if callbacks.ended else failed)


class IsolatedCallbacks(keras.callbacks.Callback):
    """Callbacks of one run, whose errors end that run and no other.

    They get every hook that `fit_replicas` calls; `on_test_*` and `on_predict_*` are not among
    them. The error of the last run that still trains is raised, which ends `fit_replicas`.

    Args:
        callbacks: Those of the run.
        others: The `IsolatedCallbacks` of all runs, by seed; it may be filled later.

    Attributes:
        error: What ended the run early.
        ended: Whether the run trained to its end.
    """

    def __init__(
        self, callbacks: list[keras.callbacks.Callback], others: Mapping[int, "IsolatedCallbacks"]
    ) -> None:
        super().__init__()
        self.callbacks = keras.callbacks.CallbackList(callbacks)
        self.others = others
        self.error: Exception | None = None
        self.ended = False

    def set_params(self, params: Mapping[str, Any]) -> None:
        super().set_params(params)
        self.callbacks.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.callbacks.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        self._call("on_train_begin", logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._call("on_train_end", logs)
        self.ended = self.error is None

    def _call(self, hook: str, *arguments: Any) -> None:
        if self.error is not None:
            return
        try:
            getattr(self.callbacks, hook)(*arguments)
        except Exception as error:
            self.error = error
            self.model.stop_training = True
            if all(one.ended or one.error is not None for one in self.others.values()):
                raise


@contextlib.contextmanager
def _record_error(errors: Errors, seed: int) -> Iterator[None]:
    """Records an error in this scope as the run's, instead of raising it."""
    try:
        yield
    except Exception as error:
        errors[seed] = error
