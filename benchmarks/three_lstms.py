"""The setting of most benchmarks: three LSTMs of 64 units and a linear layer, with Keras.

Text 50 x 768, audio 50 x 74, vision 50 x 47, and one score per row. A plain step takes 32 rows, a
step of M3S 32 of support and 32 of query.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

import keras_m3s as m3s

WIDTHS = {"audio": 74, "vision": 47, "text": 768}
TINY = {"audio": 3, "vision": 2, "text": 4}
STEPS, UNITS, ROWS = 50, 64, 32
MISSING, INNER_RATE, OUTER_RATE = (0.4, 0.6), 1e-3, 1e-3


def batch(rows: int, tiny: bool = False) -> tuple[dict[str, Any], Any]:
    """Features and scores."""
    random = np.random.default_rng(0)
    widths, steps = (TINY, 5) if tiny else (WIDTHS, STEPS)
    x = {m: random.normal(size=(rows, steps, width)) for m, width in widths.items()}
    y = random.normal(size=(rows, 1))
    return {m: values.astype("float32") for m, values in x.items()}, y.astype("float32")


class ThreeLSTMs(keras.Model):
    """A score from the last states of all modalities."""

    def __init__(self, units: int = UNITS) -> None:
        from keras_m3s.layers.recurrent import LSTM  # elsewhere in older versions

        super().__init__()
        self.encoders = {m: LSTM(units, name=m) for m in WIDTHS}
        self.head = keras.layers.Dense(1)

    def build(self, inputs_shape: Mapping[str, Any]) -> None:
        for m, encoder in self.encoders.items():
            encoder.build(inputs_shape[m])
        self.head.build((None, sum(encoder.units for encoder in self.encoders.values())))

    def call(self, inputs: Mapping[str, Any]) -> Any:
        last = [encoder(inputs[m])[1] for m, encoder in self.encoders.items()]
        return self.head(keras.ops.concatenate(last, axis=-1))


def model(inner_steps: int | None, first_order: bool = True, xla: bool = False) -> keras.Model:
    """The model, compiled; plain where `inner_steps` is `None`, otherwise in M3S."""
    keras.utils.set_random_seed(0)
    made: keras.Model = ThreeLSTMs()
    if inner_steps is not None:
        made = m3s.M3S(
            made,
            m3s.MissingModality(MISSING, seed=0),
            inner_steps=inner_steps,
            inner_learning_rate=INNER_RATE,
            first_order=first_order,
        )
    compiled = xla or keras.backend.backend() == "jax"
    made.compile(keras.optimizers.Adam(OUTER_RATE), loss="mse", jit_compile=compiled)
    return made


class Repeated(keras.utils.PyDataset):
    """Batches, one after the other, again and again."""

    def __init__(self, batches: Sequence[Any], steps: int) -> None:
        super().__init__()
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Any:
        return self.batches[index % len(self.batches)]


def fitting(model: keras.Model, batches: Sequence[Any]) -> Callable[[int], None]:
    """Steps of `fit`; an epoch is as long as it is asked to be."""
    # What batches cost is for `input_pipeline` to say: here they lie on the device.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        stacked = keras.tree.map_structure(lambda *rows: tf.stack(rows), *batches)
        # There is nothing to tune, and an iterator that is dropped before its end may have to wait
        # until the tuner wakes, which can be as long again as the steps themselves took.
        fixed = tf.data.Options()
        fixed.autotune.enabled = False
        endless = tf.data.Dataset.from_tensor_slices(stacked).repeat().with_options(fixed)
        data: Callable[[int], Any] = endless.take
    else:
        there = keras.tree.map_structure(keras.ops.convert_to_tensor, list(batches))
        data = functools.partial(Repeated, there)

    def run(steps: int) -> None:
        model.fit(data(steps), shuffle=False, verbose=0)

    return run


def steps_of_fit(
    inner_steps: int | None, first_order: bool = True, xla: bool = False, tiny: bool = False
) -> Callable[[int], None]:
    """Steps of `fit`, plain or M3S."""
    rows = (4 if tiny else ROWS) * (1 if inner_steps is None else 2)
    return fitting(model(inner_steps, first_order, xla), [batch(rows, tiny)])
