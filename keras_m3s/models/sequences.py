"""The sequences beside the text that a base model reads: they must be there."""

from collections.abc import Mapping
from typing import Any

NAMES = ("audio", "vision")


def require_sequences(inputs: Mapping[str, Any]) -> None:
    """Raises `ValueError` unless a batch has audio and vision, as sequences.

    Args:
        inputs: Entry -> tensor, or its shape.
    """
    shapes = {k: tuple(getattr(v, "shape", v)) for k, v in inputs.items() if k in NAMES}
    absent = [name for name in NAMES if name not in shapes]
    if absent:
        raise ValueError(
            f"`inputs` must hold 'audio' and 'vision'. Received: {tuple(inputs)}, without "
            f"{absent}. For an absent modality pass zeros."
        )
    if any(len(shape) != 3 for shape in shapes.values()):
        raise ValueError(
            "`inputs` must hold 'audio' and 'vision' of shape (batch, steps, dim). Received: "
            f"{shapes}. Give a single vector as a sequence of one step."
        )
