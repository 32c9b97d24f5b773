"""The trial of training methods: what is compared, on which tests, and what counts as better.

    learning rates   of each method, on validation data            `GRID_SEEDS`
    screening        which methods go on, on validation data       `SCREENING_SEEDS`
    confirmation     on test data, with seeds that are not among those

All methods take as many gradients of rows as M3S with one inner step, except `orig` and `spl-trn`,
the paper's own controls, which take half as many.
"""

from collections.abc import Mapping

from keras_m3s.registry.patterns import Condition, Rate

BASELINE = "spl-trn-equal"
"""What all methods are compared with: random holes, at equal cost."""

CONTROLS: tuple[str, ...] = (
    "orig",
    "spl-trn",
    "spl-trn-equal",
    "spl-trn-averaged",
    "span-layer",
    "m3s",
)
"""Methods that are confirmed in any case."""

ARMS: tuple[str, ...] = (
    "wide",
    "mixed",
    "rescaled",
    "learned-fill",
    "two-draws",
    "two-draws-averaged",
    "two-draws-wide",
    "two-draws-mixed",
    "teacher-average",
    "mldg",
    "m3s-averaged",
    "m3s-consistency",
)
"""Methods that are confirmed if they are among the best in screening."""

SHORT: tuple[str, ...] = ("orig", BASELINE, "mixed", "two-draws-averaged", "m3s")
"""Methods of the short version, without a screening."""

MOST_ARMS = 4
"""Arms that go on, at most."""

GRID: tuple[float, ...] = (1 / 3, 1.0, 3.0)
"""Factors of the model's learning rate."""

OWN_LEARNING_RATE = 1e-3
"""Of models of one's own, before the factor."""

GRID_SEEDS: tuple[int, ...] = (100, 101, 102)
SCREENING_SEEDS: tuple[int, ...] = tuple(range(100, 110))
SEEDS = 30
"""Seeds of the confirmation, from 0."""

DRAWS = 5
"""Draws of the holes that each run is tested under."""

LEVEL = 0.01
"""A difference counts if its p-value, after Holm over a data set's comparisons, is below it."""

TRAINED: Rate = (0.4, 0.6)

TESTS: Mapping[str, Condition] = {
    "40–60\u202f%": Condition(TRAINED),
    "60–80\u202f%": Condition((0.6, 0.8)),
    "half the modalities": Condition((0.5, 0.5), "modality"),
    "nothing missing": Condition((0.0, 0.0)),
}
"""What is missing in the tests. The first, missing as in training, decides."""

METRICS: tuple[tuple[str, str], ...] = (
    ("corr", "mae"),
    ("auroc", "log_loss"),
    ("uar", "log_loss"),
)
"""One metric of ranking or recognition and one of error: of scores, of two classes, of more."""


def metrics_of(present: Mapping[str, float]) -> tuple[str, str]:
    """The two metrics that decide, of those that a test has.

    Raises:
        ValueError: There is no such pair.
    """
    for pair in METRICS:
        if set(pair) <= set(present):
            return pair
    raise ValueError(
        f"A test must have the metrics of one of {METRICS}. Received: {sorted(present)}."
    )
