"""The trial of training methods in three steps, each of which plans from the runs before it.

    rates = best_rates(grid(settings), ...)                 on validation data
    arms = best_arms(screening(settings, rates), ...)       on validation data, other seeds too
    confirmation(settings, rates, arms)                     on test data, fresh seeds

Nothing is kept but runs, so a trial that was stopped goes on, and the same runs give the same
choices. What is compared stands in `keras_m3s.registry.trial`.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.experiments import drawn_tests
from keras_m3s.experiments.drawn_tests import DrawnTest
from keras_m3s.registry import models
from keras_m3s.registry import trial as trial_cards
from keras_m3s.registry.metrics import lower_is_better
from keras_m3s.study.plan import PlannedRun, Settings
from keras_m3s.study.workspace import Workspace

Rates = Mapping[str, float | None]
"""Method -> learning rate."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial of methods on one model and data set.

    Attributes:
        model: Name of the model.
        settings: Of all its runs; `seeds` are those of the confirmation.
    """

    model: str
    settings: Settings

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, controls first."""
        return (*trial_cards.CONTROLS, *trial_cards.ARMS)

    def grid(self) -> list[PlannedRun]:
        """Runs that choose a learning rate for each method."""
        seeds = trial_cards.GRID_SEEDS[: 1 if self.settings.quick else None]
        pairs = itertools.product(self.methods, self.learning_rates)
        return self._planned(pairs, seeds, "valid")

    def screening(self, rates: Rates) -> list[PlannedRun]:
        """Runs that choose the arms that go on."""
        seeds = trial_cards.SCREENING_SEEDS[: 2 if self.settings.quick else None]
        return self._planned([(m, rates[m]) for m in self.methods], seeds, "valid")

    def confirmation(self, rates: Rates, arms: Sequence[str]) -> list[PlannedRun]:
        """Runs that are tested on test data."""
        confirmed = (*trial_cards.CONTROLS, *arms)
        return self._planned([(m, rates[m]) for m in confirmed], self.settings.seeds, "test")

    def short(self) -> list[PlannedRun]:
        """Runs of the short version: few methods, at the model's own learning rate."""
        return self._planned([(m, None) for m in trial_cards.SHORT], self.settings.seeds, "test")

    @property
    def learning_rates(self) -> tuple[float | None, ...]:
        """The grid; for a model with a published rate for each group of weights those alone."""
        if models.is_own(self.model):
            published: float | None = trial_cards.OWN_LEARNING_RATE
        else:
            published = models.find(self.model).settings.get("learning_rate")
        if published is None:
            return (None,)
        factors = (1.0,) if self.settings.quick else trial_cards.GRID
        return tuple(published * factor for factor in factors)

    def _planned(
        self, methods: Iterable[tuple[str, float | None]], seeds: Sequence[int], split: str
    ) -> list[PlannedRun]:
        """Runs of methods, each with a learning rate (`None`: the model's), tested on a split."""
        settings = dataclasses.replace(self.settings, seeds=seeds, models=(self.model,))
        drawn = tuple(DrawnTest(c, split, trial_cards.DRAWS) for c in trial_cards.TESTS.values())
        found = []
        for method, rate in methods:
            own: dict[str, Any] = {"patience": None}
            own |= {} if rate is None else {"learning_rate": rate}
            runs = settings.runs(self.model, (method,), trial_cards.TRAINED, **own)
            found += [dataclasses.replace(planned, drawn=drawn) for planned in runs]
        return found


def best_rates(planned: Iterable[PlannedRun], workspace: Workspace) -> dict[str, float | None]:
    """The learning rate with the least error of each method, on validation data.

    Args:
        planned: Runs of `Trial.grid`; those that failed or diverged do not count.
        workspace: Where they are.

    Raises:
        ValueError: No run of a method has results.
    """
    errors: dict[str, dict[float | None, list[float]]] = {}
    for one in planned:
        e = one.experiment
        rates = errors.setdefault(e.method, {})
        values = _deciding(one, workspace)
        _, error = trial_cards.metrics_of(values) if values else ("", "")
        rates.setdefault(e.learning_rate, []).append(values.get(error, math.inf))
    found = {}
    for method, rates in errors.items():
        means = {rate: statistics.fmean(values) for rate, values in rates.items()}
        best = min(means, key=lambda rate: (means[rate], rate or 0.0))
        if math.isinf(means[best]):
            raise ValueError(
                f"At least one learning rate must have results for {method!r}. Received: none of "
                f"{list(means)}. See the errors of its runs above."
            )
        found[method] = best
    return found


def best_arms(planned: Iterable[PlannedRun], workspace: Workspace) -> tuple[str, ...]:
    """The arms that go on, the best first; at most `trial_cards.MOST_ARMS`.

    An arm's score is the lesser of its two paired t statistics against the baseline, one of each
    metric that decides, on validation data. Arms with a score below 0 do not go on, unless all are.

    Args:
        planned: Runs of `Trial.screening`.
        workspace: Where they are.
    """
    values: dict[str, dict[int, dict[str, float]]] = {}
    for one in planned:
        found = _deciding(one, workspace)
        if found:
            values.setdefault(one.experiment.method, {})[one.experiment.seed] = found
    baseline = values.get(trial_cards.BASELINE, {})
    scores = {
        arm: min(paired_t(baseline, values[arm], metric) for metric in _metrics(baseline))
        for arm in trial_cards.ARMS
        if baseline and arm in values
    }
    ranked = sorted(scores, key=lambda arm: -scores[arm])
    above = [arm for arm in ranked if scores[arm] > 0] or ranked[:1]
    return tuple(above[: trial_cards.MOST_ARMS])


def paired_t(
    first: Mapping[int, Mapping[str, float]], second: Mapping[int, Mapping[str, float]], metric: str
) -> float:
    """The t statistic of a metric's improvement from a first method to a second, seed by seed.

    Args:
        first: Seed -> metrics.
        second: The same; seeds that only one of them has are ignored.
        metric: Its name. An improvement is positive, whether the metric is to be high or low.

    Returns:
        The statistic; 0 with fewer than two common seeds.
    """
    sign = -1.0 if lower_is_better(metric) else 1.0
    common = sorted(set(first) & set(second))
    differences = [sign * (second[seed][metric] - first[seed][metric]) for seed in common]
    if len(differences) < 2:
        return 0.0
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)
    if not sd:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / sd * math.sqrt(len(differences))


def _metrics(values: Mapping[int, Mapping[str, float]]) -> tuple[str, str]:
    return trial_cards.metrics_of(next(iter(values.values())))


def _deciding(planned: PlannedRun, workspace: Workspace) -> dict[str, float]:
    """Means over draws of the metrics of a run's first test; empty without results."""
    run = workspace.run_directory(planned)
    draws = drawn_tests.read(run, planned.drawn[0]) if run.complete else []
    return drawn_tests.mean(draws) if draws else {}
