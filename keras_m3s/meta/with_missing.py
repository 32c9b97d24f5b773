"""`WithMissing`: a model that sees its inputs through T, as ORIG and SPL-TRN train it.

Loss, metrics and prediction are those of the wrapped model. Whether holes are fixed (ORIG) or fresh
at each step (SPL-TRN) depends on the data: if a batch holds `draws`, they decide, in training and
in evaluation alike.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_m3s.meta import backend, export, functional, passes
from keras_m3s.meta import consistency as _consistency
from keras_m3s.meta import inputs as _inputs
from keras_m3s.meta.arguments import check_arguments
from keras_m3s.meta.consistency import Consistency
from keras_m3s.meta.draws import add_draws, warned_without_draws
from keras_m3s.meta.functional import Batch, LossOutput, OfOptimizer, State, Tensor, Values
from keras_m3s.meta.inputs import TRANSFORMED, ModelInputs
from keras_m3s.meta.labels import without_nan
from keras_m3s.missing import MissingModality
from keras_m3s.missing.transform import TEXT
from keras_m3s.modalities import COMPLEMENT, COMPLETE, DRAWS, TEXT_BERT
from keras_m3s.utils import keras_private


@keras.saving.register_keras_serializable(package="keras_m3s")
class WithMissing(backend.TrainerOverrides, keras.Model):
    """Wraps a model so that it sees its inputs through `MissingModality`.

    Inputs may be what the model takes: a dict, a list or tuple, or a single tensor whose channels
    `MissingModality(modalities=...)` names. A model gets the entries that it takes and no others:
    lengths, draws and the row's number serve the holes. In a dict, a modality that is `None` or
    absent is missing as a whole; NaN is a value that was never measured, in evaluation and
    prediction as well. A label that is NaN counts for nothing in the loss of a compiled model.

    Args:
        model: Any `keras.Model`; for `site="encoded"` one with `encode(inputs, training)`, which
            returns a dict of vectors, and `fuse(encoded, training)`.
        missing: `MissingModality`, or `None` for the model as it is.
        site: Where T is applied: `"raw"` to the inputs, `"encoded"` to the vectors between `encode`
            and `fuse`, which takes a layer with `axis="feature"`.
        consistency: Weight >= 0 of a penalty on differences between predictions for the same rows
            under two draws, in training; a dict of weights for several outputs, or a
            `keras_m3s.meta.consistency.Consistency`. Each row then counts twice.
        teacher: `"complete"` or `"average"`: the predictions under one draw follow those of the
            model, or of the optimizer's averaged weights, on what was measured. By itself at
            weight 1.

    Raises:
        ValueError: If an argument is not of these kinds, the model has a training, testing or
            prediction step of its own, or there is no loss to train on.

    Reference: M3S, section 4.4 (ORIG, ORIG + SPL-TRN).
    """

    # Entries of the configuration that are objects by themselves.
    _objects: ClassVar[tuple[str, ...]] = ("model", "missing", "consistency")

    def __init__(
        self,
        model: keras.Model,
        missing: MissingModality | None = None,
        site: str = "raw",
        consistency: float | Mapping[str, float] | Consistency | None = None,
        teacher: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Inputs reach the wrapped model as they are: draws among them would not survive float16.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        check_arguments(model, missing, site)
        self.consistency = _consistency.get(consistency, teacher, missing)
        self.model = model
        self.missing = missing
        self.site = site
        self._penalty = None if self.consistency is None else passes.mean_penalty()
        self._inputs = ModelInputs(model, missing)
        if missing is not None and self._inputs.wants_presence:
            missing.presence = True
        # The wrapper has no weights. Unbuilt, `predict` on JAX would first call it uncompiled.
        self.built = model.built and self._missing_is_built(self._inputs.shapes)
        self._warned_of_draws = False
        parameters = inspect.signature(model.call).parameters.values()
        self._model_takes_training = any(
            p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.missing is None:
            return self._call_model(inputs, training)
        features = self._features(inputs)
        if TRANSFORMED in features:
            return self._call_model(features[TRANSFORMED], training)
        if training:
            features = add_draws(features, self.missing)
        if self.site == "raw":
            return self._call_model(self._apply_missing(features, self.missing), training)
        draws = features.pop(DRAWS, None)
        features = _inputs.zero_nan(features)
        if draws is None:
            return self._call_model(features, training)
        with_complement = self._add_complement(features, self.missing)
        if not self.model.built:
            self._call_model(with_complement, training=False)
        encoded = self.model.encode(with_complement, training=training)
        encoded = self.missing.call({**encoded, DRAWS: draws})
        return self.model.fuse(encoded, training=training)

    def _features(self, inputs: Any) -> dict[str, Any]:
        """Inputs as a dict of all modalities, NaN for those that are absent."""
        features = self._inputs.split(inputs)
        if TRANSFORMED in features:
            return features
        self._inputs.note(features)
        shapes = {n: tuple(v.shape) for n, v in features.items() if hasattr(v, "shape")}
        if self.missing is not None and not self._missing_is_built(shapes):
            complete = _inputs.zero_nan(features)
            if not self.model.built:
                self._call_model(complete, training=False)
            encoded = self.model.encode(complete, training=False)
            self.missing.build({name: tuple(vector.shape) for name, vector in encoded.items()})
        return self._inputs.complete(features)

    def _missing_is_built(self, shapes: Mapping[str, Any]) -> bool:
        """Builds the layer from the shapes of what it cuts, if they are known."""
        if self.missing is None or self.missing.built:
            return True
        known = {name: shape for name, shape in shapes.items() if _inputs.is_modality(name)}
        if self.site == "encoded" or not set(self.missing.modalities) <= set(known) or not known:
            return False
        self.missing.build(known)
        return True

    def _call_model(self, inputs: Any, training: bool | None) -> Any:
        if training is None or not self._model_takes_training:
            return self.model(inputs)
        return self.model(inputs, training=training)

    def _transform(self, inputs: Any, missing: MissingModality | None) -> Any:
        """`inputs` with T applied once for several passes: raw features, whose draws are there."""
        if missing is None or self.site != "raw":
            return inputs
        return {**inputs, TRANSFORMED: self._apply_missing(inputs, missing)}

    def _apply_missing(self, features: Mapping[str, Any], missing: MissingModality) -> Any:
        """What the model takes of raw features, with holes as their draws say."""
        if DRAWS in features:
            features = self._add_complement(features, missing)
        # `__call__` takes as long as T itself, for preparations of Keras that change nothing here.
        return self._inputs.hand_over(missing.call(features))

    def _add_complement(
        self, features: Mapping[str, Any], missing: MissingModality
    ) -> Mapping[str, Any]:
        """Adds the modalities twice more if the model uses what the holes remove.

        T cuts `complement` down to that. It leaves `complete` as it is: a hole may be filled with
        anything, and what is left may be rescaled, so the complete input cannot be told from these.
        """
        if not getattr(self.model, "uses_complement", False):
            return features
        present = {m: features[m] for m in missing.modalities if m in features}
        if TEXT in missing.modalities and TEXT_BERT in features:
            present[TEXT_BERT] = features[TEXT_BERT]
        return {**features, COMPLEMENT: present, COMPLETE: present}

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
        self.loss = self.model.loss  # what `keras.wrappers` and tuners look at

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        if not self.compiled:
            return []
        own = [] if self._penalty is None else [self._penalty]
        return [*self.model.metrics, *own]

    # Keras calls it with `(state, data)` on JAX, elsewhere with `(data)`.
    def train_step(self, *arguments: Any) -> Any:
        if self.consistency is None:
            return super().train_step(*arguments)
        return backend.train_step(self, self._batch_gradient, *arguments)

    def _batch_gradient(
        self, theta: Values, state: State, batch: Batch, of_optimizer: OfOptimizer
    ) -> tuple[Values, LossOutput, Batch]:
        """The gradient of a batch, as a pure function; a `functional.BatchGradient`."""
        loss = passes.loss_of(self, of_optimizer)
        (batch,), state = passes.with_draws(self, theta, state, (batch, self.missing))

        def batch_loss(values: Values) -> tuple[Tensor, LossOutput]:
            return functional.scaled_loss(loss(values, state, batch), of_optimizer.loss_scale)

        gradients, output = backend.gradient(batch_loss, theta)
        return gradients, passes.with_mean_penalty(self, theta, output, batch), batch

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
        if not overridden:
            y, sample_weight = without_nan(y, y_pred, sample_weight)
        return keras_private.compute_loss(self.model, x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if type(self.model).compute_metrics is keras.Model.compute_metrics:
            y, sample_weight = without_nan(y, y_pred, sample_weight)
        return self.model.compute_metrics(x, y, y_pred, sample_weight)

    def fit(self, x: Any = None, y: Any = None, *arguments: Any, **settings: Any) -> Any:
        """As `keras.Model.fit`. If it fails, the weights are those of the last step that did not.

        Raises:
            ValueError: Inputs are infinite, or as `keras.Model.fit`.
        """
        validation = settings.get("validation_data")
        if isinstance(validation, (tuple, list)):
            settings["validation_data"] = (_inputs.checked(validation[0]), *validation[1:])
        with backend.weights_survive(self):
            return super().fit(_inputs.checked(x), y, *arguments, **settings)

    def evaluate(self, x: Any = None, y: Any = None, *arguments: Any, **settings: Any) -> Any:
        """As `keras.Model.evaluate`. Holes are cut if the inputs bring `draws`."""
        within_fit = "_use_cached_eval_dataset" in settings
        if not (self._warned_of_draws or within_fit):
            self._warned_of_draws = warned_without_draws(x, self.missing)
        with backend.weights_survive(self):
            return super().evaluate(_inputs.checked(x), y, *arguments, **settings)

    def predict(self, x: Any, *arguments: Any, **settings: Any) -> Any:
        """As `keras.Model.predict`."""
        with backend.weights_survive(self):
            return super().predict(_inputs.checked(x), *arguments, **settings)

    def export(
        self, filepath: Any, format: str = "tf_saved_model", *arguments: Any, **settings: Any
    ) -> Any:
        """As `keras.Model.export`; the exported program takes NaN for what is missing.

        Raises:
            ValueError: Keras does not export this model in this format on this backend.
        """
        if settings.get("input_signature") is None:
            settings["input_signature"] = export.signature(self.model)
        with backend.exporting(format, settings["input_signature"]):
            return super().export(filepath, format, *arguments, **settings)

    def quantize(self, *arguments: Any, **settings: Any) -> Any:
        """As `keras.Model.quantize`."""
        done = super().quantize(*arguments, **settings)
        self.model.train_function = self.model.test_function = self.model.predict_function = None
        return done

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
            "consistency": keras.saving.serialize_keras_object(self.consistency),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "WithMissing":
        config = dict(config)
        for name in cls._objects:
            if name in config:
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def strip(model: keras.Model) -> keras.Model:
    """The plain model inside a wrapper, for where nothing will be missing; it shares its weights.

    What a `MissingModality` learned (`fill="learned"`) is left behind; `export` of the wrapper
    keeps it.

    Args:
        model: `WithMissing`, `MetaModel` or `M3S`; any other model comes back as it is.
    """
    while isinstance(model, WithMissing):
        model = model.model
    return model
