"""Estimated run times: from finished runs of the same kind, else from the models' cards."""

import json
import pathlib
import re
import statistics
from collections.abc import Iterable

from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.registry import datasets, models
from keras_m3s.study.plan import PlannedRun
from keras_m3s.study.workspace import read_timing

STARTUP_SECONDS = 5.0
"""Time of a run outside its epochs."""

RETEST_SECONDS = 1.0
"""Time of one retest."""

DEFAULT_ROWS = 1000
"""Rows of training data where they are not known by the data set's name."""

RunKind = tuple[str, str, str]
"""Data set, model and its arguments as JSON: what the time of an epoch depends on."""


def _kind(experiment: Experiment) -> RunKind:
    arguments = json.dumps(experiment.to_dict()["model_arguments"], sort_keys=True)
    return experiment.dataset, experiment.model, arguments


def measured_epochs(runs: pathlib.Path) -> dict[RunKind, float]:
    """Median seconds of an epoch, per gradient, of each kind of run in a folder.

    Args:
        runs: Folder of run directories; those that cannot be read are skipped.
    """
    found: dict[RunKind, list[float]] = {}
    for file in sorted(runs.glob("*/timing.json")):
        run = RunDirectory(file.parent)
        try:
            (seconds, epochs), experiment = read_timing(run), run.experiment()
        except (OSError, ValueError, TypeError):  # incomplete, damaged, or of another version
            continue
        if epochs:
            each = seconds / epochs / experiment.gradients_per_batch
            found.setdefault(_kind(experiment), []).append(each)
    return {kind: statistics.median(values) for kind, values in found.items()}


def run_seconds(planned: PlannedRun, measured: dict[RunKind, float]) -> float:
    """Seconds of a run on one core if it trains for all its epochs.

    Args:
        planned: The run.
        measured: As `measured_epochs` returns it.
    """
    e = planned.experiment
    epoch = measured.get(_kind(e))
    if epoch is None:
        in_name = re.search(r"\btrain=(\d+)", e.dataset)  # a config of generated data
        rows = int(in_name[1]) if in_name else datasets.training_rows(e.dataset) or DEFAULT_ROWS
        epoch = models.find(e.model).seconds * rows / 1000
    first_stage = epoch * e.first_stage_epochs / 2
    retests = RETEST_SECONDS * (len(planned.retests) + sum(test.draws for test in planned.drawn))
    return STARTUP_SECONDS + epoch * e.gradients_per_batch * e.epochs + first_stage + retests


def remaining_seconds(planned: Iterable[PlannedRun], runs: pathlib.Path, jobs: int) -> float:
    """Seconds of all runs that are not complete, `jobs` at a time."""
    measured = measured_epochs(runs)
    left = [p for p in planned if not RunDirectory(runs / p.experiment.key).complete]
    return sum(run_seconds(p, measured) for p in left) / jobs


def format_seconds(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
