"""The draws of a batch's holes."""

from typing import Any

import keras
from keras import ops

from keras_m3s.meta import backend
from keras_m3s.missing import MissingModality
from keras_m3s.modalities import DRAWS


def add_draws(inputs: dict[str, Any], missing: MissingModality) -> dict[str, Any]:
    """Adds the draws of T to a batch, fresh from the layer's seed state if there are none.

    Args:
        inputs: Dict of features, see `keras_m3s.modalities`.
        missing: T.

    Returns:
        A new dict with `draws` `(batch, modalities, 2)`, or `inputs` if it has some.
    """
    if DRAWS in inputs:
        return inputs
    batch_size = ops.shape(keras.tree.flatten(dict(inputs))[0])[0]
    draws = backend.rows_of_this_replica(missing.sample_draws, batch_size)
    return {**inputs, DRAWS: draws}
