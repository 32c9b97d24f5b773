"""MulT's variant of MMSA's schema: `labels` (N, 1, 1), `id` (N, 3) of name, start, stop.

Reference: yaohungt/Multimodal-Transformer, src/dataset.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def recognises(raw: Any) -> bool:
    """Whether a split has MulT's names."""
    return (
        isinstance(raw, Mapping)
        and "labels" in raw
        and not {"regression_labels", "classification_labels"} & set(raw)
    )


def renamed(raw: dict[str, Any]) -> dict[str, Any]:
    """Renames a split's keys to MMSA's; adds the start time to names that are not unique."""
    raw["regression_labels"] = raw.pop("labels")
    ids = raw.get("id")
    if isinstance(ids, np.ndarray) and ids.ndim == 2 and ids.shape[1] == 3:
        rows = [[_text(one) for one in row] for row in ids.tolist()]
        names = [row[0] for row in rows]
        unique = len(set(names)) == len(names)
        raw["id"] = names if unique else [f"{row[0]}$_${row[1]}" for row in rows]
    return raw


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
