"""Trained run -> predictions and metrics on holes that every method is scored on."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.data import Split
from keras_m3s.experiment import Experiment
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.metrics import classification_metrics, regression_metrics
from keras_m3s.runs import RunDirectory
from keras_m3s.stream import StreamedSplit
from keras_m3s.training import fixed_batches, train, transform

TEST_STREAM = 0
"""The test data's own stream of holes, apart from training's and validation's."""


def predict(model: WithMissing, experiment: Experiment, split: Split | StreamedSplit) -> np.ndarray:
    """Predictions at the experiment's test missing rate, in the order of the split.

    Args:
        model: As `keras_m3s.training.train` returns it.
        experiment: Gives `test_missing_rate`, `hole_seed` and `site`.
        split: Data to predict.

    Returns:
        Float array `(examples, outputs)`: scores, or logits of classes.
    """
    tester = WithMissing(
        model.model, transform(experiment.test_missing_rate, experiment.site), experiment.site
    )
    batches = fixed_batches(experiment, split, TEST_STREAM)
    return np.asarray(tester.predict(batches, verbose=0), "float64")


def score(dataset: str, split: Split | StreamedSplit, predictions: np.ndarray) -> dict[str, float]:
    """The metrics of section 4.3 that fit the split's labels, as the data set defines them."""
    if np.issubdtype(split.labels.dtype, np.integer):
        return classification_metrics(split.labels, predictions.argmax(-1))
    return regression_metrics(split.labels, predictions[:, 0], dataset=dataset)


def evaluate(
    model: WithMissing, run: RunDirectory, split: Split | StreamedSplit
) -> dict[str, float]:
    """Tests a trained run's model, and completes the run directory with what came out.

    Args:
        model: As `keras_m3s.training.train` returns it.
        run: Where `predictions.csv` and `metrics.json` go.
        split: Test data.
    """
    experiment = run.experiment()
    predictions = predict(model, experiment, split)
    metrics = score(experiment.dataset, split, predictions)
    run.write_csv("predictions.csv", _rows(split, predictions))
    run.write_json("metrics.json", metrics)
    return metrics


def _rows(split: Split | StreamedSplit, predictions: np.ndarray) -> list[Mapping[str, Any]]:
    if predictions.shape[1] == 1:
        columns = {"prediction": predictions[:, 0]}
    else:
        columns = {"prediction": predictions.argmax(-1)}
        columns |= {f"logit_{i}": logits for i, logits in enumerate(predictions.T)}
    return [
        {"id": name, "truth": truth, **{k: column[i] for k, column in columns.items()}}
        for i, (name, truth) in enumerate(zip(split.ids, split.labels.tolist(), strict=True))
    ]


def run_experiment(
    experiment: Experiment,
    run: RunDirectory,
    splits: Mapping[str, Split | StreamedSplit],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Trains and tests an experiment, unless that has been done already.

    Args:
        experiment: What to run.
        run: Its directory.
        splits: `train`, `valid` and `test`.
        callbacks: As for `keras_m3s.training.train`.

    Returns:
        The test metrics.
    """
    run.start(experiment)
    if not run.complete:
        evaluate(train(experiment, run, splits, callbacks), run, splits["test"])
    return run.read_json("metrics.json")


def retest(
    run: RunDirectory, split: Split | StreamedSplit, missing_rate: tuple[float, float] | None = None
) -> dict[str, float]:
    """Tests a trained run's best model again, leaving its directory as it is.

    Args:
        run: A run that has been trained.
        split: Test data.
        missing_rate: `(low, high)`; `None` for the run's own test rate.
    """
    experiment = run.experiment()
    if not run.best.is_file():
        raise FileNotFoundError(
            f"A run must have been trained before it is tested. {run.path} holds no best.keras. "
            "Train it to its end first."
        )
    if missing_rate:
        experiment = experiment.replace(test_missing_rate=tuple(missing_rate))
    predictions = predict(keras.saving.load_model(run.best), experiment, split)
    return score(experiment.dataset, split, predictions)
