"""Under `MirroredStrategy` the meta step is that of one device at the same global batch."""

import subprocess
import sys

import keras
import pytest

SCRIPT = """
import os, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras, numpy as np, tensorflow as tf
import keras_m3s as m3s
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x = {m: rng.normal(size=(16, 6, 3)).astype("float32") for m in ("audio", "vision", "text")}
y = rng.normal(size=(16, 1)).astype("float32")

def build():
    keras.utils.set_random_seed(0)
    inputs = {m: keras.Input((6, 3), name=m) for m in x}
    h = keras.layers.Flatten()(keras.layers.Concatenate()([inputs[m] for m in sorted(x)]))
    h = keras.layers.Dense(4, "tanh")(h)
    model = keras.Model(inputs, keras.layers.Dense(1)(h))
    meta = m3s.M3S(model, m3s.MissingModality((0.3, 0.9), seed=0), 2, 0.3)
    meta.compile(keras.optimizers.SGD(0.1), loss="mse")
    return meta

def weights(meta, batch):
    meta.fit(batch.batch(16), epochs=2, verbose=0)
    return meta.get_weights()

if sys.argv[1] == "same":
    rows = {**x, "draws": m3s.missing.fixed_draws(16, seed=1)}
    batch = tf.data.Dataset.from_tensor_slices((rows, y))
    one = weights(build(), batch)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = build()
    for a, b in zip(one, weights(two, batch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
else:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        meta = build()
    @tf.function
    def step():
        return strategy.run(lambda: meta.draw({m: tf.constant(v[:4]) for m, v in x.items()})["draws"])
    a, b = strategy.experimental_local_results(step())
    assert a.shape == b.shape == (4, 3, 2)
    assert not np.intersect1d(a.numpy(), b.numpy()).size, "replicas drew the same holes"
print("ok")
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a TensorFlow strategy")
@pytest.mark.parametrize("what", ["same", "draws"])
def test_mirrored_strategy(what):
    done = subprocess.run([sys.executable, "-c", SCRIPT, what], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), done.stderr[-3000:]
