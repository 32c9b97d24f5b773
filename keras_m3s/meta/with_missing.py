"""`WithMissing`: a model that sees its inputs through T, as ORIG and SPL-TRN train it.

The wrapper adds no weights. Loss, metrics and prediction are those of the wrapped model. Whether
holes are fixed (ORIG) or fresh at each step (SPL-TRN) depends on the data: if a batch holds
`draws`, they decide, in training and in evaluation alike.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.meta import backend
from keras_m3s.missing import MissingModality
from keras_m3s.modalities import COMPLEMENT, DRAWS
from keras_m3s.utils import keras_private

SITES = ("raw", "encoded")

TRANSFORMED = "transformed"
"""Key of the inputs that T was applied to already, in a batch for several passes."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class WithMissing(backend.TrainerOverrides, keras.Model):
    """Wraps a model so that it sees its inputs through `MissingModality`.

    Args:
        model: Any `keras.Model` whose input is a dict of modalities; for `site="encoded"` one with
            `encode(inputs, training)` and `fuse(encoded, training)`.
        missing: `MissingModality`, or `None` for the model as it is.
        site: Where T is applied: `"raw"` to the inputs, `"encoded"` to the vectors between `encode`
            and `fuse`, which takes a layer with `axis="feature"`.

    Raises:
        ValueError: If an argument is not of these kinds, or there is no loss to train on.

    Reference: M3S, section 4.4 (ORIG, ORIG + SPL-TRN).
    """

    def __init__(
        self,
        model: keras.Model,
        missing: MissingModality | None = None,
        site: str = "raw",
        **kwargs: Any,
    ) -> None:
        # Inputs reach the wrapped model as they are: draws among them would not survive float16.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
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
        self.model = model
        self.missing = missing
        self.site = site
        # The wrapper has no weights. Unbuilt, `predict` on JAX would first call it uncompiled.
        self.built = model.built
        parameters = inspect.signature(model.call).parameters.values()
        self._model_takes_training = any(
            p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.missing is None:
            return self._call_model(inputs, training)
        inputs = add_draws(inputs, self.missing) if training else dict(inputs)
        if TRANSFORMED in inputs:
            return self._call_model(inputs[TRANSFORMED], training)
        without_draws = {name: value for name, value in inputs.items() if name != DRAWS}
        if DRAWS not in inputs:
            return self._call_model(without_draws, training)
        if self.site == "raw":
            return self._call_model(self._apply_missing(inputs, self.missing), training)
        draws = {DRAWS: inputs[DRAWS]}
        features = self._add_complement(without_draws, self.missing)
        if not self.model.built:
            self._call_model(features, training=False)
        encoded = self.model.encode(features, training=training)
        return self.model.fuse(self.missing({**encoded, **draws}), training=training)

    def _call_model(self, inputs: Any, training: bool | None) -> Any:
        if training is None or not self._model_takes_training:
            return self.model(inputs)
        return self.model(inputs, training=training)

    def _transform(self, inputs: Any) -> Any:
        """`inputs` with T applied once for several passes: raw features, whose draws are there."""
        if self.missing is None or self.site != "raw":
            return inputs
        return {**inputs, TRANSFORMED: self._apply_missing(inputs, self.missing)}

    def _apply_missing(self, inputs: Mapping[str, Any], missing: MissingModality) -> dict[str, Any]:
        """T on raw features with their draws."""
        # `__call__` takes as long as T itself, for preparations of Keras that change nothing here.
        return missing.call(self._add_complement(inputs, missing))

    def _add_complement(
        self, features: Mapping[str, Any], missing: MissingModality
    ) -> Mapping[str, Any]:
        """Adds the modalities a second time if the model uses what the holes remove."""
        if not getattr(self.model, "uses_complement", False):
            return features
        present = {m: features[m] for m in missing.modalities if m in features}
        return {**features, COMPLEMENT: present}

    # Loss and metrics are the wrapped model's; the wrapper has the optimizer and the loop.

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; loss and metrics are passed on to the wrapped model.

        Those not given are the ones the model was compiled with, or its default.
        """
        arguments = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        if given or not self.model.compiled:
            if "loss" not in given and self.model.loss is not None:
                given["loss"] = self.model.loss
            # Keras loads no compiled model without an optimizer; this one never takes a step.
            self.model.compile(optimizer=getattr(self.model, "optimizer", None) or "sgd", **given)
        super().compile(optimizer=optimizer, **kwargs)
        keras_private.share_compiled(self, self.model)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self.model.metrics if self.compiled else []

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        overridden = type(self.model).compute_loss is not keras.Model.compute_loss
        if self.model.loss is None and not overridden and not self.model.losses:
            raise ValueError(
                "There must be a loss to train on. Received: a wrapped model that was compiled "
                "with none, adds none and does not override `compute_loss`. Pass `loss=` to "
                "`compile`."
            )
        return keras_private.compute_loss(self.model, x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return self.model.compute_metrics(x, y, y_pred, sample_weight)

    def _seed_states(self) -> list[keras.Variable]:
        weights = {id(v) for v in self.non_trainable_weights}
        return [v for v in self.non_trainable_variables if id(v) not in weights]

    # Keras does not save seed states. With those of all sublayers a resumed run draws the same
    # numbers as one that was never interrupted.

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for number, state in enumerate(self._seed_states()):
            store[f"seed_state_{number}"] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        for number, state in enumerate(self._seed_states()):
            state.assign(store[f"seed_state_{number}"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "missing": keras.saving.serialize_keras_object(self.missing),
            "site": self.site,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "WithMissing":
        config = dict(config)
        for name in ("model", "missing"):
            if name in config:
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def add_draws(inputs: Any, missing: MissingModality) -> Any:
    """Adds the draws of T to a batch, fresh from the layer's seed state if there are none.

    Args:
        inputs: Dict of features, see `keras_m3s.modalities`.
        missing: T.

    Returns:
        A new dict with `draws` `(batch, modalities, 2)`, or `inputs` if it has some.

    Raises:
        ValueError: If `inputs` is not a dict.
    """
    if not isinstance(inputs, Mapping):
        raise ValueError(
            f"`inputs` must be a dict with the modalities {missing.modalities}. "
            f"Received: {type(inputs).__name__}."
        )
    if DRAWS in inputs:
        return inputs
    batch_size = ops.shape(keras.tree.flatten(dict(inputs))[0])[0]
    draws = backend.rows_of_this_replica(missing.sample_draws, batch_size)
    return {**inputs, DRAWS: draws}
