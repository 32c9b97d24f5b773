"""Run directories -> records of plain values, from which reports are made.

Files are read without `Experiment`, because a report must also open runs of older and newer
versions. Those that a report reads beside `experiment.json`, `environment.json` and `metrics.json`,
all of them optional:

    retest-*.json   {"test_missing_rate": [low, high], "pattern": "...", "metrics": {...}}: the
                    trained model tested under other conditions; `"pattern"` defaults to the run's,
                    `"modality_rates"`, {modality: [low, high]}, to none
    error.json      {"error": "..."}: why the run failed
    draws-*.json    {"split": "test", "test_missing_rate": [low, high], "draws": [metrics, ...]}:
                    the same under several draws of the holes; `"pattern"` and
                    `"modality_rates"` as in retests
    timing.json     {"seconds": ..., "epochs": ...}
    robustness.csv  what `keras-m3s evaluate --robustness` found
    history.csv     may have `test_loss` and `test_<metric>` beside `val_`
"""

import csv
import json
import math
import os
import pathlib
import statistics
import sys
from collections.abc import Mapping
from typing import Any

from keras_m3s.experiments.run_directory import DamagedRunError, RunDirectory
from keras_m3s.registry.patterns import Condition
from keras_m3s.report.records import (
    COMPLETE,
    DEFAULTS,
    FAILED,
    INCOMPLETE,
    UNREADABLE,
    DrawnEvaluation,
    Evaluation,
    Rate,
    RobustnessCondition,
    RobustnessTest,
    RunRecord,
    ordered,
    sort_key,
)

NEEDED = ("dataset", "model", "method", "missing_rate", "test_missing_rate", "seed")

ROBUSTNESS = "robustness.csv"

MAX_NESTING = 20
"""Levels of lists and objects in a JSON file; a run never needs as many."""


def read_runs(folder: pathlib.Path) -> list[RunRecord]:
    """All runs in a folder and the folders below it, in the order of the report.

    Args:
        folder: The folder of runs.

    Raises:
        FileNotFoundError: If there is no run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The folder of runs must exist. Received: {folder}, which does not. "
            "Pass the folder that `keras-m3s train --runs` wrote to."
        )
    runs = [read_run(f.parent, folder) for f in sorted(folder.rglob("experiment.json"))]
    if not runs:
        raise FileNotFoundError(
            "The folder of runs must hold at least one directory with experiment.json. Received: "
            f"{folder}, which holds none. Make runs with `keras-m3s train --runs {folder}` first."
        )
    return sorted(runs, key=sort_key)


def read_run(path: pathlib.Path, folder: pathlib.Path) -> RunRecord:
    """One run directory; a missing, damaged or malformed file makes its status `unreadable`.

    Args:
        path: The directory.
        folder: The folder of runs.
    """
    name = path.relative_to(folder).as_posix()
    name = path.name if name == "." else name
    name = name.encode(errors="replace").decode()  # file systems allow names that are not UTF-8
    run = RunDirectory(path)
    try:
        experiment = _read_experiment(run)
        environment = _read_environment(run)
        history = run.read_history()
        tests = _read_tests(run, experiment)
        robustness = _read_robustness(run)
        drawn = _read_drawn(run, experiment)
    except (OSError, ValueError) as error:
        problem = str(error).replace(f"{path}{os.sep}", "")
        return RunRecord(path, name, UNREADABLE, problem)
    status, problem = COMPLETE, ""
    if not run.complete:
        status, problem = INCOMPLETE, f"{len(history)} of {experiment.get('epochs', '?')} epochs"
        if (path / "error.json").is_file():
            status, problem = FAILED, _read_error(run)
    metrics = tests[0].metrics if run.complete else {}
    return RunRecord(
        path,
        name,
        status,
        problem,
        experiment,
        environment,
        metrics,
        history,
        tests,
        robustness,
        drawn,
        _epoch_seconds(run),
    )


def read_metrics(run: RunDirectory, name: str = "metrics.json") -> dict[str, float]:
    """Test metrics that are finite numbers.

    Args:
        run: The run.
        name: `metrics.json`, or the name of a retest file.

    Raises:
        OSError: If the file cannot be read.
        DamagedRunError: If it does not hold metrics.
    """
    values: Any = _read_object(run, name)
    if name != "metrics.json":
        values = values.get("metrics")
        if not isinstance(values, dict):
            raise _damaged(name, "`metrics` as an object", values)
    return {metric: float(value) for metric, value in values.items() if _is_number(value)}


def _read_experiment(run: RunDirectory) -> dict[str, Any]:
    file = "experiment.json"
    experiment = DEFAULTS | _read_object(run, file)
    absent = [key for key in NEEDED if key not in experiment]
    if absent:
        raise DamagedRunError(f"{file} must have the fields {NEEDED}. Received: none of {absent}.")
    for key in ("dataset", "model", "method", "pattern", "site", "select"):
        if not isinstance(experiment[key], str):
            raise _damaged(file, f"`{key}` as a string", experiment[key])
    if type(experiment["seed"]) is not int:
        raise _damaged(file, "`seed` as a whole number", experiment["seed"])
    for key in ("missing_rate", "test_missing_rate"):
        experiment[key] = _rate(file, key, experiment[key])
    return experiment


def _read_environment(run: RunDirectory) -> dict[str, Any]:
    file = "environment.json"
    if not (run.path / file).is_file():
        return {}
    environment = _read_object(run, file)
    for key in ("packages", "data"):
        if environment.get(key) is None:
            environment[key] = {}
        if not isinstance(environment[key], dict):
            raise _damaged(file, f"`{key}` as an object", environment[key])
    return environment


def _read_tests(run: RunDirectory, experiment: Mapping[str, Any]) -> list[Evaluation]:
    """The run's own test if it is complete, then its retests; the first of each condition."""
    pattern, tests = experiment["pattern"], []
    if run.complete:
        tests.append(Evaluation(experiment["test_missing_rate"], pattern, read_metrics(run)))
    for path in sorted(run.path.glob("retest-*.json")):
        rate, tested, own = _read_condition(path.name, _read_object(run, path.name), pattern)
        tests.append(Evaluation(rate, tested, read_metrics(run, path.name), own))
    first: dict[Condition, Evaluation] = {}
    for test in tests:
        first.setdefault(test.condition, test)
    return list(first.values())


def _read_condition(name: str, values: Mapping[str, Any], pattern: str) -> Condition:
    """What is missing in a test, its fields being those of a retest's file."""
    tested = values.get("pattern", pattern)
    if not isinstance(tested, str):
        raise _damaged(name, "`pattern` as a string", tested)
    rate = _rate(name, "test_missing_rate", values.get("test_missing_rate"))
    own = values.get("modality_rates", {})
    if not isinstance(own, dict):
        raise _damaged(name, "`modality_rates` as an object", own)
    own_rates = tuple((m, _rate(name, f"modality_rates.{m}", r)) for m, r in own.items())
    return Condition(rate, tested, own_rates)


def _read_drawn(run: RunDirectory, experiment: Mapping[str, Any]) -> list[DrawnEvaluation]:
    """Tests under several draws; metrics that are not finite under each draw are left out."""
    found = []
    for path in sorted(run.path.glob("draws-*.json")):
        values = _read_object(run, path.name)
        condition = _read_condition(path.name, values, experiment["pattern"])
        split, draws = values.get("split"), values.get("draws")
        if not isinstance(split, str):
            raise _damaged(path.name, "`split` as a string", split)
        if not isinstance(draws, list) or not draws or not all(isinstance(d, dict) for d in draws):
            raise _damaged(path.name, "`draws` as a list of objects", draws)
        means = {
            metric: statistics.fmean(draw[metric] for draw in draws)
            for metric in draws[0]
            if all(_is_number(draw.get(metric)) for draw in draws)
        }
        found.append(DrawnEvaluation(split, ordered(condition), means))
    return found


def _epoch_seconds(run: RunDirectory) -> float:
    try:
        values = _read_object(run, "timing.json")
    except (OSError, ValueError):
        return math.nan
    seconds, epochs = values.get("seconds"), values.get("epochs")
    return seconds / epochs if _is_number(seconds) and _is_number(epochs) and epochs else math.nan


def _read_robustness(run: RunDirectory) -> list[RobustnessTest]:
    """Rows of robustness.csv; metrics that are not finite are left out."""
    file = run.path / ROBUSTNESS
    if not file.is_file():
        return []
    found = []
    try:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                where = [row.pop(name) for name in ("pattern", "rate", "absent", "draw")]
                pattern, rate, absent, _ = where
                names_absent = tuple(absent.split("+")) if absent else ()
                condition = RobustnessCondition(
                    pattern, float(rate) if rate else None, names_absent
                )
                values = {metric: float(value) for metric, value in row.items()}
                finite = {metric: value for metric, value in values.items() if _is_number(value)}
                found.append(RobustnessTest(condition, finite))
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise DamagedRunError(
            f"{ROBUSTNESS} must be as `keras-m3s evaluate --robustness` wrote it. "
            f"Received: {error!r}. Run that again."
        ) from error
    return found


def _read_error(run: RunDirectory) -> str:
    try:
        return str(_read_object(run, "error.json")["error"])
    except (OSError, ValueError, KeyError):
        return "error.json cannot be read"


def _read_object(run: RunDirectory, name: str) -> dict[str, Any]:
    """A JSON object that can be printed in any format of a report."""
    values = run.read_json(name)
    if _is_nested(values, MAX_NESTING):
        raise DamagedRunError(
            f"{name} must not be nested more than {MAX_NESTING} levels deep. Received: more."
        )
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DamagedRunError(f"{name} must hold valid Unicode. Received: {error}.") from error
    return values


def _is_nested(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than some levels deep."""
    inside = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)):
        return False
    return levels == 0 or any(_is_nested(one, levels - 1) for one in inside)


def _rate(file: str, key: str, value: Any) -> Rate:
    pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    if not pair or not 0 <= value[0] <= value[1] <= 1:
        raise _damaged(file, f"`{key}` as [low, high] within [0, 1]", value)
    return float(value[0]), float(value[1])


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, one that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _damaged(file: str, wanted: str, value: Any) -> DamagedRunError:
    return DamagedRunError(f"{file} must hold {wanted}. Received: {value!r}.")
