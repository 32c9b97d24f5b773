"""The runs of each table and figure of the paper, and of studies beyond it.

    name       runs                                                                        section
    table2     four models x three methods, 40-60 % missing                                5.1
    table3     MMIN and MMIM x three methods x three levels, tested as trained             5.2
    table4     MMIN and MMIM x three methods, trained at 40-60 %, tested at 60-80 %        5.4
    table5     t-tests over the runs of Table 2                                            5.5
    figure1    a metric of MMIN along training, three methods                              1
    figure3    validation and test loss of MMIM along training                             5.3
    figure4    UAR and F1 of MMIN along training                                           5.3

and beyond the paper:

    budget     Table 2 with SPL-TRN given as many gradients as M3S
    matrix     each level trained on x each level tested on, MMIN and MMIM
    steps      M3S with K inner steps, and SPL-TRN with as many gradients
    alpha      M3S with inner rates of a tenth and of ten times the paper's
    order      M3S with first and second order gradients
    site       T on encoded vectors and on raw sequences
    protocols  the field's protocols of robustness, see `keras_m3s.registry.protocols`

`paper` is the first seven, `all` is everything. A run that several studies share is planned once.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.config import MISSING_LEVELS, SITES, Experiment
from keras_m3s.experiments.drawn_tests import DrawnTest
from keras_m3s.registry import datasets, methods, models, protocols
from keras_m3s.registry.patterns import Condition as Condition
from keras_m3s.registry.patterns import Rate

INNER_STEPS: tuple[int, ...] = (1, 2, 3, 5)
ALPHA_FACTORS: tuple[float, ...] = (0.1, 1.0, 10.0)

QUICK_SETTINGS: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 32,
    "learning_rate": 5e-3,
}
"""Settings of quick runs; `quick_settings` of a model's card take precedence."""


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run to train and test, and further tests of its model.

    Attributes:
        experiment: What to train.
        retests: Further conditions to test under.
        drawn: Tests under several draws of the holes.
    """

    experiment: Experiment
    retests: tuple[Condition, ...] = ()
    drawn: tuple[DrawnTest, ...] = ()


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that all runs of a study share.

    Attributes:
        datasets: Data set of the paper -> name of the one to train on. Models whose data set is not
            in it are left out.
        seeds: Seeds of each run.
        quick: Whether to take small models and few epochs.
        select: See `Experiment`.
        methods: Methods that the paper's tables and figures compare.
        models: Models to take, of one's own too; `None` for those of each study.
        dataset: Name or path of the data for models of one's own, and for those whose data set is
            not in `datasets` and that take labels of either kind.
        protocols: Protocols of robustness to take; `None` for all.
        overrides: Fields of all experiments, such as `epochs`, in place of the published ones.
    """

    datasets: Mapping[str, str]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    quick: bool = False
    select: str = "validation"
    methods: Sequence[str] = dataclasses.field(default_factory=methods.paper)
    models: Sequence[str] | None = None
    dataset: str | None = None
    protocols: Sequence[str] | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def chosen(self, of_study: Sequence[str]) -> Sequence[str]:
        """The models of a study, or those to take instead."""
        return of_study if self.models is None else self.models

    def dataset_of(self, model: str) -> str | None:
        """The data to train a model on; `None` where it is left out."""
        card = models.find(model)
        found = self.datasets.get(card.dataset or "")
        if found is None and (models.is_own(model) or card.both_tasks):
            return self.dataset
        return found

    def runs(
        self,
        model: str,
        methods: Sequence[str] | None = None,
        missing_rate: Rate = MISSING_LEVELS["medium"],
        retests: Sequence[Condition] = (),
        **overrides: Any,
    ) -> Iterator[PlannedRun]:
        """Runs of a model on its data set, for each method and seed.

        Args:
            model: Name of a model.
            methods: Names of methods; `None` for `self.methods`.
            missing_rate: `(low, high)` in training and testing.
            retests: Further conditions to test under.
            **overrides: Other fields of the experiments.
        """
        card = models.find(model)
        dataset = self.dataset_of(model)
        if dataset is None or (self.models is not None and model not in self.models):
            return
        values: dict[str, Any] = {"select": self.select}
        if self.quick:
            values |= {**QUICK_SETTINGS, **card.quick_settings}
        values |= self.overrides
        for method in methods or self.methods:
            for seed in self.seeds:
                experiment = Experiment.of(
                    dataset, model, method, missing_rate, seed=seed, **{**values, **overrides}
                )
                yield PlannedRun(experiment, tuple(retests))


def paper_models() -> tuple[str, ...]:
    """Models that the paper has results of, in the order of Table 2."""
    cards = models.CARDS.items()
    return tuple(name for name, card in cards if card.in_paper and card.dataset is not None)


def paper_datasets() -> tuple[str, ...]:
    """Data sets of the models' cards: the paper's, in the order of Table 2."""
    found = (card.dataset for card in models.CARDS.values())
    return tuple(dict.fromkeys(name for name in found if name is not None))


def on_one_dataset(dataset: str) -> dict[str, str]:
    """`Settings.datasets` that train all models on one data set.

    Args:
        dataset: Name of a data set, or path of a feature file, whose labels count as scores. Models
            whose own data set has labels of the other kind, scores or classes, are not in it; see
            `Settings.dataset` for those that take either.
    """
    card = datasets.find(dataset)
    scores = card is None or card.label_range is not None
    return {
        name: dataset
        for name in paper_datasets()
        if (datasets.CARDS[name].label_range is not None) == scores
    }


def _table2(s: Settings) -> Iterator[PlannedRun]:
    for model in paper_models():
        yield from s.runs(model)


def _table3(s: Settings) -> Iterator[PlannedRun]:
    for model in models.in_study("table3"):
        for level in ("high", "medium", "low"):
            yield from s.runs(model, missing_rate=MISSING_LEVELS[level])


def _table4(s: Settings) -> Iterator[PlannedRun]:
    for model in models.in_study("table4"):
        yield from s.runs(model, retests=[Condition(MISSING_LEVELS["high"])])


def _figure1(s: Settings) -> Iterator[PlannedRun]:
    for model in models.in_study("figure1"):
        yield from s.runs(model)


def _figure3(s: Settings) -> Iterator[PlannedRun]:
    for model in models.in_study("figure3"):
        yield from s.runs(model)


def _figure4(s: Settings) -> Iterator[PlannedRun]:
    for model in models.in_study("figure4"):
        yield from s.runs(model)


def _budget(s: Settings) -> Iterator[PlannedRun]:
    compared = (
        *methods.named("comparison"),
        *methods.equal_budget(),
        *methods.named("proposed"),
    )
    for model in s.chosen(paper_models()):
        yield from s.runs(model, compared)


def _matrix(s: Settings) -> Iterator[PlannedRun]:
    for model in s.chosen(models.in_study("table3")):
        for level in MISSING_LEVELS.values():
            others = [Condition(rate) for rate in MISSING_LEVELS.values() if rate != level]
            yield from s.runs(model, missing_rate=level, retests=others)


def _steps(s: Settings) -> Iterator[PlannedRun]:
    compared = (*methods.equal_budget(), *methods.named("proposed"))
    for model in s.chosen(models.in_study("table3")):
        for steps in INNER_STEPS[:3] if s.quick else INNER_STEPS:
            yield from s.runs(model, compared, inner_steps=steps)


def _alpha(s: Settings) -> Iterator[PlannedRun]:
    for model in s.chosen(models.in_study("table3")):
        for factor in ALPHA_FACTORS:
            for planned in s.runs(model, methods.named("proposed")):
                rates = planned.experiment.inner_learning_rate
                scaled = (
                    {pattern: rate * factor for pattern, rate in rates.items()}
                    if isinstance(rates, Mapping)
                    else rates * factor
                )
                changed = planned.experiment.replace(inner_learning_rate=scaled)
                yield dataclasses.replace(planned, experiment=changed)


def _order(s: Settings) -> Iterator[PlannedRun]:
    for model in s.chosen(models.in_study("table3")):
        for first_order in (True, False):
            yield from s.runs(model, methods.named("proposed"), first_order=first_order)


def _site(s: Settings) -> Iterator[PlannedRun]:
    for model in s.chosen(paper_models()):
        for site in SITES:
            yield from s.runs(model, site=site)


def _protocols(s: Settings) -> Iterator[PlannedRun]:
    for model in s.chosen(tuple(models.CARDS)):
        own = models.is_own(model)
        dataset, _ = datasets.split_name(s.dataset_of(model) or "")
        for name, protocol in protocols.cards().items():
            if s.protocols is not None and name not in s.protocols:
                continue
            if own and protocol.names_modalities:
                continue
            tests = protocol.of(dataset).values()
            once = protocol.trained
            for trained in [once] if once else tests:
                yield from s.runs(
                    model,
                    missing_rate=trained.missing_rate,
                    retests=tuple(tests) if once else (),
                    pattern=trained.pattern,
                )


PAPER_STUDIES: dict[str, Callable[[Settings], Iterator[PlannedRun]]] = {
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table2,
    "figure1": _figure1,
    "figure3": _figure3,
    "figure4": _figure4,
}
FURTHER_STUDIES: dict[str, Callable[[Settings], Iterator[PlannedRun]]] = {
    "budget": _budget,
    "matrix": _matrix,
    "steps": _steps,
    "alpha": _alpha,
    "order": _order,
    "site": _site,
    "protocols": _protocols,
}
STUDIES = PAPER_STUDIES | FURTHER_STUDIES
_COLLECTIONS = {"paper": PAPER_STUDIES, "all": STUDIES}

NAMES: tuple[str, ...] = (*STUDIES, *_COLLECTIONS)
"""Studies and collections of studies that `plan` knows."""


def models_of(name: str) -> tuple[str, ...]:
    """Models that a study has runs of."""
    found = plan(name, Settings({d: d for d in paper_datasets()}, seeds=(0,)))
    return tuple(dict.fromkeys(planned.experiment.model for planned in found))


def plan(name: str, settings: Settings) -> list[PlannedRun]:
    """The runs of a study, each once, with all conditions it is to be tested under.

    Args:
        name: One of `NAMES`.
        settings: Settings that they share.

    Raises:
        ValueError: If there is no such study, or it is the paper's and a model is asked for.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {NAMES}. Received: {name!r}.")
    own = [model for model in settings.models or () if models.is_own(model)]
    if own and name not in FURTHER_STUDIES:
        raise ValueError(
            f"With a model of one's own the study must be one of {tuple(FURTHER_STUDIES)}. "
            f"Received: {name!r}, which is of the paper's models."
        )
    studies = _COLLECTIONS.get(name) or {name: STUDIES[name]}
    merged: dict[str, PlannedRun] = {}
    for study in studies.values():
        for planned in study(settings):
            key = planned.experiment.key
            before = merged.get(key, planned)
            retests = dict.fromkeys((*before.retests, *planned.retests))
            merged[key] = dataclasses.replace(planned, retests=tuple(retests))
    return list(merged.values())
