"""`Experiment`: everything that decides a run's numbers, and the paper's rows of it.

Two runs of one `Experiment` on the same backend and machine give the same numbers; its `key` names
the run directory.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_m3s import registry
from keras_m3s.registry import methods, models, patterns

SITES: tuple[str, ...] = ("raw", "encoded")

SELECTIONS: tuple[str, ...] = ("validation", "paper")
"""What chooses the epoch that is tested, see `keras_m3s.experiments.selection`."""

MISSING_LEVELS: dict[str, tuple[float, float]] = {
    "low": (0.2, 0.4),
    "medium": (0.4, 0.6),
    "high": (0.6, 0.8),
}
"""Section 5.2."""


def _is_rate(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


def _is_range(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_rate, value))
    return pair and value[0] <= value[1] <= 1


def _is_rates(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_rate, value.values()))


Kind = tuple[str, Callable[[Any], bool]]


def _whole(least: int) -> Kind:
    return f"a whole number >= {least}", lambda v: type(v) is int and v >= least


def _or_none(kind: Kind) -> Kind:
    return f"{kind[0]}, or None", lambda v: v is None or kind[1](v)


RANGE: Kind = ("a range (low, high) with 0 <= low <= high <= 1", _is_range)
RATE: Kind = ("a finite number >= 0", _is_rate)

KINDS: dict[str, Kind] = {
    "dataset": ("a name", lambda v: isinstance(v, str)),
    "missing_rate": RANGE,
    "test_missing_rate": RANGE,
    "seed": _whole(0),
    "hole_seed": _whole(0),
    "batch_size": _whole(1),
    "epochs": _whole(1),
    "patience": _or_none(_whole(1)),
    "learning_rate": _or_none(RATE),
    "inner_learning_rate": (
        f"{RATE[0]}, or a mapping of path patterns to such",
        lambda v: _is_rate(v) or _is_rates(v),
    ),
    "inner_steps": _whole(0),
    "first_order": ("True or False", lambda v: isinstance(v, bool)),
    "first_stage_epochs": _whole(0),
    "model_arguments": ("a mapping", lambda v: isinstance(v, Mapping)),
}
"""What the fields of an experiment must be, beside those that are one of a list."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training run; make it with `Experiment.of`, which fills in the paper's numbers.

    Attributes:
        dataset: Name of a data set, see `keras_m3s.data`.
        model: Name of a card in `keras_m3s.registry.models`.
        method: Name of a card in `keras_m3s.registry.methods`.
        missing_rate: `(low, high)` within [0, 1], for training and validation.
        test_missing_rate: The same for testing.
        pattern: Name of a card in `keras_m3s.registry.patterns`.
        site: Where T works, `"raw"` or `"encoded"`.
        seed: Initial weights, dropout, data order, and holes in training.
        hole_seed: Holes of validation and test data, the same for all methods and seeds.
        batch_size: Rows of a support and of a query batch, so M3S takes twice as many a step.
        epochs: At most.
        patience: Stop after this many epochs without a better validation value; `None`: never.
        learning_rate: The optimizer's, beta; `None` for the model's published one.
        inner_learning_rate: alpha, or a mapping of path patterns to alphas.
        inner_steps: K.
        first_order: False for the exact, second order gradient.
        first_stage_epochs: Of a model that another one teaches (MMIN), the teacher's; 0 for none.
        select: What chooses the epoch that is tested, one of `SELECTIONS`.
        model_arguments: Arguments of the model's constructor.

    Raises:
        ValueError: If a value is not of its kind.
    """

    dataset: str
    model: str
    method: str
    missing_rate: tuple[float, float]
    test_missing_rate: tuple[float, float]
    pattern: str
    site: str
    seed: int
    hole_seed: int
    batch_size: int
    epochs: int
    patience: int | None
    learning_rate: float | None
    inner_learning_rate: float | Mapping[str, float]
    inner_steps: int
    first_order: bool
    first_stage_epochs: int
    select: str
    model_arguments: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        dataset: str,
        model: str,
        method: str,
        missing_rate: tuple[float, float] = MISSING_LEVELS["medium"],
        **overrides: Any,
    ) -> "Experiment":
        """An experiment with the paper's settings, but for what is given; `None` means the same."""
        registry.require("model", model, models.CARDS)
        card = models.CARDS[model]
        values: dict[str, Any] = {
            "test_missing_rate": missing_rate,
            "pattern": patterns.PAPER,
            "site": "raw",
            "seed": 0,
            "hole_seed": 0,
            "patience": None,
            "inner_steps": 1,
            "first_order": True,
            "first_stage_epochs": 0,
            "select": "validation",
            "model_arguments": {},
            **card.settings,
        }
        given = {name: value for name, value in overrides.items() if value is not None}
        arguments = given.get("model_arguments")
        has_bert = isinstance(arguments, Mapping) and arguments.get("bert") is not None
        if has_bert and card.bert_inner_learning_rate is not None:
            # With Keras, for which `keras-m3s --help` need not wait.
            from keras_m3s.layers.text_states import BERT_PATHS

            rates = {BERT_PATHS: card.bert_inner_learning_rate, **values["inner_learning_rate"]}
            values["inner_learning_rate"] = rates
        values |= given
        return cls(dataset=dataset, model=model, method=method, missing_rate=missing_rate, **values)

    def __post_init__(self) -> None:
        registry.require("model", self.model, models.CARDS)
        registry.require("method", self.method, methods.CARDS)
        registry.require("site", self.site, SITES)
        registry.require("pattern", self.pattern, patterns.CARDS)
        registry.require("select", self.select, SELECTIONS)
        for name, (kind, fits) in KINDS.items():
            value = getattr(self, name)
            if not fits(value):
                raise ValueError(f"`{name}` must be {kind}. Received: {name}={value!r}.")
        for name in ("missing_rate", "test_missing_rate"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))

    @property
    def passes(self) -> int:
        """Passes over the training data in an epoch; those of M3S are one, of double batches."""
        return methods.CARDS[self.method].passes(self.inner_steps)

    @property
    def gradients(self) -> int:
        """Gradients of `batch_size` rows for each `batch_size` rows of training data an epoch."""
        return methods.CARDS[self.method].gradients(self.inner_steps)

    def replace(self, **changes: Any) -> "Experiment":
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`."""
        known = {field.name for field in dataclasses.fields(cls)}
        if set(values) != known:
            raise ValueError(
                "An experiment must have exactly the fields of this version of keras-m3s. "
                f"Received: without {sorted(known - set(values))}, and with unknown "
                f"{sorted(set(values) - known)}. Take the version that the run was made with."
            )
        return cls(**values)

    @property
    def key(self) -> str:
        """Name of the run: readable, and unique to the values."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        name = self.dataset.replace("/", "-")
        return f"{name}-{self.model}-{self.method}-seed{self.seed}-{digest}"
