"""Training and testing of an experiment in one call."""

from collections.abc import Mapping, Sequence

import keras

from keras_m3s.data.split import SplitLike
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.environment import check_unchanged
from keras_m3s.experiments.evaluation import TestMetrics, evaluate
from keras_m3s.experiments.programs import Programs
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
    programs: Programs | None = None,
) -> dict[str, float]:
    """Trains and tests an experiment, or returns the metrics of its finished run.

    Args:
        experiment: What to run.
        run: Its directory.
        splits: `train`, `valid` and `test`.
        callbacks: As for `keras_m3s.experiments.training.train`.
        follow: Whether to test after each epoch too, for curves: the history gets test values.
        wait: Whether to wait while another process holds the run.
        programs: Those of runs before, of models that are the same but for their variables' values.

    Returns:
        The test metrics.

    Raises:
        RunBusyError: If another process holds the run, without `wait`.
        ChangedExperimentError: If the directory holds a run of another experiment or of other data.

    Raises also what `train` does.
    """
    if not run.complete:
        with run.locked(wait):
            if not run.complete:
                run.start(experiment)
                follow = follow or looks_at_test(experiment.model, experiment.select)
                observers = [TestMetrics(experiment, splits["test"], programs)] if follow else []
                trained = train(experiment, run, splits, callbacks, observers, programs)
                return evaluate(trained, run, splits["test"], programs)
    run.start(experiment)
    check_unchanged(run, splits)
    return run.read_json("metrics.json")
