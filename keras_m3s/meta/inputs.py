"""What a wrapper is given, as modalities; and what the model inside takes of it."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.missing.layer import MissingModality
from keras_m3s.missing.views import InputView
from keras_m3s.modalities import (
    COMPLEMENT,
    DRAWS,
    NO_MODALITIES,
    SUFFIXES,
    TEXT_BERT,
    presence_key,
)

TRANSFORMED = "transformed"
"""Key of the inputs that T was applied to already, in a batch for several passes."""

WHOLE = "whole_input"
"""Entry that keeps a single tensor whose channels are modalities, for those of no modality."""

Structure = Any
Tensor = Any
Shape = tuple[int | None, ...]


class ModelInputs:
    """The inputs of a model: split into modalities, and put together as the model takes them.

    Args:
        model: The model inside.
        missing: The layer that cuts holes, or `None`.

    Attributes:
        shapes: Modality -> shape with the batch, as far as it is known.
    """

    def __init__(self, model: keras.Model, missing: MissingModality | None) -> None:
        self.missing = missing
        self.shapes: dict[str, Shape] = {}
        self.kind: type | None = None
        self.keys: tuple[str, ...] | None = None
        view = InputView() if missing is None else missing.view
        structure = functional_inputs(model)
        if isinstance(structure, Mapping):
            self.kind, self.keys = dict, tuple(structure)
            self.shapes = {name: tuple(tensor.shape) for name, tensor in structure.items()}
        elif isinstance(structure, (list, tuple)) and len(structure) > 1:
            names = view.names or tuple(tensor.name for tensor in structure)
            if view.slices is None:
                view = InputView(names)
            self.kind, self.keys = type(structure), names
            self.shapes = {n: tuple(t.shape) for n, t in zip(names, structure, strict=True)}
        elif structure is not None and view.slices is not None:
            self.shapes = view.split_shapes(tuple(keras.tree.flatten(structure)[0].shape))
        elif not self.shapes:
            self.shapes = built_shapes(model)
        self.view = view
        self._warned = False

    @property
    def wants_presence(self) -> bool:
        """Whether the model has inputs that tell what is there."""
        keys = self.keys or ()
        return any(presence_key(key) in keys for key in keys)

    def split(self, inputs: Structure) -> dict[str, Any]:
        """Modalities and whatever else there is, as a new dict; such a dict comes back as it is.

        Raises:
            ValueError: The structure does not fit, or a tensor is ragged.
        """
        for value in keras.tree.flatten(inputs):
            if "Ragged" in type(value).__name__:
                raise ValueError(
                    "Inputs must be dense tensors. Received: a ragged one. Pad it, for instance "
                    "with `.to_tensor()`, and give the true lengths as `{modality}_length`."
                )
        features = {k: v for k, v in self.view.split(inputs).items() if v is not None}
        if isinstance(inputs, Mapping):
            for key, value in features.items():
                if isinstance(value, (Mapping, list)) and key not in (TRANSFORMED, COMPLEMENT):
                    raise ValueError(
                        f"Inputs must be a dict of tensors. Received: {type(value).__name__} for "
                        f"{key!r}. Flatten the structure, one entry a modality."
                    )
        else:
            self.kind = self.kind or type(inputs)
            if self.view.slices is not None and not isinstance(inputs, (list, tuple)):
                features[WHOLE] = inputs
        return features

    def complete(self, features: dict[str, Any]) -> dict[str, Any]:
        """With NaN for modalities that are absent as a whole.

        Raises:
            ValueError: The shape of an absent one is not known.
        """
        if self.missing is None:
            return features
        tokens = TEXT_BERT in features
        wanted = self.missing.modalities or tuple(n for n in self.shapes if is_modality(n))
        absent = [m for m in wanted if m not in features and not (m == "text" and tokens)]
        if not absent:
            return features
        rows = ops.shape(next(iter(features.values())))[0] if features else 0
        made = {name: self._nothing(name, rows, features) for name in absent}
        return {**features, **made}

    def _nothing(self, name: str, rows: Any, features: Mapping[str, Any]) -> Tensor:
        shape = self.shapes.get(name)
        if shape is None and self.keys is not None:
            raise ValueError(self._unknown(name))
        if shape is None:
            raise ValueError(
                f"The shape of an absent modality must be known. Received: {tuple(features)} "
                f"without {name!r}, of a model that was never called with it. Call it on complete "
                "inputs first, or pass NaN."
            )
        like = next((v for v in features.values() if len(v.shape) == len(shape)), None)
        sizes = [
            size if size is not None else (1 if like is None else ops.shape(like)[axis])
            for axis, size in enumerate(shape[1:], 1)
        ]
        return ops.full((rows, *sizes), float("nan"), dtype=keras.backend.floatx())

    def _unknown(self, name: str) -> str:
        """What is wrong with a modality that is no input of the model."""
        if self.kind is dict:
            return (
                f"`missing` must name inputs of the model, {self.keys}. Received: {name!r}. "
                "Take these names for `missing_rate` or `modalities`."
            )
        names = () if self.missing is None else self.missing.modalities
        return (
            f"`inputs` must be a dict with the modalities {names}, or a list of Inputs with these "
            f"names. Received: Inputs with the names {self.keys}. Name each by "
            "`keras.Input(..., name=...)`; or name all, in the model's order, by "
            "`MissingModality(modalities=...)`."
        )

    def note(self, features: Mapping[str, Any]) -> None:
        """Remembers the shapes of modalities, for when one is absent."""
        for name, value in features.items():
            if name not in self.shapes and is_modality(name) and len(value.shape) >= 2:
                self.shapes[name] = (None, *value.shape[1:])

    def hand_over(self, features: Mapping[str, Any]) -> Structure:
        """What the model takes, in its own structure."""
        if WHOLE in features:
            return self.view.merge(features[WHOLE], features)
        if self.keys is None:
            given = {name: value for name, value in features.items() if name != DRAWS}
            if self.kind in (list, tuple) and self.view.names is not None:
                return self.kind(given[name] for name in self.view.names)
            return given
        self._warn_of_strangers(features)
        absent = [key for key in self.keys if key not in features]
        if absent:
            raise ValueError(
                f"`inputs` must hold what the model takes, {self.keys}. "
                f"Received: {tuple(features)}."
            )
        if self.kind is dict:
            return {key: features[key] for key in self.keys}
        kind = self.kind or list
        return kind(features[key] for key in self.keys)

    def _warn_of_strangers(self, features: Mapping[str, Any]) -> None:
        known = {*(self.keys or ()), DRAWS}
        strangers = [name for name in features if name not in known and is_modality(name)]
        if strangers and not self._warned:
            self._warned = True
            warnings.warn(
                f"The model takes {self.keys}; {strangers} are not handed to it.", stacklevel=2
            )


def is_modality(name: str) -> bool:
    """Whether an entry's name is that of features, not of what tells about them."""
    return name not in (*NO_MODALITIES, WHOLE, TRANSFORMED) and not name.endswith(SUFFIXES)


def functional_inputs(model: keras.Model) -> Structure | None:
    """The structure of symbolic inputs of a Functional or built Sequential model, else `None`."""
    if not getattr(model, "inputs", None):
        return None
    structure = getattr(model, "_inputs_struct", None)
    return model.inputs if structure is None else structure


def built_shapes(model: keras.Model) -> dict[str, Shape]:
    """Shapes of the dict of inputs that a subclassed model was built with, if it was."""
    config = model.get_build_config() or {} if model.built else {}
    shapes = config.get("input_shape")
    if not isinstance(shapes, Mapping):
        return {}
    return {
        name: (None, *shape[1:])
        for name, shape in shapes.items()
        if isinstance(shape, (tuple, list)) and len(shape) >= 2 and is_modality(name)
    }


def without_none(x: Structure) -> Structure:
    """Inputs without the entries of a dict that are `None`: absent modalities."""
    if isinstance(x, Mapping):
        return {name: value for name, value in x.items() if value is not None}
    return x


def checked(x: Structure) -> Structure:
    """Inputs without absent modalities; infinity is refused, see `check_finite`."""
    x = without_none(x)
    check_finite(x)
    return x


def check_finite(x: Structure) -> None:
    """Raises `ValueError` if an array of inputs holds infinity, which is a fault of the data."""
    named = x.items() if isinstance(x, Mapping) else [("inputs", x)]
    for name, value in named:
        for array in keras.tree.flatten(value):
            if isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isinf(array).any():
                row = int(np.argwhere(np.isinf(array))[0][0])
                raise ValueError(
                    f"Inputs must not be infinite. Received: infinity in {name!r}, first in row "
                    f"{row}. Mend the data; NaN stands for what was never measured."
                )


def zero_nan(features: Mapping[str, Any]) -> dict[str, Any]:
    """Features with 0 for NaN, where holes are cut into encoded vectors only."""
    outputs = dict(features)
    for name, value in features.items():
        if not is_modality(name) or len(value.shape) < 2:
            continue
        if "float" in keras.backend.standardize_dtype(value.dtype):
            outputs[name] = ops.where(ops.isnan(value), ops.zeros((), value.dtype), value)
    return outputs
