"""Shares of missing values (NaN) of each modality."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Gaps:
    """Shares of missing values of a modality, padding excluded.

    Attributes:
        cells: Share of values that are missing.
        rows: Share of time steps without any value; `None` for vectors.
        wholly: Share of examples without any value.
        columns: Share of values that are missing in each column, `(dim,)`.
        steps: The same in each time step, `(steps,)`, NaN beyond the longest example; `None` for
            vectors.
    """

    cells: float
    rows: float | None
    wholly: float
    columns: np.ndarray
    steps: np.ndarray | None

    def __str__(self) -> str:
        """Such as `49.4 % of cells, 20.1 % of rows, 1.5 % of examples wholly`."""
        if not self.cells:
            return "nothing"
        rows = "" if self.rows is None else f"{_percent(self.rows)} of rows, "
        return f"{_percent(self.cells)} of cells, {rows}{_percent(self.wholly)} of examples wholly"


def of(splits: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Gaps]:
    """Counts missing values of each modality over all splits.

    Args:
        splits: Features of each split: modality -> `(N, steps, dim)` or `(N, dim)`, and
            `{modality}_length` int `(N,)` if there is padding.
        names: Modalities to count.
    """
    held = list(splits)
    return {name: _gaps([(one[name], one.get(f"{name}_length")) for one in held if name in one])
            for name in names}  # fmt: skip


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _gaps(parts: list[tuple[np.ndarray, np.ndarray | None]]) -> Gaps:
    """Counts over all parts, each `(N, steps, dim)` and its true steps."""
    sequences = parts[0][0].ndim == 3
    longest = max(array.shape[1] for array, _ in parts) if sequences else 1
    missing = np.zeros((longest, parts[0][0].shape[-1]))
    there, rows, wholly, examples = np.zeros(longest), 0, 0, 0
    for array, length in parts:
        values = array if sequences else array[:, None]
        steps = values.shape[1]
        true = np.ones((len(values), steps), bool)
        if length is not None:
            true = np.arange(steps) < length[:, None]
        holes = np.isnan(values) & true[..., None]
        missing[:steps] += holes.sum(axis=0)
        there[:steps] += true.sum(axis=0)
        empty = holes.all(axis=2)
        rows += int(empty.sum())
        wholly += int((empty | ~true).all(axis=1).sum())
        examples += len(values)
    known = max(there.sum(), 1)
    with np.errstate(invalid="ignore"):
        steps_missing = missing.mean(axis=1) / there
    return Gaps(
        cells=float(missing.sum() / (known * missing.shape[1])),
        rows=float(rows / known) if sequences else None,
        wholly=wholly / max(examples, 1),
        columns=missing.sum(axis=0) / known,
        steps=steps_missing if sequences else None,
    )
