"""Copies of models and layers, by their configuration and weights."""

from typing import TypeVar

import keras

AnyLayer = TypeVar("AnyLayer", bound=keras.layers.Layer)


def copy_of(layer: AnyLayer) -> AnyLayer:
    """A copy of a built layer or model with the same weights; compiled if the model is.

    Args:
        layer: What to copy.

    Raises:
        ValueError: It has no configuration that a copy could be made from.
    """
    try:
        copied: AnyLayer = type(layer).from_config(layer.get_config())
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"`{type(layer).__name__}` must have a `get_config` that its constructor takes, to be "
            f"copied. Received: {error}"
        ) from error
    if layer.built and not copied.built:
        copied.build_from_config(layer.get_build_config() or {})
    if isinstance(layer, keras.Model) and layer.compiled:
        copied.compile_from_config(layer.get_compile_config())
    for old, new in zip(layer.variables, copied.variables, strict=True):
        new.assign(keras.ops.convert_to_numpy(old))  # which shares no memory with it
    return copied
