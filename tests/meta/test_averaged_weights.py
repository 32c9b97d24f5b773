"""Averaged weights (`use_ema`) of wrapped models in `fit`, with Keras' own callbacks."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.models.mmim.contrast_stage import HoldingAdam
from keras_m3s.models.tfr_net.training import RunningSumAdam
from keras_m3s.optimizers import GroupedAdam

MOMENTUM = 0.7
RNG = np.random.default_rng(0)
X = {"left": RNG.normal(size=(12, 4, 2)).astype("float32"),
     "right": RNG.normal(size=(12, 3)).astype("float32")}  # fmt: skip
Y = (X["left"].sum((1, 2)) - X["right"].sum(1)).astype("float32")[:, None]
VALID = ({**X, "draws": m3s.missing.fixed_draws(12, 2, seed=1)}, Y)


def linear():
    """A linear model: its gradient depends on the weights, which so depend on what was served."""
    keras.utils.set_random_seed(3)
    inputs = {name: keras.Input(x.shape[1:], name=name) for name, x in X.items()}
    both = keras.layers.Concatenate()([keras.layers.Flatten()(v) for v in inputs.values()])
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(both))


def holes():
    return m3s.MissingModality((0.2, 0.6), modalities=list(X), seed=5, fill="learned")


WRAPPERS = {
    "with_missing": lambda: m3s.WithMissing(linear(), holes()),
    "m3s": lambda: m3s.M3S(linear(), holes(), inner_learning_rate=0.05),
}


def compiled(wrapper, optimizer=None):
    model = WRAPPERS[wrapper]()
    settings = {"use_ema": True, "ema_momentum": MOMENTUM}
    model.compile(optimizer or keras.optimizers.Adam(0.1, **settings), loss="mse")
    return model


def values(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def averages_by_hand(weights):
    """a_1 = w_1, a_t = m a_(t-1) + (1 - m) w_t."""
    average = weights[0]
    for after in weights[1:]:
        pairs = zip(average, after, strict=True)
        average = [MOMENTUM * a + (1 - MOMENTUM) * w for a, w in pairs]
    return average


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "grouped": lambda *a, **k: GroupedAdam(*a, groups={"head": {"multiplier": 0.5}}, **k),
    "running_sum": lambda *a, **k: RunningSumAdam(*a, window=2, clipvalue=1.0, **k),
    "holding": lambda *a, **k: HoldingAdam(*a, held="bias", **k),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_average_is_the_recursion_by_hand(name):
    optimizer = OPTIMIZERS[name](0.1, use_ema=True, ema_momentum=MOMENTUM)
    model = compiled("with_missing", optimizer)
    weights = []
    for _ in range(4):
        model.train_on_batch(X, Y)
        weights.append(values(model.trainable_variables))
    expected = averages_by_hand(weights)
    assert not np.allclose(expected[0], weights[-1][0], atol=1e-3)
    optimizer.finalize_variable_values(model.trainable_variables)
    assert_close(values(model.trainable_variables), expected)


class Raw(keras.callbacks.Callback):
    """The weights that training is at when an epoch has ended; before `SwapEMAWeights`."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(values(self.model.trainable_variables))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_fit_validates_and_saves_averages(wrapper, tmp_path):
    """As the guide says: `SwapEMAWeights`, and after it `ModelCheckpoint`. A step an epoch."""
    model, raw = compiled(wrapper), Raw()
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    history = model.fit(X, Y, batch_size=12, epochs=3, shuffle=False, validation_data=VALID,
                        callbacks=[raw, swap, save], verbose=0).history  # fmt: skip
    other = compiled(wrapper)
    other.evaluate(*VALID, verbose=0)
    for epoch, loss in enumerate(history["val_loss"], 1):
        average = averages_by_hand(raw.weights[:epoch])
        loaded = keras.saving.load_model(tmp_path / f"{epoch}.keras")
        assert_close(values(loaded.trainable_variables), average)
        for variable, value in zip(other.trainable_variables, average, strict=True):
            variable.assign(value)
        np.testing.assert_allclose(other.evaluate(*VALID, verbose=0), loss, rtol=1e-5)
    assert not np.allclose(average[0], raw.weights[-1][0], atol=1e-3)
    assert_close(values(model.trainable_variables), average)
    before = model.predict(X, verbose=0)
    assert np.isfinite(model.fit(X, Y, batch_size=12, verbose=0).history["loss"]).all()
    assert not np.allclose(model.predict(X, verbose=0), before)
