"""An experiment from its data to its test metrics."""

from collections.abc import Mapping, Sequence

import keras

from keras_m3s.data.split import SplitLike
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.evaluation import TestMetrics, evaluate
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.experiments.selection import looks_at_test
from keras_m3s.experiments.training import train


def run_experiment(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, SplitLike],
    callbacks: Sequence[keras.callbacks.Callback] = (),
    follow: bool = False,
    wait: bool = False,
) -> dict[str, float]:
    """Trains and tests an experiment, unless that has been done already.

    Args:
        experiment: What to run.
        run: Its directory.
        splits: `train`, `valid` and `test`.
        callbacks: As for `keras_m3s.experiments.training.train`.
        follow: Whether each epoch's row of the history gets test values too, for curves.
        wait: Whether to wait for another process that is at this run.

    Returns:
        The test metrics.

    Raises:
        RunBusyError: If another process is at it, without `wait`.
    """
    if not run.complete:
        with run.locked(wait):
            if not run.complete:
                run.start(experiment)
                follow = follow or looks_at_test(experiment.model, experiment.select)
                observers = [TestMetrics(experiment, splits["test"])] if follow else []
                trained = train(experiment, run, splits, callbacks, observers)
                evaluate(trained, run, splits["test"])
    run.start(experiment)
    return run.read_json("metrics.json")
