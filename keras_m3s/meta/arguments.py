"""What a wrapper can wrap."""

from typing import Any

import keras

from keras_m3s.missing import MissingModality

SITES = ("raw", "encoded")


def check_arguments(model: Any, missing: Any, site: Any) -> None:
    """Raises `ValueError` if a wrapper cannot be made of these.

    Args:
        model: As of `WithMissing`, likewise the others.
        missing: Likewise.
        site: Likewise.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}.")
    if missing is not None and not isinstance(missing, MissingModality):
        raise ValueError(
            "`missing` must be a keras_m3s.MissingModality layer or None. "
            f"Received: {type(missing).__name__}."
        )
    if site not in SITES:
        raise ValueError(f"`site` must be one of {SITES}. Received: site={site!r}.")
    if site == "encoded" and not (hasattr(model, "encode") and hasattr(model, "fuse")):
        raise ValueError(
            "With site='encoded' the model must have `encode(inputs, training)` and "
            f"`fuse(encoded, training)`. Received: {type(model).__name__}, which has not."
        )
    for step in ("train_step", "test_step", "predict_step"):
        if getattr(type(model), step) is not getattr(keras.Model, step):
            raise ValueError(
                f"`model` must not have a `{step}` of its own, which the wrapper would never "
                f"call. Received: {type(model).__name__}.{step}. Put its loss into "
                "`compute_loss` or `add_loss`."
            )
