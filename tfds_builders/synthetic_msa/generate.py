"""Generated segments: a speaker whose sentiment shows at a few moments, in three modalities.

    s                       the label: sentiment of the segment, -3 .. 3
    t_1 .. t_E              moments, E = 2 .. 5, anywhere in the segment
    v_e = s + MOOD * noise  sentiment as felt at moment e, the same in all modalities
    v_e + NOISE[m] * noise  as modality m shows it

With classes, s is a direction instead of a number: that of class c of C is the angle 2 pi c / C in
a plane, each moment shows it as a vector of two noisy numbers, and a bump has both. Aligned, the
three sequences have one length, as if every step were a word.

Each sequence holds a bump of a few steps at every moment, its size the sentiment shown, beside
slow drifts that mean nothing, mixed into `dim` channels by a fixed random matrix and tanh. So a
hole costs moments; what it took shows in the other modalities at the same moment, and in the same
modality at other moments. Text is the clearest, audio the noisiest.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

MOOD = 1.0
NOISE = {"text": 1.6, "vision": 2.0, "audio": 2.4}
"""Standard deviations on the scale of the sentiment."""

CLASS_RADIUS = 2.2
"""Distance of the classes from the center, on the same scale."""

CHANNEL_NOISE = 0.1
DRIFTS = 4
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is generated.

    Attributes:
        shapes: `(steps, dim)` of `text`, `audio`, `vision`.
        sizes: Segments a split.
        seed: Non-negative int; a segment depends on it, its split and its row only.
        classes: Number of classes, 2 or more; 0 for a score.
        aligned: Whether the three sequences of a segment have the same true length.

    Raises:
        ValueError: if a number is out of range.
    """

    shapes: Mapping[str, tuple[int, int]]
    sizes: Mapping[str, int]
    seed: int = 0
    classes: int = 0
    aligned: bool = False

    def __post_init__(self) -> None:
        numbers = [*self.sizes.values(), *(n for shape in self.shapes.values() for n in shape)]
        if min(numbers, default=1) < 1 or self.seed < 0 or self.classes < 0 or self.classes == 1:
            raise ValueError(
                "Sizes, steps and dims must be >= 1, seed >= 0, classes 0 or >= 2. "
                f"Received: {self}."
            )
        if self.aligned and len({steps for steps, _ in self.shapes.values()}) > 1:
            raise ValueError(
                f"Aligned sequences must have the same steps. Received: {dict(self.shapes)}."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """One segment: float32 sequences `(steps, dim)`, zero past their lengths, and its label."""

    features: dict[str, np.ndarray]
    lengths: dict[str, int]
    label: float | int


def segment(recipe: Recipe, split: str, row: int) -> Segment:
    """Generates segment `row` of a split; the same whenever asked."""
    rng = np.random.default_rng((recipe.seed, SPLITS.index(split), row))
    label, sentiment = _label(rng, recipe.classes)
    moments = rng.uniform(0, 1, rng.integers(2, 6))
    mood = sentiment + MOOD * rng.normal(size=(len(moments), len(sentiment)))
    duration = float(np.clip(np.exp(rng.normal(-0.9, 0.5)), 0.1, 1))  # of the longest there may be
    features, lengths = {}, {}
    for name, (steps, dim) in recipe.shapes.items():
        stretch = 1.0 if recipe.aligned else rng.uniform(0.85, 1.15)
        lengths[name] = max(1, round(steps * min(1.0, duration * stretch)))
        shown = mood + NOISE[name] * rng.normal(size=mood.shape)
        hidden = _hidden(rng, lengths[name], moments, shown)
        channels = np.tanh(hidden @ _mixing(recipe.seed, name, hidden.shape[1], dim))
        features[name] = np.zeros((steps, dim), dtype=np.float32)
        features[name][: lengths[name]] = channels + CHANNEL_NOISE * rng.normal(size=channels.shape)
    return Segment(features, lengths, label)


def _label(rng: np.random.Generator, classes: int) -> tuple[float | int, np.ndarray]:
    """The label, and the signal that encodes it: `(1,)`, or `(2,)` for a class."""
    if classes:
        label = int(rng.integers(classes))
        angle = 2 * np.pi * label / classes
        return label, CLASS_RADIUS * np.array([np.cos(angle), np.sin(angle)])
    # MOSI's labels are means of five ratings, so multiples of .2, with standard deviation 1.6.
    score = round(float(np.clip(rng.normal(0, 1.6), -3, 3)) * 5) / 5
    return score, np.array([score])


def _hidden(
    rng: np.random.Generator, length: int, moments: np.ndarray, shown: np.ndarray
) -> np.ndarray:
    """`(length, shown + 1 + DRIFTS)`: what is shown, attention (that something is), drifts."""
    width = max(1.0, length / 24)
    distance = (np.arange(length)[:, None] - moments * (length - 1)) / width
    bump = np.exp(-(distance**2))
    phase, speed = rng.uniform(0, 2 * np.pi, DRIFTS), rng.uniform(0.5, 3, DRIFTS)
    drifts = np.sin(phase + speed * 2 * np.pi * np.arange(length)[:, None] / max(length, 2))
    return np.column_stack([bump @ shown / 3, bump.sum(axis=1), drifts])


def _mixing(seed: int, name: str, hidden: int, dim: int) -> np.ndarray:
    """The fixed matrix `(hidden, dim)` of a modality."""
    rng = np.random.default_rng((seed, len(SPLITS), sorted(NOISE).index(name)))
    return rng.normal(size=(hidden, dim)) / np.sqrt(hidden)
