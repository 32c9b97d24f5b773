"""The inputs that an exported wrapper declares."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_m3s.meta.inputs import functional_inputs
from keras_m3s.modalities import INDEX, TEXT_BERT, length_key


def signature(model: keras.Model) -> list[Any] | None:
    """Shapes and types of a model's inputs, any number of rows; `None` where they are not known.

    Args:
        model: The model inside a wrapper.
    """
    structure = functional_inputs(model)
    if structure is not None:
        return [keras.tree.map_structure(_spec_of, structure)]
    config = model.get_build_config() or {} if model.built else {}
    shapes = config.get("input_shape")
    if not isinstance(shapes, Mapping):
        return None
    return [{name: _spec(name, shape) for name, shape in shapes.items()}]


def _spec_of(tensor: keras.KerasTensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)


def _spec(name: str, shape: Any) -> keras.InputSpec:
    whole = name.endswith(length_key("")) or name in (TEXT_BERT, INDEX)
    dtype = "int32" if whole else keras.backend.floatx()
    return keras.InputSpec(shape=(None, *shape[1:]), dtype=dtype, name=name)
