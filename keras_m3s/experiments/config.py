"""`Experiment`: everything that determines a run's numbers, with the paper's settings as defaults.

Two runs of one `Experiment` on the same data, backend and machine give the same numbers; its `key`
names the run directory.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_m3s import registry
from keras_m3s.experiments.validators import FILLS, MAPPING, NAME, VALIDATORS, validate
from keras_m3s.registry import datasets, methods, models, patterns
from keras_m3s.utils import user_source

SITES: tuple[str, ...] = ("raw", "encoded")
"""Where the missing-modality transform is applied, as in `keras_m3s.meta.with_missing`."""

SELECTIONS: tuple[str, ...] = ("validation", "paper")
"""Rules for selecting the epoch that is tested, see `keras_m3s.experiments.selection`."""

MISSING_LEVELS: dict[str, tuple[float, float]] = {
    "low": (0.2, 0.4),
    "medium": (0.4, 0.6),
    "high": (0.6, 0.8),
}
"""Section 5.2."""

REQUIRED = ("dataset", "model", "method", "missing_rate")
"""Fields without a default."""

DEFAULTS: dict[str, Any] = {
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
    "fill": "zero",
    "model_source": None,
    "averaging": None,
}
"""Defaults that are not specific to a model or method; the settings of their cards take precedence,
the method's over the model's."""

FIELDS_OF_0_1_0 = frozenset(
    {
        *REQUIRED,
        *("test_missing_rate", "pattern", "site", "seed", "hole_seed", "batch_size", "epochs"),
        *("patience", "learning_rate", "inner_learning_rate", "inner_steps", "first_order"),
        *("first_stage_epochs", "select", "model_arguments"),
    }
)
"""Fields of version 0.1.0, which are always part of `Experiment.key`.

A field added later is part of it only where it differs from its default, so that finished runs keep
the names of their directories. Once released, such a default must not change.
"""

NAME_BYTES = 60
"""Longest part of a key that comes from a file's name: names may have 255 bytes."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One training run; make it with `Experiment.of`, which fills in the paper's numbers.

    Attributes:
        dataset: Name of a data set, `name/config`, or the path of a feature file; see
            `keras_m3s.data`.
        model: Name of a card in `keras_m3s.registry.models`; or a function of one's own that makes
            a model, `file.py:function` or `package.module:function`, see
            `keras_m3s.experiments.own_model`.
        method: Name of a card in `keras_m3s.registry.methods`.
        missing_rate: `(low, high)` within [0, 1], for training and validation.
        test_missing_rate: The same for testing.
        pattern: Name of a card in `keras_m3s.registry.patterns`.
        site: Where the missing-modality transform is applied, one of `SITES`.
        seed: Of initial weights, dropout, data order, and the missingness in training.
        hole_seed: Of the missingness in validation and test data, shared by methods and seeds.
        batch_size: Rows of a support and of a query batch, so M3S takes twice as many a step.
        epochs: Maximum number of epochs.
        patience: Epochs without a better validation value before training stops; `None` disables
            early stopping.
        learning_rate: The optimizer's, beta; `None` for the model's published one.
        inner_learning_rate: alpha, or a mapping of path patterns to alphas.
        inner_steps: K.
        first_order: False for the exact, second order gradient.
        first_stage_epochs: Pretraining epochs of a model with a teacher (MMIN); 0 for none.
        select: Rule for selecting the epoch that is tested, one of `SELECTIONS`.
        model_arguments: Arguments of the model's constructor, or of the function that makes it.
        fill: What stands in a hole, one of `FILLS` or a number. Of a model of one's own the default
            is `"mean"`, where holes are cut into sequences as they are.
        model_source: Digest of the source of a model of one's own, which makes another source
            another experiment; `None` for models with a card.
        averaging: Momentum within (0, 1) of averaged weights, which then are those that are
            validated, selected and tested; `None` for none. See `keras_m3s.experiments.averaging`.

    Raises:
        ValueError: If a value is invalid.
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
    fill: str | float
    model_source: str | None
    averaging: float | None

    @classmethod
    def of(
        cls,
        dataset: str | os.PathLike[str],
        model: str,
        method: str,
        missing_rate: tuple[float, float] = MISSING_LEVELS["medium"],
        **settings: Any,
    ) -> "Experiment":
        """An experiment with the paper's settings wherever none is passed.

        Args:
            dataset: As the attribute. A file's path is made absolute, so that its run is found from
                any folder.
            model: As the attribute. A file's path is made absolute as well.
            method: As the attribute.
            missing_rate: As the attribute.
            **settings: Other attributes. `None` is a value like any other: `patience=None` disables
                early stopping. The source of a model of one's own is read, unless it is passed.

        Raises:
            FileNotFoundError: There is no such file or module of a model.
        """
        if isinstance(model, str) and models.is_own(model):
            model = user_source.absolute(model)
            if "model_source" not in settings:
                settings["model_source"] = user_source.find(model).digest
        required = {
            "dataset": _absolute(dataset),
            "model": model,
            "method": method,
            "missing_rate": missing_rate,
        }
        return cls(**_with_defaults(required | settings))

    def __post_init__(self) -> None:
        choices = {
            "method": methods.CARDS,
            "site": SITES,
            "pattern": patterns.CARDS,
            "select": SELECTIONS,
        }
        for name, known in choices.items():
            validate(name, getattr(self, name), NAME)
            registry.require(name, getattr(self, name), known)
        for name, validator in VALIDATORS.items():
            validate(name, getattr(self, name), validator)
        self._check_own_model()
        if not isinstance(self.fill, str):
            object.__setattr__(self, "fill", float(self.fill) or FILLS[0])
        for name in ("missing_rate", "test_missing_rate"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))

    def _check_own_model(self) -> None:
        validate("model", self.model, NAME)
        models.find(self.model)
        own = models.is_own(self.model)
        if own != (self.model_source is not None):
            raise ValueError(
                "`model_source` must be given for a model of one's own, and for no other. "
                f"Received: model_source={self.model_source!r} for {self.model!r}. "
                "`Experiment.of` finds it."
            )
        if self.site != SITES[0] and self.fill == "mean":
            raise ValueError(
                "`fill` must be 'zero', 'learned' or a number for encoded vectors, which have no "
                f"mean in the data. Received: fill='mean' with site={self.site!r}."
            )

    @property
    def passes_per_epoch(self) -> int:
        """Passes over the training data; an epoch of M3S is one pass, in double batches."""
        return methods.CARDS[self.method].passes(self.inner_steps)

    @property
    def gradients_per_batch(self) -> int:
        """Gradients of `batch_size` rows for each `batch_size` rows of training data an epoch."""
        return methods.CARDS[self.method].gradients(self.inner_steps)

    def replace(self, **changes: Any) -> "Experiment":
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return dict(_as_json(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`; fields that an older version did not have take their defaults.

        Args:
            values: The fields, at least those of `REQUIRED`.

        Raises:
            ValueError: If a required field is absent, a field is unknown, or a value is invalid.
        """
        if absent := [name for name in REQUIRED if name not in values]:
            raise ValueError(
                f"An experiment must have the fields {REQUIRED}. Received: none of {absent}."
            )
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                "An experiment must have fields that this version of keras-m3s knows. Received: "
                f"{unknown}. It was made by a newer version, or by hand: upgrade keras-m3s, or "
                "remove these fields."
            )
        return cls(**_with_defaults(values))

    @property
    def key(self) -> str:
        """Name of the run: readable, and unique to the values."""
        values, defaults = self.to_dict(), _as_json(_defaults(dataclasses.asdict(self)))
        counted = {
            name: value
            for name, value in values.items()
            if name in FIELDS_OF_0_1_0 or value != defaults[name]
        }
        text = json.dumps(counted, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        names = (_key_name(self.dataset), self.model_name, self.method, f"seed{self.seed}", digest)
        return "-".join(names)

    @property
    def model_name(self) -> str:
        """The model's name, of one's own without its folder: `har.build`."""
        if models.is_own(self.model):
            return _safe(user_source.short(self.model))
        return self.model


def _with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**_defaults(values), **values}


def _defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of all fields but those of `REQUIRED`, given the values of some fields."""
    model, arguments = values["model"], values.get("model_arguments", {})
    validate("model", model, NAME)
    validate("model_arguments", arguments, MAPPING)
    card = models.find(model)
    defaults = {"test_missing_rate": values["missing_rate"], **DEFAULTS, **card.settings}
    if arguments.get("bert") is not None and card.bert_inner_learning_rate is not None:
        # Imports Keras, which `keras-m3s --help` does without.
        from keras_m3s.layers.text_states import BERT_PATHS

        rates = {BERT_PATHS: card.bert_inner_learning_rate, **defaults["inner_learning_rate"]}
        defaults["inner_learning_rate"] = rates
    method = methods.CARDS.get(str(values["method"]))
    if method is not None:
        defaults |= method.settings
    if values.get("site", defaults["site"]) != SITES[0] and defaults["fill"] == "mean":
        defaults["fill"] = DEFAULTS["fill"]
    return defaults


def _absolute(dataset: str | os.PathLike[str]) -> str:
    """A data set as given, if it is a file by its absolute path.

    Links to folders are resolved, so that a file has one path. A link to the file itself is not:
    stores of large files keep them under names without an ending.
    """
    name = os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset
    if not isinstance(name, str) or not datasets.is_file(name):
        return name
    path = pathlib.Path(name).expanduser()
    return str(path.parent.resolve() / path.name)


def _key_name(dataset: str) -> str:
    """What a key calls a data set: its name and config, or its file's name without the ending."""
    if not datasets.is_file(dataset):
        return dataset.replace("/", "-")
    return _safe(pathlib.PurePath(dataset).stem)


def _safe(name: str) -> str:
    safe = "".join(c if _is_safe(c) else "_" for c in name).lstrip("-.")
    return safe.encode()[:NAME_BYTES].decode(errors="ignore") or "file"


def _is_safe(character: str) -> bool:
    """Whether a character needs no quoting in file names and shells; letters of any script do."""
    if character.isascii():
        return character.isalnum() or character in "._-"
    return character.isprintable()


def _as_json(values: Any) -> Any:
    """Values as they come back from a JSON file: tuples are lists."""
    return json.loads(json.dumps(values))
