"""What the paper's tables and figures take to be made, as lists of runs.

    name       runs                                                                        section
    table2     four models x three methods, 40-60 % missing                                5.1
    table3     MMIN and MMIM x three methods x three levels, tested as trained             5.2
    table4     MMIN and MMIM x three methods, trained at 40-60 %, tested at 60-80 %        5.4
    table5     t-tests over the runs of Table 2                                            5.5
    figure1    a metric of MMIN as training goes on, three methods                         1
    figure3    validation and test loss of MMIM as training goes on                        5.3
    figure4    UAR and F1 of MMIN as training goes on                                      5.3

and beyond the paper:

    budget     Table 2 with SPL-TRN given as many gradients as M3S
    matrix     each level trained on x each level tested on, MMIN and MMIM
    steps      M3S with K inner steps, and SPL-TRN with as many gradients
    alpha      M3S with inner rates of a tenth and of ten times the paper's
    order      M3S by first and second order gradients
    site       holes in encoded vectors beside holes in raw sequences
    protocols  holes of other patterns, tested at many rates

`paper` is the first seven, `all` is everything. A run that several of them need is one run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.config import MISSING_LEVELS, Experiment
from keras_m3s.registry import methods, models, patterns

Rate = tuple[float, float]

INNER_STEPS: tuple[int, ...] = (1, 2, 3, 5)
ALPHA_FACTORS: tuple[float, ...] = (0.1, 1.0, 10.0)

QUICK_SETTINGS: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 32,
    "learning_rate": 5e-3,
}
"""For `quick`; what a model's card has under `quick_settings` goes before."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """Holes that a trained model is tested under: their rate `(low, high)` and pattern."""

    missing_rate: Rate
    pattern: str = patterns.PAPER


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run to make, and what else its model is to be tested under."""

    experiment: Experiment
    retests: tuple[Condition, ...] = ()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for all runs of a study.

    Attributes:
        datasets: Data set of the paper -> name of what is taken for it; one that is not in it is
            left out.
        seeds: Seeds of each run.
        quick: Whether to take small models and few epochs.
        select: See `Experiment`.
        methods: What the paper's tables and figures compare.
    """

    datasets: Mapping[str, str]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    quick: bool = False
    select: str = "validation"
    methods: Sequence[str] = dataclasses.field(default_factory=methods.paper)

    def of(
        self,
        model: str,
        methods: Sequence[str] | None = None,
        missing_rate: Rate = MISSING_LEVELS["medium"],
        retests: Sequence[Condition] = (),
        **overrides: Any,
    ) -> Iterator[Planned]:
        """Runs of a model on its data set by each method, or by `methods`, and with each seed."""
        card = models.CARDS[model]
        dataset = self.datasets.get(card.dataset or "")
        if dataset is None:
            return
        values: dict[str, Any] = {"select": self.select}
        if self.quick:
            values |= {**QUICK_SETTINGS, **card.quick_settings}
        for method in methods or self.methods:
            for seed in self.seeds:
                made = Experiment.of(
                    dataset, model, method, missing_rate, seed=seed, **{**values, **overrides}
                )
                yield Planned(made, tuple(retests))


def in_paper() -> tuple[str, ...]:
    """Models that the paper has results of, in the order of Table 2."""
    return tuple(name for name, card in models.CARDS.items() if card.dataset is not None)


def datasets() -> tuple[str, ...]:
    """Data sets of the paper, in the order of Table 2."""
    found = (models.CARDS[model].dataset for model in in_paper())
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _table2(s: Settings) -> Iterator[Planned]:
    for model in in_paper():
        yield from s.of(model)


def _table3(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for level in ("high", "medium", "low"):
            yield from s.of(model, missing_rate=MISSING_LEVELS[level])


def _table4(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table4"):
        yield from s.of(model, retests=[Condition(MISSING_LEVELS["high"])])


def _figure1(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("figure1"):
        yield from s.of(model)


def _figure3(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("figure3"):
        yield from s.of(model)


def _budget(s: Settings) -> Iterator[Planned]:
    for model in in_paper():
        yield from s.of(
            model,
            (*methods.named("comparison"), *methods.equal_budget(), *methods.named("proposed")),
        )


def _matrix(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for level in MISSING_LEVELS.values():
            others = [Condition(rate) for rate in MISSING_LEVELS.values() if rate != level]
            yield from s.of(model, missing_rate=level, retests=others)


def _steps(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for steps in INNER_STEPS[:3] if s.quick else INNER_STEPS:
            yield from s.of(
                model, (*methods.equal_budget(), *methods.named("proposed")), inner_steps=steps
            )


def _alpha(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for factor in ALPHA_FACTORS:
            for planned in s.of(model, methods.named("proposed")):
                rates = planned.experiment.inner_learning_rate
                scaled = (
                    {pattern: rate * factor for pattern, rate in rates.items()}
                    if isinstance(rates, Mapping)
                    else rates * factor
                )
                changed = planned.experiment.replace(inner_learning_rate=scaled)
                yield dataclasses.replace(planned, experiment=changed)


def _order(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for first_order in (True, False):
            yield from s.of(model, methods.named("proposed"), first_order=first_order)


def _site(s: Settings) -> Iterator[Planned]:
    for model in in_paper():
        for site in ("raw", "encoded"):
            yield from s.of(model, site=site)


def _protocols(s: Settings) -> Iterator[Planned]:
    for model in models.in_study("table3"):
        for pattern, card in patterns.CARDS.items():
            if card.trained_range is None:
                continue
            retests = [Condition((rate, rate), pattern) for rate in card.tested_rates]
            yield from s.of(
                model, missing_rate=card.trained_range, retests=retests, pattern=pattern
            )


PAPER: dict[str, Callable[[Settings], Iterator[Planned]]] = {
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table2,
    "figure1": _figure1,
    "figure3": _figure3,
    "figure4": _figure1,
}
BEYOND: dict[str, Callable[[Settings], Iterator[Planned]]] = {
    "budget": _budget,
    "matrix": _matrix,
    "steps": _steps,
    "alpha": _alpha,
    "order": _order,
    "site": _site,
    "protocols": _protocols,
}
STUDIES = PAPER | BEYOND

NAMES: tuple[str, ...] = (*STUDIES, "paper", "all")
"""What `plan` takes."""


def models_of(name: str) -> tuple[str, ...]:
    """Models that a study has rows for."""
    found = plan(name, Settings({d: d for d in datasets()}, seeds=(0,)))
    return tuple(dict.fromkeys(planned.experiment.model for planned in found))


def plan(name: str, settings: Settings) -> list[Planned]:
    """The runs of a study, each once, with all that it is to be tested under.

    Args:
        name: One of `NAMES`.
        settings: What holds for all of them.

    Raises:
        ValueError: If there is no such study.
    """
    groups = {"paper": PAPER, "all": STUDIES}
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {NAMES}. Received: {name!r}.")
    merged: dict[str, Planned] = {}
    for make in groups.get(name, {name: STUDIES.get(name, _table2)}).values():
        for planned in make(settings):
            key = planned.experiment.key
            before = merged.get(key, planned)
            retests = dict.fromkeys((*before.retests, *planned.retests))
            merged[key] = dataclasses.replace(planned, retests=tuple(retests))
    return list(merged.values())
