"""The draws of a batch's holes."""

import warnings
from collections.abc import Mapping
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


def warned_without_draws(x: Any, missing: MissingModality | None) -> bool:
    """Warns if a test on these inputs would cut no holes, and returns whether it did.

    Args:
        x: Inputs of `evaluate`.
        missing: T.
    """
    if missing is None or not isinstance(x, Mapping) or DRAWS in x:
        return False
    if not any(high > 0 for _, high in missing.missing_rate.values()):
        return False
    warnings.warn(
        "Without `draws` in the inputs, `evaluate` cuts no holes: this is the score on the "
        "data as it is. Add `keras_m3s.missing.fixed_draws(...)` as 'draws', or use "
        "`keras_m3s.robustness`.",
        stacklevel=3,
    )
    return True
