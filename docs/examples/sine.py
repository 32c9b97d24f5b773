"""MAML's regression of sine waves: after one step on ten points a network follows a new wave.

    python docs/examples/sine.py sine.png                    # 70,000 iterations, as published
    python docs/examples/sine.py sine.png --iterations 5000 --tasks 100

Testing on 600 waves takes about as long as training, a quarter of an hour on a core.

A task is a wave: amplitude from [0.1, 5], phase from [0, pi], ten points of it in [-5, 5] to adapt
to, ten others to test on. Prints the mean squared error after some steps of gradient descent, and
its 95 % interval over waves, of a network that was meta-trained for one such step and of one that
was trained on all waves alike; and draws both on a wave. JAX, which takes the step on all waves of
a batch at once, is the backend for this.

Reference: Finn, Abbeel & Levine, Model-agnostic meta-learning for fast adaptation of deep networks,
ICML 2017, section 5.1; settings as in cbfinn/maml, `main.py`.
"""

import argparse
from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

import keras_m3s as m3s

SHOTS, TASKS, UNITS = 10, 25, 40
INNER_RATE, OUTER_RATE = 0.01, 1e-3
STEPS, TEST_TASKS = (0, 1, 5, 10), 600
FINE_TUNING_RATE = 0.02  # of the network that was trained on all waves, as in the paper's figure 3
PER_EPOCH = 1000

Array = np.ndarray


def waves(random: np.random.Generator, tasks: int, points: int) -> tuple[Array, Array]:
    """Points of random waves, each `(tasks, points, 1)`."""
    amplitude = random.uniform(0.1, 5.0, (tasks, 1, 1))
    phase = random.uniform(0.0, np.pi, (tasks, 1, 1))
    x = random.uniform(-5.0, 5.0, (tasks, points, 1))
    return x.astype("float32"), (amplitude * np.sin(x - phase)).astype("float32")


def network() -> keras.Model:
    """Two hidden layers; all weights begin near 0."""
    small = keras.initializers.TruncatedNormal(stddev=0.01)
    hidden = [layers.Dense(UNITS, "relu", kernel_initializer=small) for _ in range(2)]
    outputs = layers.Dense(1, kernel_initializer=small)
    return keras.Sequential([keras.Input((1,)), *hidden, outputs])


def trained(iterations: int, meta: bool, seed: int = 0) -> m3s.MetaModel:
    """A network that was meta-trained, or trained on all waves alike.

    Args:
        iterations: Steps of the optimizer, each on `TASKS` waves.
        meta: Whether the gradient is that after a step on each wave; second order.
        seed: Of weights and waves.
    """
    keras.utils.set_random_seed(seed)
    model = m3s.MetaModel(
        network(),
        inner_steps=int(meta),
        inner_learning_rate=INNER_RATE,
        first_order=False,
        tasks=TASKS if meta else 1,
    )
    model.compile(keras.optimizers.Adam(OUTER_RATE), loss="mse")
    random = np.random.default_rng(seed)
    for epoch in _epochs(iterations):
        # Rows 0::2 of a wave are those to adapt to, rows 1::2 those that the outer loss is of.
        x, y = waves(random, epoch * TASKS, 2 * SHOTS)
        log = model.fit(x.reshape(-1, 1), y.reshape(-1, 1), batch_size=TASKS * 2 * SHOTS,
                        shuffle=False, verbose=0).history  # fmt: skip
        print(f"{log['loss'][-1]:.3f} before and {log['adapted_loss'][-1]:.3f} after adapting")
    return model


def _epochs(iterations: int) -> Iterator[int]:
    for start in range(0, iterations, PER_EPOCH):
        yield min(PER_EPOCH, iterations - start)


def errors(model: m3s.MetaModel, steps: int, tasks: int, seed: int = 1) -> Array:
    """Mean squared errors on fresh waves `(tasks,)`, after steps on ten points of each."""
    x, y = waves(np.random.default_rng(seed), tasks, 2 * SHOTS)
    found = []
    for x_task, y_task in zip(x, y, strict=True):
        adapted = model.adapt(x_task[:SHOTS], y_task[:SHOTS], steps)
        predicted = keras.ops.convert_to_numpy(adapted(x_task[SHOTS:]))
        found.append(np.mean((predicted - y_task[SHOTS:]) ** 2))
    return np.array(found)


def for_testing(model: m3s.MetaModel, rate: float) -> m3s.MetaModel:
    """The same network, adapted with another rate."""
    other = m3s.MetaModel(model.model, inner_learning_rate=rate)
    other.compile(loss="mse")
    return other


def table(models: dict[str, m3s.MetaModel], tasks: int) -> str:
    """Mean squared error and its 95 % interval after each number of steps."""
    lines = [f"{'steps':<20}" + "".join(f"{steps:>15}" for steps in STEPS)]
    for name, model in models.items():
        cells = []
        for steps in STEPS:
            found = errors(model, steps, tasks)
            cells.append(f"{found.mean():.2f} +- {1.96 * found.std() / tasks**0.5:.2f}")
        lines.append(f"{name:<20}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


def draw(models: dict[str, m3s.MetaModel], path: str, seed: int = 3) -> None:
    """A wave, ten points of it, and what each network makes of them."""
    from matplotlib import pyplot as plt

    x, y = waves(np.random.default_rng(seed), 1, SHOTS + 200)
    points, line = slice(0, SHOTS), np.argsort(x[0, SHOTS:, 0]) + SHOTS
    figure, axes = plt.subplots(1, len(models), figsize=(9, 3), sharey=True, layout="constrained")
    for axis, (name, model) in zip(axes, models.items(), strict=True):
        axis.plot(x[0, line], y[0, line], "k", lw=1, label="wave")
        axis.plot(x[0, points], y[0, points], "k^", label="ten points")
        for steps, style in zip(STEPS[:3], (":", "--", "-"), strict=True):
            adapted = model.adapt(x[0, points], y[0, points], steps)
            predicted = keras.ops.convert_to_numpy(adapted(x[0, line]))
            axis.plot(x[0, line], predicted, style, label=f"{steps} steps")
        axis.set_title(name)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture")
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--tasks", type=int, default=TEST_TASKS, help="to test on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    models = {"MAML": trained(arguments.iterations, True, arguments.seed)}
    plain = trained(arguments.iterations, False, arguments.seed)
    models["all waves alike"] = for_testing(plain, FINE_TUNING_RATE)
    print(table(models, arguments.tasks))
    draw(models, arguments.picture)


if __name__ == "__main__":
    main()
