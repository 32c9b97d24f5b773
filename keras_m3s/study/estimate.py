"""How long runs will take: from runs like them that are there, else from a rough table."""

import json
import pathlib
import re
import statistics
from collections.abc import Iterable

from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.registry import datasets, models
from keras_m3s.study.plan import Planned

STARTING = 5.0
"""Seconds that a run takes beside its epochs."""

RETEST = 1.0
"""Seconds of a test under other holes."""

Kind = tuple[str, str, str]


def _kind(experiment: Experiment) -> Kind:
    arguments = json.dumps(experiment.to_dict()["model_arguments"], sort_keys=True)
    return experiment.dataset, experiment.model, arguments


def measured(runs: pathlib.Path) -> dict[Kind, float]:
    """Median seconds of an epoch and gradient of the finished runs in a folder, by kind."""
    found: dict[Kind, list[float]] = {}
    for file in sorted(runs.glob("*/timing.json")):
        run = RunDirectory(file.parent)
        try:
            timing, experiment = run.read_json("timing.json"), run.experiment()
        except (OSError, ValueError):  # half a run, or of another version
            continue
        if timing["epochs"]:
            each = timing["seconds"] / timing["epochs"] / experiment.gradients_per_batch
            found.setdefault(_kind(experiment), []).append(each)
    return {kind: statistics.median(values) for kind, values in found.items()}


def seconds(planned: Planned, known: dict[Kind, float]) -> float:
    """Seconds of a run on one core, at most: it may stop early.

    Args:
        planned: The run.
        known: As `measured` gives it.
    """
    e = planned.experiment
    epoch = known.get(_kind(e))
    if epoch is None:
        named = re.search(r"\btrain=(\d+)", e.dataset)
        rows = int(named[1]) if named else datasets.training_rows(e.dataset) or 1000
        epoch = models.CARDS[e.model].seconds * rows / 1000
    stage = epoch * e.first_stage_epochs / 2
    return (
        STARTING + epoch * e.gradients_per_batch * e.epochs + stage + RETEST * len(planned.retests)
    )


def total(planned: Iterable[Planned], runs: pathlib.Path, jobs: int) -> float:
    """Seconds of all runs that are not there yet, `jobs` at once."""
    known = measured(runs)
    left = [p for p in planned if not RunDirectory(runs / p.experiment.key).complete]
    return sum(seconds(p, known) for p in left) / jobs


def readable(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
