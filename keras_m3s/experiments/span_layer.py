"""A control: the layer that anyone would write who has not heard of this package.

It cuts one span into each sequence and vector in training, at one range of rates for all, with
numbers of its own. What is cut counts as never measured, so holes are filled as with any method.
"""

from typing import Any

import keras
from keras import ops

from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import MissingModality


@keras.saving.register_keras_serializable(package="keras_m3s")
class SpanDropout(keras.layers.Layer):
    """Cuts a span of random length and place along the first axis after the batch.

    Args:
        rates: Lowest and highest share of the axis that is cut.
        seed: Of its draws.
    """

    def __init__(self, rates: tuple[float, float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rates, self.seed = tuple(rates), seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        batch, steps = ops.shape(x)[0], x.shape[1]
        share = keras.random.uniform((batch, 1), *self.rates, seed=self.generator)
        start = keras.random.uniform((batch, 1), seed=self.generator) * (1 - share)
        place = (ops.arange(steps, dtype="float32") + 0.5) / steps
        hole = ops.logical_and(place >= start, place < start + share)
        return ops.where(ops.reshape(hole, (-1, steps, *[1] * (len(x.shape) - 2))), float("nan"), x)

    @property
    def arguments(self) -> dict[str, Any]:
        """`rates` and `seed`."""
        return {"rates": list(self.rates), "seed": self.seed}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable(package="keras_m3s")
class WithSpanLayer(WithMissing):
    """A model with `SpanDropout` before it; tested as any other on the holes of `missing`.

    Args:
        model: As of `WithMissing`.
        missing: Likewise: the holes of tests, and what stands in holes.
        rates: Of `SpanDropout`.
        seed: Likewise.
        **kwargs: As of `WithMissing`.
    """

    def __init__(
        self,
        model: keras.Model,
        missing: MissingModality,
        rates: tuple[float, float],
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, missing, **kwargs)
        self.spans = SpanDropout(rates, seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or self.missing is None:
            return super().call(inputs, training)
        features = self._features(inputs)
        cut = {m: self.spans(features[m], training=True) for m in self.missing.modalities}
        return self._call_model(self._apply_missing({**features, **cut}, self.missing), training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.spans.arguments}
