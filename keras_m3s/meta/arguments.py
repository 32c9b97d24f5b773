"""What a wrapper can wrap, and with what."""

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
    check_missing(missing, "missing")
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


def check_missing(layer: Any, name: str) -> None:
    """Raises `ValueError` if an argument is not a transform, nor `None`."""
    if layer is not None and not isinstance(layer, MissingModality):
        raise ValueError(
            f"`{name}` must be a keras_m3s.MissingModality layer or None. "
            f"Received: {type(layer).__name__}."
        )


def check_steps(steps: Any, name: str) -> None:
    """Raises `ValueError` if an argument is not a number of inner steps."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ValueError(f"`{name}` must be an int >= 0. Received: {name}={steps!r}.")
