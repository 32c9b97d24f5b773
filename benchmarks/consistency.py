"""Consistency on a batch of n rows over a step of `WithMissing` on one of 2 n rows.

    python -m benchmarks.consistency
    python -m benchmarks.consistency --backends jax --rounds 30

The model of `benchmarks.three_lstms`. Consistency passes each row under two draws; with a teacher
under one, and once more as it was measured, without a gradient. So no step has more rows than that
of `WithMissing` on twice the batch.
"""

import sys
from collections.abc import Callable

from benchmarks.interleave import Case, interleaved
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, of_times

AT_MOST = 1.1
CASES = {
    "twice the rows": (2, None, None),
    "consistency": (1, 1.0, None),
    "with a teacher": (1, 1.0, "complete"),
}
"""Case -> batches of `ROWS` rows, weight and teacher."""


def steps_of_fit(case: str, xla: bool = False, tiny: bool = False) -> Callable[[int], None]:
    """Steps of `fit` of one of `CASES`."""
    import keras

    import keras_m3s as m3s
    from benchmarks.three_lstms import MISSING, OUTER_RATE, ROWS, ThreeLSTMs, batch, fitting

    batches, weight, teacher = CASES[case]
    keras.utils.set_random_seed(0)
    holes = m3s.MissingModality(MISSING, seed=0)
    model = m3s.WithMissing(ThreeLSTMs(), holes, consistency=weight, teacher=teacher)
    jit = xla or keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(OUTER_RATE), loss="mse", jit_compile=jit)
    return fitting(model, [batch(batches * (4 if tiny else ROWS), tiny)])


def main() -> int:
    """Prints times and ratios; 1 where a ratio is more than claimed."""
    arguments = parser(__doc__, rounds=15, steps=10).parse_args()
    times, claims = {}, []
    for name in arguments.backends:
        backend, xla = BACKENDS[name]
        cases = [
            Case(
                f"{name}: {case}",
                backend,
                "benchmarks.consistency:steps_of_fit",
                {"case": case, "xla": xla, "tiny": arguments.tiny},
            )
            for case in CASES
        ]
        found = interleaved(cases, arguments.rounds, arguments.steps, arguments.clock)
        times |= found
        twice, *others = found
        claims += [
            Claim(f"{case} / twice the rows", found[case] / found[twice], AT_MOST)
            for case in others
        ]
    print(of_times(times), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
