"""Segments in memory, the common form of all feature files."""

import dataclasses
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .limits import DataError, Problems

SPLITS = ("train", "valid", "test")
MODALITIES = ("audio", "vision", "text")
TEXT_BERT = "text_bert"
UNIMODAL = {"text": "T", "audio": "A", "vision": "V"}
"""Modality -> letter in the names of CH-SIMS' unimodal labels."""

SENTIMENT, REGRESSION = "sentiment", "regression"
"""What scores are: sentiment, which has metrics of its own, or any others."""

MODES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of splits in files -> names used in this package."""


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """One split of a file.

    Attributes:
        ids: `N` names, unique.
        raw_text: `N` transcripts; empty strings where the file has none. An empty list where the
            data is not of speech.
        features: Modality -> float32 `(N, steps, dim)`, or `N` arrays of shape `(steps, dim)` each
            with its own steps, or vectors `(N, dim)`; NaN where nothing was measured. `text_bert`
            int32 `(N, 3, steps)` where the file has it; `{modality}_length` int32 `(N,)`, true
            steps. Sentiment data has `audio`, `vision` and `text`.
        labels: Float32 `(N,)` for regression, int32 `(N,)` for classes.
        unimodal: Modality -> labels float32 `(N,)` of it alone, where the file has them; NaN
            where a segment has none.
        scores: What labels are if they are scores, `SENTIMENT` or `REGRESSION`; all but
            `REGRESSION` has the modalities of sentiment data.
        classes: Names of the classes, where they have such.
    """

    ids: list[str]
    raw_text: list[str]
    features: dict[str, Any]
    labels: np.ndarray
    unimodal: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    scores: str = SENTIMENT
    classes: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, without tokens."""
        return tuple(
            name for name in self.features if name != TEXT_BERT and not name.endswith("_length")
        )

    def __len__(self) -> int:
        return len(self.ids)


def split_names(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Which key of a dict is which split: `valid` before `val` or `dev` where it has several."""
    found: dict[str, Any] = {}
    for name, split in MODES.items():
        for key in content:
            if isinstance(key, str) and key.strip().casefold() == name:
                found.setdefault(split, key)
    return found


def absent_sequence(rows: int) -> np.ndarray:
    """Placeholder of a modality that the data lacks: zeros, float32 `(rows, 1, 1)`."""
    return np.zeros((rows, 1, 1), np.float32)


def warn_absent(place: str, modalities: Collection[str]) -> None:
    """Warns which modalities are placeholders."""
    if modalities:
        names = " and ".join(f"`{name}`" for name in MODALITIES if name in modalities)
        warnings.warn(
            f"{place} has no {names}: one step of zeros, of length 0, stands for what is absent.",
            stacklevel=3,
        )


def last_step(array: np.ndarray) -> np.ndarray:
    """Steps up to the last one that is not all zero: int32 `(N,)` from `(N, steps, dim)`."""
    filled = (array != 0).any(axis=2)
    steps = array.shape[1] - filled[:, ::-1].argmax(axis=1)
    return np.where(filled.any(axis=1), steps, 0).astype(np.int32)


def check_together(name: str, splits: Mapping[str, Segments]) -> None:
    """Checks that splits have equal shapes, and warns of segments or videos in several.

    Raises:
        DataError: shapes or kinds of labels differ.
    """
    problems = Problems()
    for key in dict.fromkeys((*MODALITIES, TEXT_BERT, *splits["train"].modalities)):
        shapes = {
            split: segments.features[key].shape[1:] if key in segments.features else None
            for split, segments in splits.items()
        }
        if len(set(shapes.values())) > 1:
            problems.found.append(
                f"{name}: `{key}` must have one shape in all splits. Received: {shapes}."
            )
    kinds = {split: segments.labels.dtype.name for split, segments in splits.items()}
    if len(set(kinds.values())) > 1:
        problems.found.append(
            f"{name}: labels must be of one kind in all splits. Received: {kinds}."
        )
    problems.raise_any()
    check_classes(name, splits)
    check_disjoint(name, splits)


def check_disjoint(name: str, splits: Mapping[str, Segments]) -> None:
    """Warns of videos in several splits, which leak; some corpora are published so."""
    videos = {
        split: {segment.rpartition("$_$")[0] or segment for segment in segments.ids}
        for split, segments in splits.items()
    }
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = sorted(videos[first] & videos[second])
        if shared:
            warnings.warn(
                f"{name}: splits should share no video. Received: {len(shared)} in both {first} "
                f"and {second}, {shared[0]!r} for one. Scores on {second} will be too good.",
                stacklevel=3,
            )


def check_classes(name: str, splits: Mapping[str, Segments]) -> None:
    """Warns of classes in validation or test data that the training data lacks."""
    labels = {split: segments.labels for split, segments in splits.items()}
    if labels["train"].dtype != np.int32:
        return
    known = set(np.unique(labels["train"]).tolist())
    for split in ("valid", "test"):
        strange = sorted(set(np.unique(labels[split]).tolist()) - known)
        if strange:
            warnings.warn(
                f"{name}: training should have every class. Received: {strange} in {split} alone. "
                "A model has an output for each, which nothing teaches.",
                stacklevel=3,
            )


def check_range(place: str, splits: Mapping[str, Segments], low: float, high: float) -> None:
    """Checks that labels are scores on a known scale.

    Args:
        place: What is read, for messages.
        splits: All there are.
        low: The lowest score.
        high: The highest.

    Raises:
        DataError: they are classes, or on another scale.
    """
    for split, segments in splits.items():
        if segments.labels.dtype != np.float32:
            raise DataError(
                f"{place} must hold `regression_labels`, sentiment from {low:g} to {high:g}. "
                f"Received: classes 0..{segments.labels.max()} in {split}."
            )
        for labels in (segments.labels, *segments.unimodal.values()):
            rated = labels[~np.isnan(labels)]
            if rated.size and (rated.min() < low - 1e-3 or rated.max() > high + 1e-3):
                raise DataError(
                    f"{place}, {split}: labels must lie in {low:g}..{high:g}. Received: "
                    f"{rated.min():g}..{rated.max():g}. Other scales: `keras-m3s prepare --from`."
                )


def warn_narrow(place: str, splits: Mapping[str, Segments]) -> None:
    """Warns if all scores lie in -1..1, since own data counts as -3..3."""
    labels = np.concatenate([segments.labels for segments in splits.values()])
    if labels.dtype == np.float32 and np.abs(labels).max() <= 1:
        warnings.warn(
            f"{place}: scores should lie in -3..3, the scale that data of your own is measured on. "
            f"Received: {labels.min():g}..{labels.max():g}. If this is CH-SIMS, "
            "`keras-m3s prepare ch_sims --manual-dir FOLDER` reads it on its own scale, -1..1.",
            stacklevel=3,
        )
