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

METHODS: tuple[str, ...] = ("orig", "spl-trn", "m3s")
"""Section 4.4: fixed holes; fresh holes at each step; fresh holes in Algorithm 1."""

CONTROLS: tuple[str, ...] = ("spl-trn-equal",)
"""Methods beyond the paper.

A step of M3S takes K + 1 gradients of `batch_size` rows, one of SPL-TRN takes one. `spl-trn-equal`
is SPL-TRN with K + 1 passes over the data an epoch: in each epoch as many gradients of as many rows
as M3S. All that counts epochs stays as it is in M3S: how often validation chooses, patience,
schedules of the learning rate, MMIM's stage 0.
"""

MODELS: tuple[str, ...] = ("misa", "mmim", "self_mm", "mmin")
SITES: tuple[str, ...] = ("raw", "encoded")
PATTERNS: tuple[str, ...] = ("span", "frames", "modality")
"""One hole a sequence, independent frames, whole modalities: see `keras_m3s.missing`."""

SELECTIONS: tuple[str, ...] = ("validation", "paper")
"""What chooses the epoch that is tested, see `keras_m3s.experiments.selection`."""

MISSING_LEVELS: dict[str, tuple[float, float]] = {
    "low": (0.2, 0.4),
    "medium": (0.4, 0.6),
    "high": (0.6, 0.8),
}
"""Section 5.2."""

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    # Section 4.4: {alpha, beta, batch_size}, epochs. Self-MM has one alpha per modality {A, V, L}
    # and stops early, with the published patience; that of text, 5e-5, is its BERT's, and its heads
    # have the published 1e-3. MISA stops when nothing has come for 30 of its 500 epochs: the best
    # of validation counts in any case.
    "misa": {
        "inner_learning_rate": 1e-4,
        "learning_rate": 1e-4,
        "batch_size": 128,
        "epochs": 500,
        "patience": 30,
    },
    "mmim": {
        # Stage 0 alone trains `mi_*`.
        "inner_learning_rate": {"/mi_": 0.0, "": 1e-3},
        "learning_rate": 1e-3,
        "batch_size": 32,
        "epochs": 40,
    },
    "self_mm": {
        "inner_learning_rate": {"audio_encoder/": 5e-3, "vision_encoder/": 5e-3, "": 1e-3},
        "learning_rate": None,
        "batch_size": 32,
        "epochs": 200,
        "patience": 8,
    },
    "mmin": {
        "inner_learning_rate": 2e-4,
        "learning_rate": 1e-4,
        "batch_size": 256,
        "epochs": 60,
        # The teacher's, published with the script that has the paper's batch size and epochs.
        "first_stage_epochs": 20,
    },
}


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
        model: One of `MODELS`.
        method: One of `METHODS` or `CONTROLS`.
        missing_rate: `(low, high)` within [0, 1], for training and validation.
        test_missing_rate: The same for testing.
        pattern: Shape of the holes, one of `PATTERNS`.
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
        _require("model", model, MODELS)
        values: dict[str, Any] = {
            "test_missing_rate": missing_rate,
            "pattern": "span",
            "site": "raw",
            "seed": 0,
            "hole_seed": 0,
            "patience": None,
            "inner_steps": 1,
            "first_order": True,
            "first_stage_epochs": 0,
            "select": "validation",
            "model_arguments": {},
            **HYPERPARAMETERS[model],
        }
        given = {name: value for name, value in overrides.items() if value is not None}
        if model == "self_mm" and given.get("model_arguments", {}).get("bert") is not None:
            from keras_m3s.layers.text_states import (
                BERT_PATHS,  # with Keras, for which the command need not wait
            )

            # The paper's rate of text, where there is a BERT to have it.
            rates = {BERT_PATHS: 5e-5, **values["inner_learning_rate"]}
            values["inner_learning_rate"] = rates
        values |= given
        return cls(dataset=dataset, model=model, method=method, missing_rate=missing_rate, **values)

    def __post_init__(self) -> None:
        _require("model", self.model, MODELS)
        _require("method", self.method, METHODS + CONTROLS)
        _require("site", self.site, SITES)
        _require("pattern", self.pattern, PATTERNS)
        _require("select", self.select, SELECTIONS)
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
        return self.inner_steps + 1 if self.method == "spl-trn-equal" else 1

    @property
    def gradients(self) -> int:
        """Gradients of `batch_size` rows for each `batch_size` rows of training data an epoch."""
        return self.inner_steps + 1 if self.method in ("m3s", "spl-trn-equal") else 1

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


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={value!r}.")
