"""Trained run -> predictions and metrics on holes that every method is scored on."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.data.split import SplitLike
from keras_m3s.experiments.build import fixed_batches, transform
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.replicas import share_predict
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.metrics import classification_metrics, regression_metrics

TEST_STREAM = 0
"""The test data's own stream of holes, apart from training's and validation's."""


def predict(model: WithMissing, experiment: Experiment, split: SplitLike) -> np.ndarray:
    """Predictions at the experiment's test missing rate, in the order of the split.

    Args:
        model: As `keras_m3s.experiments.training.train` returns it.
        experiment: Gives `test_missing_rate`, `hole_seed` and `site`.
        split: Data to predict.

    Returns:
        Float array `(examples, outputs)`: scores, or logits of classes.
    """
    batches = fixed_batches(experiment, split, TEST_STREAM)
    return np.asarray(tester(model, experiment).predict(batches, verbose=0), "float64")


def tester(model: WithMissing, experiment: Experiment) -> WithMissing:
    """The base model behind holes at the experiment's test missing rate."""
    missing = transform(
        experiment.test_missing_rate, experiment.site, pattern=experiment.pattern, seed=None
    )
    return WithMissing(model.model, missing, experiment.site)


def score(dataset: str, split: SplitLike, predictions: np.ndarray) -> dict[str, float]:
    """The metrics of section 4.3 that fit the split's labels, as the data set defines them."""
    if np.issubdtype(split.labels.dtype, np.integer):
        return classification_metrics(split.labels, predictions.argmax(-1))
    return regression_metrics(split.labels, predictions[:, 0], dataset=dataset)


def evaluate(model: WithMissing, run: RunDirectory, split: SplitLike) -> dict[str, float]:
    """Tests a trained run's model, and completes the run directory with what came out.

    Args:
        model: As `keras_m3s.experiments.training.train` returns it.
        run: Where `predictions.csv` and `metrics.json` go.
        split: Test data.
    """
    experiment = run.experiment()
    predictions = predict(model, experiment, split)
    metrics = score(experiment.dataset, split, predictions)
    run.write_csv("predictions.csv", _rows(split, predictions))
    run.write_json("metrics.json", metrics)
    return metrics


def _rows(split: SplitLike, predictions: np.ndarray) -> list[Mapping[str, Any]]:
    if predictions.shape[1] == 1:
        columns = {"prediction": predictions[:, 0]}
    else:
        columns = {"prediction": predictions.argmax(-1)}
        columns |= {f"logit_{i}": logits for i, logits in enumerate(predictions.T)}
    return [
        {"id": name, "truth": truth, **{k: column[i] for k, column in columns.items()}}
        for i, (name, truth) in enumerate(zip(split.ids, split.labels.tolist(), strict=True))
    ]


class TestMetrics(keras.callbacks.Callback):
    """Adds to each epoch's log the loss and the metrics of a split on its fixed holes.

    They are for curves. Nothing of the training reads them, unless the experiment's `select` asks
    for what the published scripts did.

    Args:
        experiment: What is trained.
        split: Data to follow; its name comes before each value's.
        like: One for another seed of the same experiment in this process, whose compiled program
            this one takes too.
    """

    def __init__(
        self,
        experiment: Experiment,
        split: SplitLike,
        like: "TestMetrics | None" = None,
    ) -> None:
        super().__init__()
        self.experiment, self.split, self.like = experiment, split, like
        self._tester: WithMissing | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._tester = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        if self._tester is None:
            self._tester = tester(self.model, self.experiment)
            if self.like is not None and self.like._tester is not None:
                share_predict(self.like._tester, self._tester)
        batches = fixed_batches(self.experiment, self.split, TEST_STREAM)
        predictions = np.asarray(self._tester.predict(batches, verbose=0))
        values = score(self.experiment.dataset, self.split, predictions.astype("float64"))
        truth = self.split.labels
        truth = truth[:, None] if truth.dtype.kind == "f" else truth
        loss = self.model.model.compute_loss(None, truth, predictions, training=False)
        values["loss"] = float(keras.ops.convert_to_numpy(loss))
        logs.update({f"{self.split.name}_{name}": value for name, value in values.items()})


def retest(
    run: RunDirectory,
    split: SplitLike,
    missing_rate: tuple[float, float] | None = None,
    pattern: str | None = None,
    model: WithMissing | None = None,
) -> dict[str, float]:
    """Tests a trained run's best model again, leaving its directory as it is.

    Args:
        run: A run that has been trained.
        split: Test data.
        missing_rate: `(low, high)`; `None` for the run's own test rate.
        pattern: Shape of the holes; `None` for the run's own.
        model: The best model, where it has been loaded already.
    """
    experiment = run.experiment()
    if missing_rate:
        experiment = experiment.replace(test_missing_rate=tuple(missing_rate))
    if pattern:
        experiment = experiment.replace(pattern=pattern)
    predictions = predict(model or best_model(run), experiment, split)
    return score(experiment.dataset, split, predictions)


def run_retests(
    run: RunDirectory, split: SplitLike, conditions: Iterable[tuple[tuple[float, float], str]]
) -> None:
    """Tests a trained run under other holes, unless that has been done, and keeps the outcome.

    Args:
        run: A run that has been trained.
        split: Test data.
        conditions: Pairs of missing rate `(low, high)` and pattern.
    """
    model = None
    for missing_rate, pattern in conditions:
        file = run.retest_file(missing_rate, pattern)
        if not file.is_file():
            model = model or best_model(run)
            metrics = retest(run, split, missing_rate, pattern, model)
            rate = list(missing_rate)
            values = {"test_missing_rate": rate, "pattern": pattern, "metrics": metrics}
            run.write_json(file.name, values)
