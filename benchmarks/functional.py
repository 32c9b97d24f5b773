"""`fit` from NumPy arrays: M3S, K = 1, over plain, on a Functional model with `keras.layers.LSTM`.

    python -m benchmarks.functional
    python -m benchmarks.functional --backends jax --rounds 30

As users write it: Keras' own layers, arrays that `fit` shuffles and cuts into batches. Both take
gradients of 32 rows, a step of M3S two of them.
"""

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.interleave import Case, interleaved
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, of_times

AT_MOST = {"jax": 2.2, "tensorflow": 2.2, "tensorflow-xla": 2.2}


def steps_of_fit(
    inner_steps: int | None, xla: bool = False, tiny: bool = False
) -> Callable[[int], None]:
    """Steps of `fit` from arrays; plain where `inner_steps` is `None`, otherwise M3S."""
    import keras

    import keras_m3s as m3s
    from benchmarks.three_lstms import INNER_RATE, MISSING, OUTER_RATE, ROWS, UNITS, batch

    rows = (4 if tiny else ROWS) * (1 if inner_steps is None else 2)
    shapes = {name: array.shape[1:] for name, array in batch(1, tiny)[0].items()}
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    last = [keras.layers.LSTM(UNITS)(one) for one in inputs.values()]
    score = keras.layers.Dense(1)(keras.layers.Concatenate()(last))
    model: keras.Model = keras.Model(inputs, score)
    if inner_steps is not None:
        holes = m3s.MissingModality(MISSING, seed=0)
        model = m3s.M3S(model, holes, inner_steps, INNER_RATE)
    jit = xla or keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(OUTER_RATE), loss="mse", jit_compile=jit)
    x, y = batch(rows * 64, tiny)

    def run(steps: int) -> None:
        cut: Any = slice(0, rows * steps)
        model.fit({m: a[cut] for m, a in x.items()}, y[cut], batch_size=rows, verbose=0)

    return run


def main() -> int:
    """Prints times and ratios; 1 where a ratio is more than claimed."""
    arguments = parser(__doc__, rounds=15, steps=20).parse_args()
    times, claims = {}, []
    for name in arguments.backends:
        backend, xla = BACKENDS[name]
        plain, meta = (
            Case(
                f"{name}: {what}",
                backend,
                "benchmarks.functional:steps_of_fit",
                {"inner_steps": steps, "xla": xla, "tiny": arguments.tiny},
            )
            for what, steps in (("plain", None), ("M3S K=1", 1))
        )
        found = interleaved([plain, meta], arguments.rounds, arguments.steps, arguments.clock)
        times |= found
        ratios = found[meta.name] / found[plain.name]
        claims.append(Claim(f"{meta.name} / plain", ratios, AT_MOST.get(name)))
    print(of_times(times), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
