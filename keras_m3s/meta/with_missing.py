"""A model with T in front: what ORIG and SPL-TRN train, and the ground `MetaModel` stands on.

The wrapper adds no weights. Loss, metrics and prediction are the wrapped model's own; only the
holes are new. Whether they are fixed (ORIG) or fresh at each step (SPL-TRN) is a matter of the
data: a batch that holds `draws` is cut as they say, in training and in evaluation alike.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.meta import backend
from keras_m3s.missing import MissingModality
from keras_m3s.modalities import COMPLEMENT, DRAWS

SITES = ("raw", "encoded")

CUT = "cut"
"""In a batch that `WithMissing.prepare` made: what the wrapped model is to see of it."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class WithMissing(backend.Objective, keras.Model):
    """Wraps a model so that it sees its inputs through `MissingModality`.

    Args:
        model: Any `keras.Model` whose input is a dict of modalities; for `site="encoded"` one with
            `encode(inputs, training)` and `fuse(encoded, training)`.
        missing: `MissingModality`, or `None` for the model as it is.
        site: Where T works: `"raw"` on the inputs, `"encoded"` on the vectors between `encode`
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
        # Inputs reach the wrapped model as they came: the draws in them do not survive float16.
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
        # It has no weights. Left unbuilt, `predict` on JAX would first call it once uncompiled.
        self.built = model.built
        parameters = inspect.signature(model.call).parameters.values()
        self._model_takes_training = any(
            p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.missing is None:
            return self._forward(inputs, training)
        inputs = self.draw(inputs) if training else dict(inputs)
        if CUT in inputs:
            return self._forward(inputs[CUT], training)
        features = {name: value for name, value in inputs.items() if name != DRAWS}
        if DRAWS not in inputs:
            return self._forward(features, training)
        if self.site == "raw":
            return self._forward(self._cut(inputs, self.missing), training)
        draws = {DRAWS: inputs[DRAWS]}
        features = self._with_complement(features, self.missing)
        if not self.model.built:
            self._forward(features, training=False)
        encoded = self.model.encode(features, training=training)
        return self.model.fuse(self.missing({**encoded, **draws}), training=training)

    def _cut(self, inputs: Any, missing: MissingModality) -> Any:
        """What the model sees of raw features, their draws among them."""
        # Not by `__call__`: Keras' preparations take as long as the holes, and do nothing here.
        return missing.call(self._with_complement(inputs, missing))

    def _with_complement(self, features: Any, missing: MissingModality) -> Any:
        """With the modalities once more where the model wants what the holes remove."""
        if not getattr(self.model, "uses_complement", False):
            return features
        present = {m: features[m] for m in missing.modalities if m in features}
        return {**features, COMPLEMENT: present}

    def _forward(self, inputs: Any, training: bool | None) -> Any:
        if training is None or not self._model_takes_training:
            return self.model(inputs)
        return self.model(inputs, training=training)

    def draw(self, inputs: Any) -> Any:
        """`inputs` with the draws of T added, fresh from the layer's seed state if there are none.

        Args:
            inputs: Dict of features, see `keras_m3s.modalities`.

        Returns:
            A new dict with `draws` `(batch, modalities, 2)`; `inputs` itself without T.
        """
        if self.missing is None or DRAWS in inputs:
            return inputs
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"`inputs` must be a dict with the modalities {self.missing.modalities}. "
                f"Received: {type(inputs).__name__}."
            )
        batch_size = ops.shape(keras.tree.flatten(dict(inputs))[0])[0]
        draws = backend.rows_of_this_replica(self.missing.sample_draws, batch_size)
        return {**inputs, DRAWS: draws}

    def prepare(self, inputs: Any) -> Any:
        """As `draw`, with the holes made too, for several passes over the same batch."""
        inputs = self.draw(inputs)
        if self.missing is None or self.site != "raw":
            return inputs
        return {**inputs, CUT: self._cut(inputs, self.missing)}

    # The wrapped model's loss and metrics count; the wrapper has the optimizer and the loop.

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; what concerns loss and metrics goes to the wrapped model.

        Without `loss` and metrics those that the model was compiled with stay, or its default.
        """
        theirs = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        given = {name: value for name, value in theirs.items() if value is not None}
        if given or not self.model.compiled:
            if "loss" not in given and self.model.loss is not None:
                given["loss"] = self.model.loss
            # Keras loads no compiled model without an optimizer; this one is never stepped.
            self.model.compile(optimizer=getattr(self.model, "optimizer", None) or "sgd", **given)
        super().compile(optimizer=optimizer, **kwargs)
        self._loss_tracker = self.model._loss_tracker
        self._compile_loss = self.model._compile_loss
        self._compile_metrics = self.model._compile_metrics

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
        own = type(self.model).compute_loss is not keras.Model.compute_loss
        if self._compile_loss is None and not own and not self.model.losses:
            raise ValueError(
                "There must be a loss to train on. Received: a wrapped model that was compiled "
                "with none, adds none and does not override `compute_loss`. Pass `loss=` to "
                "`compile`."
            )
        return self.model._compute_loss(x, y, y_pred, sample_weight, training=training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return self.model.compute_metrics(x, y, y_pred, sample_weight)

    # Saving

    def _seed_states(self) -> list[keras.Variable]:
        weights = {id(v) for v in self.non_trainable_weights}
        return [v for v in self.non_trainable_variables if id(v) not in weights]

    def save_own_variables(self, store: Any) -> None:
        """Keeps all seed states below, which Keras leaves out, so that resuming changes nothing."""
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
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "WithMissing":
        config = dict(config)
        for name in ("model", "missing"):
            if name in config:
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)
