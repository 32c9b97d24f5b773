"""Run directories -> what was run, as plain records that reports are made of.

Files are read as they lie there, without `Experiment`: a report must also open runs of an older or
newer version. What a directory may hold beside the files of `keras_m3s.experiments.run_directory`:

    retest-*.json   {"test_missing_rate": [low, high], "pattern": "...", "metrics": {...}}: the
                    trained model under other holes; without `"pattern"` of the run's own
    error.json      {"error": "..."}: why the run failed
    history.csv     may have `test_loss` and `test_<metric>` beside `val_`
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.registry import models, patterns
from keras_m3s.report import names, paper

COMPLETE, INCOMPLETE, FAILED, UNREADABLE = "complete", "incomplete", "failed", "unreadable"

NEEDED = ("dataset", "model", "method", "missing_rate", "test_missing_rate", "seed")
DEFAULTS: dict[str, Any] = {"site": "raw", "pattern": patterns.PAPER, "select": "validation"}

SETTING = ("dataset", "model", "missing_rate", "test_missing_rate", "pattern", "site", "select")
"""Runs that agree in these stand in one table; the rest of a configuration belongs to a method."""

TRAINING = tuple(field for field in SETTING if field != "test_missing_rate")
"""The same before testing: what learning curves and test rates are looked at by."""

Rate = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Retest:
    """A trained model at a test missing rate."""

    rate: Rate
    pattern: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        path: The directory.
        name: Its path below the folder of runs.
        status: `complete`, `incomplete`, `failed` or `unreadable`.
        problem: What went wrong, where something did.
        experiment: Its configuration, with `DEFAULTS` filled in; empty if unreadable.
        environment: Versions, backend, fingerprints of the data.
        metrics: Test metrics that are finite numbers.
        history: A row per epoch.
        tests: The run's own test, then its retests.
    """

    path: pathlib.Path
    name: str
    status: str
    problem: str = ""
    experiment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    tests: Sequence[Retest] = ()

    @property
    def seed(self) -> int:
        return int(self.experiment["seed"])


@dataclasses.dataclass(frozen=True)
class Arm:
    """A method with its configuration, over seeds.

    Attributes:
        method: As in the experiments.
        label: The method's title; of a variation also what it changes.
        config: All of the configuration but the seed.
        runs: Complete runs by seed.
    """

    method: str
    label: str
    config: Mapping[str, Any]
    runs: Mapping[int, Run]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> test value of a metric."""
        return {s: run.metrics[metric] for s, run in self.runs.items() if metric in run.metrics}


@dataclasses.dataclass(frozen=True)
class Group:
    """Arms that compare: the same data, model, missing rates, pattern, site and selection.

    Attributes:
        values: What they have in common.
        arms: One for each method, the one nearest to the paper's settings.
        variations: Arms of the same methods with other settings: steps, rates, orders.
    """

    values: Mapping[str, Any]
    arms: Sequence[Arm]
    variations: Sequence[Arm] = ()

    @property
    def selected_on_test(self) -> bool:
        return bool(self.values["select"] == "paper")

    @property
    def runs(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.runs.values()]

    @property
    def metrics(self) -> list[str]:
        """All metrics of the runs, those of the paper first."""
        present = list(dict.fromkeys(m for run in self.runs for m in run.metrics))
        main = self.main_metrics
        return main + [m for m in present if m not in main]

    @property
    def main_metrics(self) -> list[str]:
        """Those of the paper, see `names.main_metrics`."""
        present = dict.fromkeys(m for run in self.runs for m in run.metrics)
        return names.main_metrics(self.values["dataset"], present)

    @property
    def title(self) -> str:
        """For instance `CMU-MOSI · MISA · 40–60 % missing, tested at 60–80 % †`."""
        v = self.values
        parts = [names.dataset_title(v["dataset"]), names.model_title(v["model"])]
        missing = f"{names.rate_title(v['missing_rate'])} missing"
        if v.get("test_missing_rate", v["missing_rate"]) != v["missing_rate"]:
            missing += f", tested at {names.rate_title(v['test_missing_rate'])}"
        parts.append(missing)
        if v["pattern"] != patterns.PAPER:
            parts.append(names.pattern_title(v["pattern"]))
        if v["site"] != "raw":
            parts.append(f"holes in {v['site']} vectors")
        mark = f" {names.SELECTED_ON_TEST}" if self.selected_on_test else ""
        return " · ".join(parts) + mark


def read_runs(folder: pathlib.Path) -> list[Run]:
    """All runs in a folder and the folders below it, in the order of the report.

    Args:
        folder: What `--runs` named.

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
    return sorted(runs, key=_order)


def read_run(path: pathlib.Path, folder: pathlib.Path) -> Run:
    """One run directory; whatever is wrong with it ends up in `status` and `problem`."""
    name = path.relative_to(folder).as_posix()
    name = path.name if name == "." else name
    try:
        experiment = DEFAULTS | json.loads((path / "experiment.json").read_text())
        absent = [key for key in NEEDED if key not in experiment]
        if absent:
            raise ValueError(
                f"experiment.json must have all of its fields. Received: none of {absent}."
            )
        for key in ("missing_rate", "test_missing_rate"):
            experiment[key] = _rate(experiment[key])
        file = path / "environment.json"
        environment = json.loads(file.read_text()) if file.is_file() else {}
        # Where a run says it there: what was chosen how is a matter of the numbers.
        experiment["select"] = environment.get("select", experiment["select"])
        history = RunDirectory(path).read_history()
        metrics, tests = _tests(path, experiment)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return Run(path, name, UNREADABLE, f"{type(error).__name__}: {error}")
    status, problem = COMPLETE, ""
    if not (path / "metrics.json").is_file():
        status, problem = INCOMPLETE, f"{len(history)} of {experiment.get('epochs', '?')} epochs"
        if (path / "error.json").is_file():
            status, problem = FAILED, _error(path / "error.json")
    return Run(path, name, status, problem, experiment, environment, metrics, history, tests)


def groups(runs: Iterable[Run], by: Sequence[str] = SETTING) -> list[Group]:
    """Complete runs, put together where they agree.

    Args:
        runs: As `read_runs` returns them.
        by: Fields of the experiment that tell groups apart.

    Returns:
        Groups in the order of the runs, the arms of each in the paper's order of methods.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.status == COMPLETE:
            found.setdefault(_key({k: run.experiment[k] for k in by}), []).append(run)
    return [
        Group({k: members[0].experiment[k] for k in by}, *_arms(members))
        for members in found.values()
    ]


def with_paper_retests(runs: Iterable[Run]) -> list[Run]:
    """The runs, and those retests as runs that the paper has as experiments of their own.

    That is Table 4: trained at 40-60 %, tested at 60-80 %, on whatever data and model.
    """
    pairs = {(b.missing_rate, b.test_missing_rate) for b in paper.BLOCKS}
    found, more = [], []
    for run in runs:
        found.append(run)
        for test in run.tests[1:]:
            e = run.experiment
            if test.pattern == e["pattern"] and (e["missing_rate"], test.rate) in pairs:
                experiment = {**e, "test_missing_rate": test.rate}
                more.append(
                    dataclasses.replace(
                        run, experiment=experiment, metrics=test.metrics, tests=[test]
                    )
                )
    return sorted([*found, *more], key=_order)


def duplicates(runs: Iterable[Run]) -> list[Run]:
    """Complete runs that repeat an earlier one's experiment; only the first counts."""
    seen: set[str] = set()
    again = []
    for run in runs:
        if run.status == COMPLETE:
            key = _key(run.experiment)
            if key in seen:
                again.append(run)
            seen.add(key)
    return again


def _arms(runs: Sequence[Run]) -> tuple[list[Arm], list[Arm]]:
    """An arm for each method, and the variations of them."""
    found: dict[str, list[Run]] = {}
    configs = {}
    for run in runs:
        config = {k: v for k, v in run.experiment.items() if k not in ("seed", "test_missing_rate")}
        found.setdefault(_key(config), []).append(run)
        configs[_key(config)] = config
    nearest: dict[str, Mapping[str, Any]] = {}
    for config in configs.values():
        best = nearest.setdefault(config["method"], config)
        if _changes(config, _published(config)) < _changes(best, _published(config)):
            nearest[config["method"]] = config
    arms: list[Arm] = []
    variations: list[Arm] = []
    for key, members in found.items():
        config = configs[key]
        main = nearest[config["method"]]
        label = names.method_title(config["method"])
        changed = [k for k in {**main, **config} if _key(config.get(k)) != _key(main.get(k))]
        if changed:
            changes = (f"{k} {names.setting(config.get(k))}" for k in changed)
            label += f", {'; '.join(changes)}"
        by_seed: dict[int, Run] = {}
        for run in members:
            first = by_seed.get(run.seed)
            by_seed[run.seed] = _with_tests(first, run.tests) if first else run
        arm = Arm(config["method"], label, config, dict(sorted(by_seed.items())))
        (variations if changed else arms).append(arm)

    def order(arm: Arm) -> Any:
        return names.method_order(arm.method)

    return sorted(arms, key=order), sorted(variations, key=order)


def _published(config: Mapping[str, Any]) -> dict[str, Any]:
    """Section 4.4's settings of a model, as JSON has them."""
    published = {"inner_steps": 1, "first_order": True, "model_arguments": {}}
    card = models.CARDS.get(config["model"])
    return published | dict(card.settings if card else {})


def _changes(config: Mapping[str, Any], published: Mapping[str, Any]) -> int:
    return sum(_key(config.get(k)) != _key(v) for k, v in published.items())


def _with_tests(run: Run, tests: Iterable[Retest]) -> Run:
    """A run whose like was trained again for another test rate: one training, all its tests."""
    seen = {(t.rate, t.pattern) for t in run.tests}
    more = [t for t in tests if (t.rate, t.pattern) not in seen]
    return dataclasses.replace(run, tests=[*run.tests, *more])


def _order(run: Run) -> tuple[Any, ...]:
    e = run.experiment
    if not e:
        return (1, run.name)
    return (
        0,
        str(e["dataset"]),
        names.model_order(e["model"]),
        e["missing_rate"],
        e["test_missing_rate"],
        str(e["pattern"]) != patterns.PAPER,
        str(e["pattern"]),
        str(e["site"]) != "raw",
        str(e["select"]) != "validation",
        names.method_order(e["method"]),
        e["seed"],
        run.name,
    )


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _rate(value: Any) -> Rate:
    low, high = (float(v) for v in value)
    return low, high


def _tests(
    path: pathlib.Path, experiment: Mapping[str, Any]
) -> tuple[dict[str, float], list[Retest]]:
    metrics: dict[str, float] = {}
    tests = []
    pattern = str(experiment["pattern"])
    if (path / "metrics.json").is_file():
        metrics = _finite(json.loads((path / "metrics.json").read_text()))
        tests.append(Retest(experiment["test_missing_rate"], pattern, metrics))
    seen = {(t.rate, t.pattern) for t in tests}
    for file in sorted(path.glob("retest-*.json")):
        values = json.loads(file.read_text())
        retest = Retest(
            _rate(values["test_missing_rate"]),
            str(values.get("pattern", pattern)),
            _finite(values["metrics"]),
        )
        if (retest.rate, retest.pattern) not in seen:
            seen.add((retest.rate, retest.pattern))
            tests.append(retest)
    return metrics, tests


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        k: float(v)
        for k, v in values.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
    }


def _error(file: pathlib.Path) -> str:
    try:
        return str(json.loads(file.read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "error.json cannot be read"
