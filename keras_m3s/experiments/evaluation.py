"""Tests of a trained run: predictions and metrics, on missingness that all methods share."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_m3s.data.split import REGRESSION, SplitLike
from keras_m3s.experiments.averaging import averaged
from keras_m3s.experiments.build import fixed_batches, transform
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.environment import add_data, check_unchanged
from keras_m3s.experiments.programs import Programs
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.metrics import classification_metrics, regression_metrics, score_metrics
from keras_m3s.missing.layer import LEARNED, MissingModality
from keras_m3s.registry import models
from keras_m3s.registry.patterns import Condition, ModalityRates

TEST_STREAM = 0
"""Random stream of the missingness in test data, other than those of training and validation."""


def predict(
    model: WithMissing,
    experiment: Experiment,
    split: SplitLike,
    draw: int = 0,
    modality_rates: ModalityRates = (),
) -> np.ndarray:
    """Predictions at the experiment's test missing rate, in the order of the split.

    Args:
        model: As `keras_m3s.experiments.training.train` returns it.
        experiment: Gives `test_missing_rate`, `hole_seed` and `site`.
        split: Data to predict.
        draw: Number of the draw of the holes; 0 is the one that runs are tested on.
        modality_rates: Modalities with a test missing rate of their own.

    Returns:
        Float array `(examples, outputs)`: scores, or logits of classes.
    """
    return _predict(at_test_rate(model, experiment, modality_rates), experiment, split, draw)


def _predict(
    tested: WithMissing, experiment: Experiment, split: SplitLike, draw: int
) -> np.ndarray:
    batches = fixed_batches(experiment, split, TEST_STREAM, draw)
    return np.asarray(tested.predict(batches, verbose=0), "float64")


def at_test_rate(
    model: WithMissing, experiment: Experiment, modality_rates: ModalityRates = ()
) -> WithMissing:
    """The same base model behind a transform with the experiment's test missing rate."""
    trained = model.missing
    filled = None if trained is None or not _fills(trained) else trained
    named = trained if filled is not None or models.is_own(experiment.model) else None
    missing = transform(
        experiment.test_missing_rate,
        experiment.site,
        pattern=experiment.pattern,
        seed=None,
        fill=0.0 if filled is None else filled.fill,
        modalities=None if named is None else named.modalities,
        modality_rates=modality_rates,
        rescale=filled is not None and filled.rescale,
        presence=filled is not None and filled.presence,
    )
    if filled is not None and filled.fill == LEARNED:
        missing.share_fill(filled)
    return WithMissing(model.model, missing, experiment.site)


def _fills(missing: MissingModality) -> bool:
    """Whether a layer does more to holes than to put zeros there."""
    return missing.fill != 0 or missing.rescale or missing.presence


def score(dataset: str, split: SplitLike, predictions: np.ndarray) -> dict[str, float]:
    """The metrics of a split's task; those of section 4.3 as the data set defines them.

    Args:
        dataset: As `Experiment.dataset`; a file is scored as own data, whatever its folder's name.
        split: Gives the labels and their task.
        predictions: As `predict` returns them.
    """
    if np.issubdtype(split.labels.dtype, np.integer):
        return classification_metrics(split.labels, predictions)
    if split.task == REGRESSION:
        return score_metrics(split.labels, predictions[:, 0])
    return regression_metrics(split.labels, predictions[:, 0], dataset=dataset)


def evaluate(
    model: WithMissing, run: RunDirectory, split: SplitLike, programs: Programs | None = None
) -> dict[str, float]:
    """Tests a trained run's model, and writes `predictions.csv` and `metrics.json`.

    Args:
        model: As `keras_m3s.experiments.training.train` returns it.
        run: The run's directory.
        split: Test data.
        programs: Where to share what is compiled.

    Raises:
        ChangedExperimentError: The run was made with other test data.
    """
    add_data(run, {split.name: split})
    experiment = run.experiment()
    tested = at_test_rate(model, experiment)
    if programs is not None:
        programs.share(tested, experiment, experiment.pattern)
    predictions = _predict(tested, experiment, split, draw=0)
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
    """Adds to each epoch's log the loss and the metrics of a split, on its fixed missingness.

    They are for curves. Training does not read them, unless the experiment selects its epoch as the
    published scripts do.

    Args:
        experiment: What is trained.
        split: Data to test on; its name is the prefix of the values' names.
        programs: Where to share what is compiled.
    """

    def __init__(
        self,
        experiment: Experiment,
        split: SplitLike,
        programs: Programs | None = None,
    ) -> None:
        super().__init__()
        self.experiment, self.split, self.programs = experiment, split, programs
        self._test_model: WithMissing | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._test_model = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        if self._test_model is None:
            self._test_model = at_test_rate(self.model, self.experiment)
            if self.programs is not None:
                self.programs.share(self._test_model, self.experiment, self.experiment.pattern)
        batches = fixed_batches(self.experiment, self.split, TEST_STREAM)
        with averaged(self.model):
            predictions = np.asarray(self._test_model.predict(batches, verbose=0))
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
) -> dict[str, float]:
    """Tests a trained run's best model once more, without writing to its directory.

    Args:
        run: A run that has been trained.
        split: Test data.
        missing_rate: `(low, high)`; `None` for the run's own test rate.
        pattern: Pattern of missingness; `None` for the run's own.

    Raises:
        ChangedExperimentError: The run was made with other test data.
        DamagedRunError: Its files cannot be read.
        FileNotFoundError: It has not been trained.
    """
    return retest_draws(run, split, missing_rate, pattern, draws=1)[0]


def retest_draws(
    run: RunDirectory,
    split: SplitLike,
    missing_rate: tuple[float, float] | None = None,
    pattern: str | None = None,
    draws: int = 1,
) -> list[dict[str, float]]:
    """As `retest`, under several draws of the holes: a single one is half of the noise of a test.

    Args:
        run: As for `retest`, likewise `split`, `missing_rate` and `pattern`.
        draws: How many; the first is that of `retest`.

    Returns:
        The metrics under each draw.

    Raises: as `retest`.
    """
    tester = Tester(run)
    check_unchanged(run, {split.name: split})
    experiment = tester.experiment
    rate = missing_rate or experiment.test_missing_rate
    return tester.scores(split, Condition(rate, pattern or experiment.pattern), draws)


class Tester:
    """A trained run's best model, tested under one missingness after another.

    Rates are state of a compiled program, patterns are not: one is compiled for each pattern.

    Args:
        run: A run that has been trained.
        programs: Where to share what is compiled.

    Attributes:
        experiment: The run's `Experiment`.

    Raises:
        DamagedRunError: Its files cannot be read.
        FileNotFoundError: It has not been trained.
    """

    def __init__(self, run: RunDirectory, programs: Programs | None = None) -> None:
        self.experiment = run.experiment()
        self._programs = programs or Programs()
        self._model = best_model(run)
        self._tested: dict[str, WithMissing] = {}

    def scores(
        self, split: SplitLike, condition: Condition, draws: int = 1
    ) -> list[dict[str, float]]:
        """The metrics under each of several draws of the holes.

        Args:
            split: Data to predict.
            condition: What is missing.
            draws: How many; the first is the one that runs are tested on.
        """
        rate, pattern, own = condition
        experiment = self.experiment.replace(test_missing_rate=rate, pattern=pattern)
        if pattern not in self._tested:
            self._tested[pattern] = at_test_rate(self._model, experiment, own)
            self._programs.share(self._tested[pattern], self.experiment, pattern)
        tested = self._tested[pattern]
        missing = tested.missing
        assert missing is not None, "`at_test_rate` makes one"
        missing.missing_rate = {m: dict(own).get(m, rate) for m in missing.modalities}
        return [
            score(experiment.dataset, split, _predict(tested, experiment, split, draw))
            for draw in range(draws)
        ]


def run_retests(
    run: RunDirectory,
    split: SplitLike,
    conditions: Iterable[Condition | tuple[tuple[float, float], str]],
    programs: Programs | None = None,
) -> None:
    """Tests a trained run under other missingness and writes the results, unless they are there.

    Args:
        run: A run that has been trained.
        split: Test data.
        conditions: Conditions, or pairs of missing rate `(low, high)` and pattern.
        programs: Where to share what is compiled.

    Raises: as `retest`.
    """
    check_unchanged(run, {split.name: split})
    tester: Tester | None = None
    for condition in (Condition(*one) for one in conditions):
        if run.retested(*condition):
            continue
        tester = tester or Tester(run, programs)
        own = {m: list(rate) for m, rate in condition.modality_rates}
        values: dict[str, Any] = {
            "test_missing_rate": list(condition.missing_rate),
            "pattern": condition.pattern,
            **({"modality_rates": own} if own else {}),
            "metrics": tester.scores(split, condition)[0],
        }
        run.write_json(run.retest_file(*condition).name, values)
