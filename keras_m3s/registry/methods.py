"""The training methods by name: the paper's three, and controls beyond it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


def _one(inner_steps: int) -> int:
    return 1


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
            compared with all others. `"control"`: beyond the paper. `"comparison"`: the rest.
        double_batches: Whether a batch holds support and query rows.
        fixed_draws: Whether each example keeps its hole in all epochs.
        passes: K -> passes over the training data in an epoch.
        gradients: K -> gradients of `batch_size` rows for each `batch_size` rows of training data
            in an epoch.
        settings: Defaults of `Experiment` that it brings; they take precedence over the model's.
        options: Keyword arguments of its wrapper, `WithMissing` or `M3S`.
        holes: Keyword arguments of `MissingModality` in place of the experiment's, in training and
            validation. Tests keep how holes are filled, and have their own rates and pattern.
        in_studies: Whether the studies and the tests of significance take it without being asked.
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
    in_studies: bool = True
    style: Mapping[str, Any] | None = None


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
    "spl-trn-averaged": MethodCard(
        title="ORIG + SPL-TRN (averaged weights)",
        short_title="SPL-TRN (averaged)",
        wrapper="keras_m3s.experiments.build:with_missing",
        passes=_inner_and_outer,
        gradients=_inner_and_outer,
        settings={"averaging": 0.99},
        in_studies=False,
        style={"color": "#009E73", "linestyle": "-.", "marker": "v"},
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
}
"""In the order of the paper's tables."""


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
    """Controls of the studies that take as many gradients as the proposed method."""
    wanted = CARDS[main_pair()[1]].gradients
    return tuple(m for m in _controls() if CARDS[m].gradients(2) == wanted(2))


def _controls() -> tuple[str, ...]:
    """Controls that need not be asked for."""
    return tuple(m for m in named("control") if CARDS[m].in_studies)


def compared() -> tuple[tuple[str, str], ...]:
    """Pairs of methods that are tested, the first being what the second is compared with."""
    (baseline,), proposed = named("baseline"), named("proposed")
    others = (*named("comparison"), *_controls())
    pairs = [(first, second) for second in proposed for first in (baseline, *others)]
    return (*pairs, *((baseline, second) for second in named("comparison")))
