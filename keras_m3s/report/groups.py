"""Records of runs -> groups to compare: the same data and conditions, methods side by side."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.registry import models, patterns
from keras_m3s.report import names, paper
from keras_m3s.report.records import COMPLETE, DEFAULTS, Evaluation, RunRecord, sort_key

SETTING = (
    "dataset",
    "model",
    "model_source",
    "missing_rate",
    "test_missing_rate",
    "pattern",
    "site",
    "select",
)
"""Fields of an experiment that runs of one table share; the others belong to a method."""

TRAINING = tuple(field for field in SETTING if field != "test_missing_rate")
"""Fields that runs of one learning curve, and of one curve over test rates, share."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A method with its configuration, over seeds.

    Attributes:
        method: Name of the method.
        label: The method's title, and what the configuration changes if it is a variation.
        short_label: The same with the method's short title.
        config: The configuration without seed and test rate.
        runs: Complete runs by seed.
    """

    method: str
    label: str
    short_label: str
    config: Mapping[str, Any]
    runs: Mapping[int, RunRecord]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> test value of a metric."""
        return {s: run.metrics[metric] for s, run in self.runs.items() if metric in run.metrics}


@dataclasses.dataclass(frozen=True)
class Group:
    """Arms that compare: the same data, model, missing rates, pattern, site and selection.

    Attributes:
        values: The fields that they share.
        arms: One for each method: the configuration nearest to the paper's.
        variations: Arms of the same methods with other steps, rates, orders and so on.
    """

    values: Mapping[str, Any]
    arms: Sequence[Arm]
    variations: Sequence[Arm] = ()

    @property
    def selected_on_test(self) -> bool:
        """Whether epochs were selected as in the published scripts, some on test data."""
        return bool(self.values["select"] == "paper")

    @property
    def runs(self) -> list[RunRecord]:
        """Runs of `arms`."""
        return [run for arm in self.arms for run in arm.runs.values()]

    @property
    def metrics(self) -> list[str]:
        """All metrics of the runs, those of the paper first."""
        present = list(dict.fromkeys(m for run in self.runs for m in run.metrics))
        main = self.main_metrics
        return main + [m for m in present if m not in main]

    @property
    def main_metrics(self) -> list[str]:
        """The metrics that the paper reports, see `names.main_metrics`."""
        present = dict.fromkeys(m for run in self.runs for m in run.metrics)
        return names.main_metrics(self.values["dataset"], present)

    @property
    def title(self) -> str:
        """For instance `CMU-MOSI · MISA · 40–60 % missing, tested at 60–80 % †`."""
        v = self.values
        parts = [names.dataset_title(v["dataset"]), names.source_title(v)]
        missing = f"{names.rate_title(v['missing_rate'])} missing"
        if v.get("test_missing_rate", v["missing_rate"]) != v["missing_rate"]:
            missing += f", tested at {names.rate_title(v['test_missing_rate'])}"
        parts.append(missing)
        if v["pattern"] != patterns.PAPER:
            parts.append(names.pattern_title(v["pattern"]))
        if v["site"] != DEFAULTS["site"]:
            parts.append(f"holes in {v['site']} vectors")
        mark = f" {names.SELECTED_ON_TEST}" if self.selected_on_test else ""
        return " · ".join(parts) + mark

    @property
    def notes(self) -> list[str]:
        """The explanation of the mark of the title, if it has one."""
        return [names.SELECTED_NOTE] if self.selected_on_test else []


def group_runs(runs: Iterable[RunRecord], by: Sequence[str] = SETTING) -> list[Group]:
    """Complete runs, grouped by fields of their experiments.

    Args:
        runs: As `read_runs` returns them.
        by: The fields, `SETTING` or `TRAINING`.

    Returns:
        Groups in the order of the runs, the arms of each in the paper's order of methods.
    """
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.status == COMPLETE:
            found.setdefault(as_key({k: run.experiment[k] for k in by}), []).append(run)
    return [
        Group({k: members[0].experiment[k] for k in by}, *_arms(members))
        for members in found.values()
    ]


def with_paper_retests(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs, and one more for each retest that the paper has as an experiment of its own.

    Those are Table 4's conditions, trained at 40-60 % and tested at 60-80 %, on any data and model.
    """
    pairs = {(rows.missing_rate, rows.test_missing_rate) for rows in paper.ROWS}
    found = []
    for run in runs:
        found.append(run)
        e = run.experiment
        for test in run.tests[1:]:
            same = test.pattern == e["pattern"] and not test.modality_rates
            if same and (e["missing_rate"], test.rate) in pairs:
                retested = {**e, "test_missing_rate": test.rate}
                found.append(
                    dataclasses.replace(
                        run, experiment=retested, metrics=test.metrics, tests=[test]
                    )
                )
    return sorted(found, key=sort_key)


def duplicates(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Complete runs of the same experiment as an earlier one, which alone counts."""
    seen: set[str] = set()
    again = []
    for run in runs:
        if run.status == COMPLETE:
            key = as_key(run.experiment)
            if key in seen:
                again.append(run)
            seen.add(key)
    return again


def _arms(runs: Sequence[RunRecord]) -> tuple[list[Arm], list[Arm]]:
    """An arm for each method, and the variations of them."""
    members: dict[str, list[RunRecord]] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        config = {k: v for k, v in run.experiment.items() if k not in ("seed", "test_missing_rate")}
        members.setdefault(as_key(config), []).append(run)
        configs[as_key(config)] = config
    nearest = nearest_to_paper(configs.values())
    arms: list[Arm] = []
    variations: list[Arm] = []
    for key, group in members.items():
        config = dict(configs[key])
        method, main = config["method"], nearest[config["method"]]
        full, short = arm_label(config, main), arm_label(config, main, short=True)
        arm = Arm(method, full, short, config, _by_seed(group))
        (variations if changes(config, main) else arms).append(arm)

    def order(arm: Arm) -> Any:
        return names.method_order(arm.method)

    return sorted(arms, key=order), sorted(variations, key=order)


def arm_label(config: Mapping[str, Any], main: Mapping[str, Any], short: bool = False) -> str:
    """A method's title, and what its configuration changes in another one."""
    title = names.method_title(config["method"], short)
    changed = "; ".join(changes(config, main))
    return f"{title}, {changed}" if changed else title


def nearest_to_paper(configs: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Method -> its first configuration with the fewest differences from section 4.4."""

    def distance(config: Mapping[str, Any]) -> int:
        card = models.CARDS.get(config["model"])
        published: dict[str, Any] = {"inner_steps": 1, "first_order": True, "model_arguments": {}}
        published |= dict(card.settings) if card else {}
        published |= dict(models.OWN.settings) if models.is_own(config["model"]) else {}
        return sum(as_key(config.get(k)) != as_key(v) for k, v in published.items())

    nearest: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        best = nearest.setdefault(config["method"], config)
        if distance(config) < distance(best):
            nearest[config["method"]] = config
    return nearest


def changes(config: Mapping[str, Any], main: Mapping[str, Any]) -> list[str]:
    """Fields of a configuration that differ from another's, with their values."""
    fields = {**main, **config}
    changed = [k for k in fields if as_key(config.get(k)) != as_key(main.get(k))]
    return [f"{k} {names.setting(config.get(k))}" for k in changed]


def _by_seed(runs: Iterable[RunRecord]) -> dict[int, RunRecord]:
    """The first run of each seed, with the tests of all its duplicates."""
    found: dict[int, RunRecord] = {}
    for run in runs:
        first = found.get(run.seed)
        found[run.seed] = _with_tests(first, run.tests) if first else run
    return dict(sorted(found.items()))


def _with_tests(run: RunRecord, tests: Iterable[Evaluation]) -> RunRecord:
    """A run with further tests, for instance of the same training at another test rate."""
    seen = {t.condition for t in run.tests}
    more = [t for t in tests if t.condition not in seen]
    return dataclasses.replace(run, tests=[*run.tests, *more])


def as_key(value: Any) -> str:
    """Equal for configurations whose values are equal."""
    return json.dumps(value, sort_keys=True, default=str)
