"""Sequences of unequal length, checked one by one and stored in TFDS without padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .limits import DataError


class Repairs:
    """Counts values that were replaced by 0, for one warning at the end."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def sequence(
        self, place: str, modality: str, values: Any, mend_all: bool = False
    ) -> np.ndarray:
        """A sequence as float32 `(steps, dim)`.

        Args:
            place: What is read, for messages.
            modality: Its name; -inf in audio becomes 0.
            values: An array of numbers of two axes.
            mend_all: Whether NaN and inf of any modality become 0 too, as the published code that
                reads this kind of file has it.

        Raises:
            DataError: it is no such array, or has values that are not finite.
        """
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
            arrived = type(values).__name__
            if isinstance(values, np.ndarray):
                arrived = f"array {values.shape} of {values.dtype}"
            raise DataError(
                f"{place}: `{modality}` must be a numeric array (steps, dim). Received: {arrived}."
            )
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        wrong = ~np.isfinite(values)
        if not wrong.any():
            return values
        if not mend_all:
            wrong = np.isneginf(values) if modality == "audio" else np.zeros_like(wrong)
        if wrong.any():
            self.counts[modality] = self.counts.get(modality, 0) + int(wrong.sum())
            values = np.where(wrong, np.float32(0), values)
        if not np.isfinite(values).all():
            raise DataError(
                f"{place}: `{modality}` must be finite (audio may hold -inf). Received: "
                f"{int((~np.isfinite(values)).sum())} values of NaN or inf."
            )
        return values

    def text(self) -> str:
        """`3 values of audio, 1 of text`; empty without repairs."""
        return ", ".join(f"{count} values of `{name}`" for name, count in self.counts.items())


def check_columns(place: str, modality: str, sequences: Sequence[np.ndarray]) -> None:
    """Checks that all sequences of a modality have the same number of columns."""
    columns = sorted({sequence.shape[1] for sequence in sequences})
    if len(columns) != 1 or columns[0] < 1:
        raise DataError(
            f"{place}: `{modality}` must have one number of columns, at least 1, in all segments. "
            f"Received: {columns}."
        )
