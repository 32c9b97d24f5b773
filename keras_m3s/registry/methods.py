"""The training methods by name: the paper's three, and controls beyond it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


def _one(inner_steps: int) -> int:
    return 1


def _two(inner_steps: int) -> int:
    return 2


def _inner_and_outer(inner_steps: int) -> int:
    return inner_steps + 1


@dataclasses.dataclass(frozen=True)
class MethodCard:
    """A way to train a base model on incomplete input.

    Attributes:
        title: As tables print it.
        short_title: As legends print it.
        wrapper: Import path of a function `(model, missing, experiment) -> WithMissing`, which puts
            the missing-modality transform and the method's training step around a base model.
        role: Its part in comparisons. `"baseline"`: differences are from it. `"proposed"`: what is
            compared with all others. `"control"`: beyond the paper. `"trial"`: of the trial of
            `keras_m3s.registry.trial` alone. `"comparison"`: the rest.
        double_batches: Whether a batch holds support and query rows.
        fixed_draws: Whether each example keeps its hole in all epochs.
        passes: K -> passes over the training data in an epoch.
        gradients: K -> gradients of `batch_size` rows for each `batch_size` rows of training data
            in an epoch.
        settings: Defaults of `Experiment` that it brings; they take precedence over the model's.
        options: Keyword arguments of its wrapper, `WithMissing` or `M3S`.
        holes: Keyword arguments of `MissingModality` in place of the experiment's, in training and
            validation. Tests keep how holes are filled, and have their own rates and pattern.
        style: Color, line style and marker of its curves, as Matplotlib has them.
    """

    title: str
    short_title: str
    wrapper: str
    role: str = "control"
    double_batches: bool = False
    fixed_draws: bool = False
    passes: Callable[[int], int] = _one
    gradients: Callable[[int], int] = _one
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    holes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    style: Mapping[str, Any] | None = None


MIXED = {"span": 0.6, "modality": 0.2, "none": 0.2}
MOMENTUM = 0.99


def _random_holes(name: str, **values: Any) -> MethodCard:
    """Random holes with twice the passes, an arm of the trial."""
    values = {"wrapper": "keras_m3s.experiments.build:with_missing"} | values
    return MethodCard(
        title=f"Random holes: {name}",
        short_title=name,
        role="trial",
        passes=_inner_and_outer,
        gradients=_inner_and_outer,
        **values,
    )


def _consistency(name: str, **values: Any) -> MethodCard:
    """Two draws for each row, an arm of the trial."""
    values = {"options": {"consistency": 1.0}} | values
    return MethodCard(
        title=f"Random holes: {name}",
        short_title=name,
        wrapper="keras_m3s.experiments.build:with_missing",
        role="trial",
        gradients=_two,
        **values,
    )


def _meta(name: str, **values: Any) -> MethodCard:
    """A variant of M3S, an arm of the trial."""
    values = {"double_batches": True} | values
    return MethodCard(
        title=name,
        short_title=name,
        wrapper="keras_m3s.experiments.build:m3s",
        role="trial",
        gradients=_inner_and_outer,
        **values,
    )


CARDS: dict[str, MethodCard] = {
    # Section 4.4: fixed holes; fresh holes at each step; fresh holes in Algorithm 1.
    "orig": MethodCard(
        title="ORIG",
        short_title="ORIG",
        wrapper="keras_m3s.experiments.build:with_missing",
        role="baseline",
        fixed_draws=True,
        style={"color": "#0072B2", "linestyle": "--", "marker": "s"},
    ),
    "spl-trn": MethodCard(
        title="ORIG + SPL-TRN",
        short_title="SPL-TRN",
        wrapper="keras_m3s.experiments.build:with_missing",
        role="comparison",
        style={"color": "#E69F00", "linestyle": "-.", "marker": "^"},
    ),
    # SPL-TRN with K + 1 passes over the data in an epoch: in each epoch as many gradients of as
    # many rows as M3S. All that counts epochs stays as it is in M3S: how often validation chooses,
    # patience, schedules of the learning rate, MMIM's stage 0.
    "spl-trn-equal": MethodCard(
        title="ORIG + SPL-TRN (equal budget)",
        short_title="SPL-TRN (equal budget)",
        wrapper="keras_m3s.experiments.build:with_missing",
        passes=_inner_and_outer,
        gradients=_inner_and_outer,
        style={"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    ),
    "m3s": MethodCard(
        title="ORIG + M3S",
        short_title="M3S",
        wrapper="keras_m3s.experiments.build:m3s",
        role="proposed",
        double_batches=True,
        gradients=_inner_and_outer,
        style={"color": "#D55E00", "linestyle": "-", "marker": "o"},
    ),
    # The trial, `keras_m3s.registry.trial`: as many gradients as M3S with one inner step.
    "span-layer": _random_holes(
        "a span layer before the model",
        wrapper="keras_m3s.experiments.build:span_layer",
    ),
    "spl-trn-averaged": _random_holes("averaged weights", settings={"averaging": MOMENTUM}),
    "wide": _random_holes("holes of 20 to 80 %", holes={"missing_rate": (0.2, 0.8)}),
    "mixed": _random_holes("mixed holes", holes={"pattern": MIXED}),
    "rescaled": _random_holes("rescaled", holes={"rescale": True}),
    "learned-fill": _random_holes("learned fill", settings={"fill": "learned"}),
    "two-draws": _consistency("consistency"),
    "two-draws-averaged": _consistency(
        "consistency, averaged weights", settings={"averaging": MOMENTUM}
    ),
    "two-draws-wide": _consistency(
        "consistency, holes of 20 to 80 %", holes={"missing_rate": (0.2, 0.8)}
    ),
    "two-draws-mixed": _consistency(
        "consistency, mixed holes, averaged weights",
        holes={"pattern": MIXED},
        settings={"averaging": MOMENTUM},
    ),
    "teacher-average": _random_holes(
        "averaged teacher",
        options={"teacher": "average"},
        settings={"averaging": MOMENTUM},
    ),
    "mldg": _meta("MLDG", options={"outer": "both"}),
    "m3s-averaged": _meta("M3S, averaged weights", settings={"averaging": MOMENTUM}),
    # Each row twice: half of a batch is support, half query.
    "m3s-consistency": _meta(
        "M3S, consistency", options={"consistency": 1.0}, double_batches=False
    ),
}
"""In the order of the paper's tables, then those of the trial."""


def named(*roles: str) -> tuple[str, ...]:
    """Methods with one of some roles, in their order; see `MethodCard`."""
    return tuple(name for name, card in CARDS.items() if card.role in roles)


def paper() -> tuple[str, ...]:
    """The methods of section 4.4, in the paper's order."""
    return named("baseline", "comparison", "proposed")


def main_pair() -> tuple[str, str]:
    """The baseline and the proposed method: what the paper's tables give the difference of."""
    return named("baseline")[0], named("proposed")[0]


def equal_budget() -> tuple[str, ...]:
    """Controls that take as many gradients as the proposed method."""
    wanted = CARDS[main_pair()[1]].gradients
    return tuple(m for m in named("control") if CARDS[m].gradients(2) == wanted(2))


def compared() -> tuple[tuple[str, str], ...]:
    """Pairs of methods that are tested, the first being what the second is compared with."""
    (baseline,), proposed = named("baseline"), named("proposed")
    others = named("comparison", "control")
    pairs = [(first, second) for second in proposed for first in (baseline, *others)]
    return (*pairs, *((baseline, second) for second in named("comparison")))
