"""`fit_replicas`: each replica ends with the numbers of a single `fit`."""

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s.utils.backend import set_random_seed

SEEDS = (1, 4)
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="replicas need JAX")

RNG = np.random.default_rng(0)
X = {name: RNG.normal(size=(44, 6, 3)).astype("float32") for name in ("left", "right")}
Y = (X["left"].mean((1, 2)) + 0.1 * RNG.normal(size=44)).astype("float32")[:, None]
TRAIN = ({name: rows[:28] for name, rows in X.items()}, Y[:28])  # batches of 8, 8, 8 and 4
VALID = ({name: rows[28:] for name, rows in X.items()}, Y[28:])


def network():
    inputs = {name: keras.Input((6, 3), name=name) for name in X}
    h = keras.layers.Concatenate()(list(inputs.values()))
    h = keras.layers.Dense(5, "tanh")(keras.layers.Flatten()(h))
    h = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(h))
    return keras.Model(inputs, keras.layers.Dense(1)(h))


def build(kind, seed):
    model = network()
    holes = m3s.MissingModality({"left": (0.2, 0.8), "right": (0.0, 0.5)}, seed=seed)
    if kind == "spl-trn":
        model = m3s.WithMissing(model, holes)
    if kind == "m3s":
        model = m3s.M3S(model, holes, inner_steps=2, inner_learning_rate=0.05)
    # At .1 rounding alone grows to more than what is compared below.
    model.compile(
        keras.optimizers.Adam(0.04, clipnorm=1.0), loss="mse", metrics=["mae"], jit_compile=True
    )
    return model


def alone(make, seed, *data, **arguments):
    set_random_seed(seed)
    model = make(seed)
    data = [one(seed) if callable(one) else one for one in data]
    model.fit(*data, verbose=0, **arguments)
    return model


def assert_alike(replicas, singles):
    for replica, single in zip(replicas, singles, strict=True):
        assert replica.history.epoch == single.history.epoch
        assert replica.history.history.keys() == single.history.history.keys()
        for name, values in single.history.history.items():
            np.testing.assert_allclose(replica.history.history[name], values, 1e-5, 1e-6, name)
        pairs = zip([*replica.variables, *replica.optimizer.variables],
                    [*single.variables, *single.optimizer.variables], strict=True)  # fmt: skip
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=theirs.path)


def stops_early(seed):
    return [keras.callbacks.EarlyStopping("val_mae", patience=0, restore_best_weights=True)]


@on_jax
@pytest.mark.parametrize("kind", ["plain", "m3s"])
def test_the_numbers_are_those_of_single_runs(kind):
    """Each with its own weights, order, draws, dropout, batch statistics and patience."""
    settings = {"batch_size": 8, "epochs": 4, "validation_data": VALID}
    replicas = m3s.fit_replicas(
        lambda seed: build(kind, seed), SEEDS, *TRAIN, **settings, callbacks=stops_early
    )
    singles = [
        alone(lambda s: build(kind, s), seed, *TRAIN, **settings, callbacks=stops_early(seed))
        for seed in SEEDS
    ]
    assert_alike(replicas, singles)
    if kind == "m3s":
        assert [len(model.history.epoch) for model in replicas] == [4, 2], "patience of their own"
    kernels = [np.asarray(model.trainable_variables[0]) for model in replicas]
    assert not np.allclose(kernels[0], kernels[1], atol=1e-3)


class Rows(keras.utils.PyDataset):
    """Batches of given sizes, in the order of a seed."""

    def __init__(self, seed, sizes):
        super().__init__()
        self.sizes, self.rng = sizes, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.sizes)

    def on_epoch_end(self):
        self.order = self.rng.permutation(28)

    def __getitem__(self, index):
        rows = self.order[: self.sizes[index]]
        return {name: array[rows] for name, array in TRAIN[0].items()}, TRAIN[1][rows]


@on_jax
def test_datasets_of_their_own():
    """For training and for validation; the global random state is separate too."""

    def make(seed):
        return build("plain", seed)

    class Global(Rows):
        def on_epoch_end(self):
            self.order = np.random.permutation(28)  # noqa: NPY002

    settings = {"epochs": 2, "initial_epoch": 1, "shuffle": False}
    replicas = m3s.fit_replicas(
        make,
        SEEDS,
        lambda seed: Global(seed, [8, 8]),
        validation_data=lambda seed: Rows(seed, [6]),
        **settings,
    )
    singles = [
        alone(make, s, lambda s: Global(s, [8, 8]), validation_data=Rows(s, [6]), **settings)
        for s in SEEDS
    ]
    assert_alike(replicas, singles)


@on_jax
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"seeds": []}, "`seeds` must hold at least one int. Received: none"),
        ({"x": Rows(0, [8])}, "`x` must be arrays or a function of the seed. Received: Rows"),
        ({"x": lambda s: Rows(s, [8] * (1 + s))}, "Received: 2 for seed 1, 1 for seed 0"),
        ({"x": lambda s: Rows(s, [7 + s])}, "batches of the same shapes. Received: .*7, .*8, "),
        ({"build": lambda s: build(("plain", "m3s")[s], s)}, "Received: a M3S for seed 1"),
    ],
)
def test_what_is_not_alike_is_refused(arguments, message):
    good = {
        "build": lambda s: build("plain", s),
        "seeds": [0, 1],
        "x": lambda seed: Rows(seed, [8]),
    }
    with pytest.raises(ValueError, match=message):
        m3s.fit_replicas(**{**good, **arguments})


@pytest.mark.once
def test_not_without_jax():
    with pytest.raises(
        RuntimeError, match="must be trained on JAX.*Received: KERAS_BACKEND='torch'"
    ):
        m3s.fit_replicas(network, [0], *TRAIN)
