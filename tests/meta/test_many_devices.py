"""Training on several devices is that on one at the same global batch, to rounding.

Each test has a process of its own: devices are made before a framework starts. The guide's examples
for several devices run there too.
"""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

BACKEND = keras.backend.backend()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

SCRIPT = """
import sys
import keras, numpy as np
import keras_m3s as m3s
from keras_m3s.layers.recurrent import LSTM
from keras_m3s.meta.draws import add_draws

rng = np.random.default_rng(0)
x = {m: rng.normal(size=(48, 6, 3)).astype("float32") for m in ("audio", "vision", "text")}
y = rng.normal(size=(48, 1)).astype("float32")

def build():
    keras.utils.set_random_seed(0)
    inputs = {m: keras.Input((6, 3), name=m) for m in x}
    h, _ = LSTM(3)(keras.layers.Concatenate()([inputs[m] for m in sorted(x)]))
    h = keras.layers.Dense(4, "tanh")(keras.layers.Flatten()(h))
    model = keras.Model(inputs, keras.layers.Dense(1)(h))
    meta = m3s.M3S(model, m3s.MissingModality((0.3, 0.9), seed=0), 2, 0.3)
    meta.compile(keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
    return meta

def results(meta, *data, **arguments):
    history = meta.fit(*data, epochs=2, verbose=0, shuffle=False, **arguments).history
    return [np.array(values) for values in history.values()] + meta.get_weights()

def assert_alike(one, several):
    assert len(one) == len(several) and not np.allclose(one[0][0], one[0][1])
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
"""

DATA_PARALLEL = """
one = results(build(), x, y, batch_size=16, validation_data=(x, y))
devices = keras.distribution.list_devices()
assert len(devices) == 4
with keras.distribution.DataParallel(devices=devices).scope():
    model = build()
    several = results(model, x, y, batch_size=16, validation_data=(x, y))
assert len(model.trainable_variables[0].value.sharding.device_set) == 4
assert_alike(one, several)

from tests.test_guides import GUIDES, run_all
assert len(run_all(GUIDES / "many-devices.md", "JAX")["devices"]) == 4
print("ok")
"""

TWO_OF_TENSORFLOW = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""

MIRRORED = """
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
one = results(build(), batches)
with strategy.scope():
    meta = build()
assert_alike(one, results(meta, batches))

@tf.function
def step():
    few = {m: tf.constant(v[:4]) for m, v in x.items()}
    return strategy.run(lambda: add_draws(few, meta.missing)["draws"])
drawn = strategy.experimental_local_results(step())
assert all(a.shape == (4, 3, 2) for a in drawn)
assert len(np.unique(np.concatenate(drawn))) == 2 * 4 * 3 * 2, "replicas drew the same holes"
print("ok")
"""

GUIDE = """
from tests.test_guides import GUIDES, run_all
assert len(run_all(GUIDES / "many-devices.md", "TensorFlow")["devices"]) == 2
print("ok")
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": BACKEND} | environment,
    )
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), done.stderr[-3000:]


@pytest.mark.skipif(BACKEND != "jax", reason="`keras.distribution` is JAX's")
def test_data_parallel():
    flags = os.environ.get("XLA_FLAGS", "")
    # Keras imports TensorFlow where it can, which takes longer than what is tested.
    run(
        "sys.modules['tensorflow'] = None\n" + DATA_PARALLEL,
        XLA_FLAGS=f"{flags} --xla_force_host_platform_device_count=4",
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a TensorFlow strategy")
def test_mirrored_strategy():
    """The same losses and weights, of draws that are no two replicas'."""
    run(TWO_OF_TENSORFLOW + MIRRORED)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a TensorFlow strategy")
def test_mirrored_strategy_of_the_guide():
    """By itself: TensorFlow takes a second strategy's sums for those of the first."""
    run(TWO_OF_TENSORFLOW + GUIDE)
