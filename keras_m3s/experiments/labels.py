"""Checks of a data set's labels, before training on them."""

import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from keras_m3s.data.split import SENTIMENT, SplitLike
from keras_m3s.models.base import count_classes
from keras_m3s.registry import datasets

SHOWN = 5
"""Rows or classes that a message names."""


def check_labels(dataset: str, splits: Mapping[str, SplitLike]) -> int | None:
    """Checks the labels of all splits, and counts the classes of the data set.

    Warns of classes that only test or validation data have, and of scores on a narrower scale than
    the metrics assume.

    Args:
        dataset: Name of the data set.
        splits: `train`, and others.

    Returns:
        Number of classes over all splits; `None` for scores.

    Raises:
        ValueError: If the splits have labels of different kinds, classes are negative or all the
            same, or scores are not finite.
    """
    kinds = {name: np.asarray(split.labels).dtype.kind for name, split in splits.items()}
    if set(kinds.values()) <= set("iu"):
        return _check_classes(splits)
    if set(kinds.values()) != {"f"}:
        received = {name: str(np.asarray(split.labels).dtype) for name, split in splits.items()}
        raise ValueError(
            "Labels must be ints in all splits, for classes, or floats in all, for scores. "
            f"Received: {received}."
        )
    _check_scores(dataset, splits)
    return None


def _check_classes(splits: Mapping[str, SplitLike]) -> int:
    counts = {name: count_classes(split.labels, f"{name} labels") for name, split in splits.items()}
    trained = np.unique(splits["train"].labels)
    if len(trained) < 2:
        raise ValueError(
            "Training data must have two or more classes. Received: "
            f"{_listed(trained) or 'no labels'}. Check the labels, or the split of the data."
        )
    for name, split in splits.items():
        untrained = np.setdiff1d(split.labels, trained)
        if untrained.size:
            rows = int(np.isin(split.labels, untrained).sum())
            warnings.warn(
                f"{rows} of {len(split)} rows of {name!r} have classes that the training data "
                f"lacks: {_listed(untrained)}. No model can learn to predict these.",
                stacklevel=4,
            )
    return max(counts.values())


def _check_scores(dataset: str, splits: Mapping[str, SplitLike]) -> None:
    for name, split in splits.items():
        rows = np.flatnonzero(~np.isfinite(split.labels))
        if rows.size:
            raise ValueError(
                f"Labels must be finite. Received: {_listed(split.labels[rows])} in {rows.size} "
                f"rows of {name!r}: {_listed(split.ids[row] for row in rows)}. Leave these rows "
                "out, or give them their labels."
            )
    sentiment = all(split.task == SENTIMENT for split in splits.values())
    # Of a file the reader has warned.
    if sentiment and datasets.find(dataset) is None and not datasets.is_file(dataset):
        bounds = [np.abs(split.labels).max(initial=0) for split in splits.values()]
        _warn_of_scale(dataset, float(max(bounds)))


def _warn_of_scale(dataset: str, bound: float) -> None:
    """Own data is scored on the scale of CMU-MOSI, which data like CH-SIMS does not fill."""
    bounds = {
        name: card.label_range[1]
        for name, card in datasets.CARDS.items()
        if card.in_paper and card.label_range
    }
    assumed = max(bounds.values())
    for name, high in bounds.items():
        if bound <= high < assumed:
            card = datasets.CARDS[name]
            title, aliases = card.title, card.scored_alike
            alias = f", or prepare them under the name {aliases[0]}" if aliases else ""
            warnings.warn(
                f"All labels of {dataset} lie in [-{high:g}, {high:g}], as those of {title}, but "
                f"are scored on the scale [-{assumed:g}, {assumed:g}] (Acc-7, for instance). To "
                f"score them as {title}, pass --dataset {name} --manual-dir FOLDER{alias} "
                "(`keras-m3s prepare --from`).",
                stacklevel=5,
            )


def _listed(values: Iterable[object]) -> str:
    shown = [str(value) for value in values]
    more = ", ..." if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
