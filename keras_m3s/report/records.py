"""`RunRecord`: a run directory as plain values, from which reports are made."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_m3s.registry import patterns
from keras_m3s.registry.patterns import Condition, ModalityRates
from keras_m3s.report import names

COMPLETE, INCOMPLETE, FAILED, UNREADABLE = "complete", "incomplete", "failed", "unreadable"

DEFAULTS: dict[str, Any] = {
    "site": "raw",
    "pattern": patterns.PAPER,
    "select": "validation",
    "fill": "zero",
    "model_source": None,
    "averaging": None,
}
"""Of fields that an older version did not write."""

Rate = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Test metrics of a trained model under one condition."""

    rate: Rate
    pattern: str
    metrics: Mapping[str, float]
    modality_rates: ModalityRates = ()

    @property
    def condition(self) -> Condition:
        """The condition, its modalities in alphabetical order."""
        return ordered(Condition(self.rate, self.pattern, self.modality_rates))


@dataclasses.dataclass(frozen=True)
class DrawnEvaluation:
    """Metrics of a trained model under one condition and several draws of the holes.

    Attributes:
        split: `"valid"` or `"test"`.
        condition: What is missing.
        metrics: Means over the draws.
    """

    split: str
    condition: Condition
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RobustnessCondition:
    """What is missing in a test of `evaluate --robustness`.

    Attributes:
        pattern: Of the holes; empty where modalities are absent as a whole.
        rate: Missing rate; `None` likewise.
        absent: Modalities that are absent.
    """

    pattern: str
    rate: float | None
    absent: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RobustnessTest:
    """Metrics of a trained model under a condition, with one draw of the holes."""

    condition: RobustnessCondition
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run directory.

    Attributes:
        path: The directory.
        name: Its path relative to the folder of runs.
        status: `complete`, `incomplete`, `failed` or `unreadable`.
        problem: Why it is not complete.
        experiment: Its configuration, with `DEFAULTS` filled in; empty if unreadable.
        environment: Versions, backend, fingerprints of the data.
        metrics: Test metrics that are finite numbers.
        history: A row per epoch.
        tests: The run's own test, then its retests.
        robustness: What it withstands, where that was tested.
        drawn: Tests under several draws of the holes, of the trial of methods.
        epoch_seconds: Seconds of an epoch of training; NaN where they are not known.
    """

    path: pathlib.Path
    name: str
    status: str
    problem: str = ""
    experiment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    tests: Sequence[Evaluation] = ()
    robustness: Sequence[RobustnessTest] = ()
    drawn: Sequence[DrawnEvaluation] = ()
    epoch_seconds: float = math.nan

    @property
    def seed(self) -> int:
        return int(self.experiment["seed"])


def ordered(condition: Condition) -> Condition:
    """A condition with its modalities in alphabetical order, to compare."""
    return condition._replace(modality_rates=tuple(sorted(condition.modality_rates)))


def sort_key(run: RunRecord) -> tuple[Any, ...]:
    """Order of runs in a report: by data, model, rates, pattern, site, selection, method, seed."""
    e = run.experiment
    if not e:
        return (1, run.name)
    return (
        0,
        e["dataset"],
        names.model_order(e["model"]),
        e["missing_rate"],
        e["test_missing_rate"],
        e["pattern"] != patterns.PAPER,
        e["pattern"],
        e["site"] != DEFAULTS["site"],
        e["select"] != DEFAULTS["select"],
        names.method_order(e["method"]),
        e["seed"],
        run.name,
    )
