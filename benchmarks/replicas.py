"""What replicas cost: 10 seeds of M3S trained as one program over one of them by itself.

    KERAS_BACKEND=jax python benchmarks/replicas.py
    KERAS_BACKEND=jax python benchmarks/replicas.py --replicas 2 5 10 --epochs 3 --rounds 5

Prints the ratio for epochs of training with validation, without compiling, taken in turns: one,
ten, one, ten, ... Claimed to be at most 2 for 10 replicas where there is a GPU. A CPU has its hands
full with one, so there the ratio is near the number of replicas and nothing is claimed; what is
gained is printed beside it: replicas / ratio.
"""

import argparse
import os
import statistics
import sys
import time
from typing import Any

import numpy as np

MOST = 2.0


def data(rows: int, steps: int, widths: dict[str, int]) -> Any:
    rng = np.random.default_rng(0)
    x = {m: rng.normal(size=(rows, steps, width)).astype("float32") for m, width in widths.items()}
    lengths = rng.integers(steps // 4, steps + 1, size=rows).astype("int32")
    x |= {f"{m}_length": lengths for m in widths}
    return x, rng.normal(size=(rows, 1)).astype("float32")


class Clock:
    """Seconds of each epoch of the replicas that share it, from when the first one begins it."""

    def __init__(self) -> None:
        self.began: dict[int, float] = {}
        self.seconds: dict[int, float] = {}

    def callback(self) -> Any:
        import keras

        def begin(epoch: int, logs: Any = None) -> None:
            self.began.setdefault(epoch, time.perf_counter())

        def end(epoch: int, logs: Any = None) -> None:
            self.seconds[epoch] = time.perf_counter() - self.began[epoch]

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


def epoch_seconds(replicas: int, arguments: argparse.Namespace, train: Any, valid: Any) -> float:
    """Median seconds of an epoch after the first, which compiles."""
    import keras

    import keras_m3s as m3s

    def build(seed: int) -> Any:
        model = m3s.models.MISA()
        meta = m3s.M3S(model, m3s.MissingModality((0.4, 0.6), seed=seed))
        meta.compile(keras.optimizers.Adam(1e-4))
        return meta

    clock = Clock()
    settings: dict[str, Any] = {
        "batch_size": arguments.batch_size,
        "epochs": 1 + arguments.epochs,
        "validation_data": valid,
    }
    if replicas == 1:
        keras.utils.set_random_seed(0)
        build(0).fit(*train, verbose=0, callbacks=[clock.callback()], **settings)
    else:
        m3s.fit_replicas(
            build, range(replicas), *train, callbacks=lambda _: [clock.callback()], **settings
        )
    return statistics.median(s for epoch, s in clock.seconds.items() if epoch > 0)


def main() -> int:
    """Prints the ratios; 1 where one is more than claimed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, nargs="+", default=[10])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if os.environ.setdefault("KERAS_BACKEND", "jax") != "jax":
        print("replicas are trained on JAX: nothing to measure with another backend")
        return 0
    from keras_m3s.experiments.replicas import runs_on_accelerator

    claimed = runs_on_accelerator()
    widths = {"text": 768, "audio": 74, "vision": 47}
    train = data(arguments.rows, arguments.steps, widths)
    valid = data(arguments.rows // 4, arguments.steps, widths)
    times: dict[int, list[float]] = {size: [] for size in (1, *arguments.replicas)}
    for _ in range(arguments.rounds):
        for size, found in times.items():
            found.append(epoch_seconds(size, arguments, train, valid))
    within = True
    for size in arguments.replicas:
        ratios = [many / one for many, one in zip(times[size], times[1], strict=True)]
        ratio = statistics.median(ratios)
        claim = f"at most {MOST}" if claimed and size <= 10 else "on a CPU, nothing claimed"
        together, alone = (statistics.median(times[n]) for n in (size, 1))
        print(
            f"{size:3d} replicas over one   {together:7.2f} s / {alone:.2f} s an epoch   "
            f"ratio {ratio:.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})   gain {size / ratio:.2f}   ({claim})"
        )
        within &= not claimed or size > 10 or ratio <= MOST
    return int(not within)


if __name__ == "__main__":
    sys.exit(main())
