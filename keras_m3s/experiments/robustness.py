"""What a run's model withstands: missing rates and patterns, and every modality absent."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_m3s.data.split import SplitLike
from keras_m3s.evaluation import RobustnessTable, robustness
from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.environment import check_unchanged
from keras_m3s.experiments.evaluation import score
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.registry import metrics

TABLE, PICTURE = "robustness.csv", "robustness.png"
"""Files in a run's directory."""

RATES: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
PATTERNS: tuple[str, ...] = ("span", "modality")
DRAWS = 5


def run_robustness(
    run: RunDirectory,
    split: SplitLike,
    rates: Sequence[float] = RATES,
    patterns: Sequence[str] = PATTERNS,
    draws: int = DRAWS,
) -> RobustnessTable:
    """Tests a trained run at many rates, and writes `robustness.csv` and `robustness.png`.

    All runs of the same data meet the same holes.

    Args:
        run: A run that has been trained.
        split: Test data.
        rates: Missing rates within [0, 1].
        patterns: Names of patterns of missingness.
        draws: Draws of the holes for each pattern and rate.

    Returns:
        The table, with the metrics of the run's task.

    Raises: as `keras_m3s.experiments.evaluation.retest`.
    """
    model = best_model(run)
    check_unchanged(run, {split.name: split})
    experiment = run.experiment()

    def scored(labels: Any, predictions: Any) -> dict[str, float]:
        return score(experiment.dataset, split, np.asarray(predictions, "float64"))

    table = robustness(
        model,
        split.take(np.arange(len(split))),
        split.labels,
        rates=rates,
        patterns=patterns,
        draws=draws,
        modalities=split.modalities,
        batch_size=experiment.batch_size,
        seed=experiment.hole_seed,
        score=scored,
    )
    with run.writing(TABLE) as temporary:
        table.to_csv(temporary)
    with run.writing(PICTURE) as temporary:
        figure = table.plot(metric=metrics.main(table.metrics))
        figure.savefig(temporary, format="png", dpi=150)
    return table
