"""Access to the modalities in a model's inputs: a dict, a list, or channels of one tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

Structure = Any
"""Dict, list or tuple of tensors, or a single tensor."""


class InputView:
    """Converts inputs to a dict of modalities and back.

    Args:
        modalities: For a list or tuple, the names of its entries, in order; for a single tensor, a
            dict from names to slices of the last axis; for a dict `None`.
    """

    def __init__(self, modalities: Sequence[str] | Mapping[str, Any] | None = None) -> None:
        self.slices: dict[str, slice] | None = None
        self.names: tuple[str, ...] | None = None
        if isinstance(modalities, Mapping):
            self.slices = {name: _as_slice(name, part) for name, part in modalities.items()}
            self.names = tuple(self.slices)
        elif modalities is not None:
            self.names = tuple(modalities)

    def split(self, inputs: Structure) -> dict[str, Any]:
        """Returns a new dict of the modalities, with the other entries of a dict.

        Raises:
            ValueError: The structure does not fit.
        """
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, (list, tuple)):
            if self.names is None or self.slices is not None or len(inputs) != len(self.names):
                raise ValueError(
                    f"A list of inputs must have as many entries as `modalities` names. Received: "
                    f"{len(inputs)} inputs, modalities={self.names}."
                )
            return dict(zip(self.names, inputs, strict=True))
        if self.slices is None:
            raise ValueError(
                "`inputs` must be a dict with the modalities"
                f"{f' {self.names}' if self.names else ''}, a list of them, or one tensor whose "
                "channels `modalities={'acc': slice(0, 3), ...}` names. "
                f"Received: {type(inputs).__name__}."
            )
        return {name: inputs[..., part] for name, part in self.slices.items()}

    def merge(self, inputs: Structure, features: Mapping[str, Any]) -> Structure:
        """Returns inputs of the same structure with changed modalities.

        Args:
            inputs: The argument of `split`.
            features: What `split` returned, changed.
        """
        if isinstance(inputs, Mapping):
            return dict(features)
        if isinstance(inputs, (list, tuple)):
            return type(inputs)(features[name] for name in self.names or ())
        return self._joined(inputs, features)

    def _joined(self, inputs: Any, features: Mapping[str, Any]) -> Any:
        """Joins modalities to one tensor; channels of no modality are unchanged."""
        size = inputs.shape[-1]
        ranges = sorted(
            (*part.indices(size)[:2], name) for name, part in (self.slices or {}).items()
        )
        parts, at = [], 0
        for start, stop, name in ranges:
            if start > at:
                parts.append(inputs[..., at:start])
            parts.append(features[name])
            at = stop
        if at < size:
            parts.append(inputs[..., at:])
        return ops.concatenate(parts, axis=-1)

    def split_shapes(self, shapes: Structure) -> dict[str, tuple[int | None, ...]]:
        """As `split`, for shapes."""
        if isinstance(shapes, Mapping):
            return {name: tuple(shape) for name, shape in shapes.items() if _is_shape(shape)}
        if self.slices is not None and _is_shape(shapes):
            return {
                name: (*shapes[:-1], len(range(*part.indices(shapes[-1]))))
                for name, part in self.slices.items()
            }
        return dict(zip(self.names or (), map(tuple, shapes), strict=True))

    def get_config(self) -> Any:
        if self.slices is not None:
            return {name: [part.start, part.stop] for name, part in self.slices.items()}
        return None if self.names is None else list(self.names)


def _as_slice(name: str, part: Any) -> slice:
    if isinstance(part, Sequence) and len(part) == 2:
        part = slice(*part)
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise ValueError(
            "`modalities` must give each name a slice of the last axis, such as slice(0, 3). "
            f"Received: {part!r} for {name!r}."
        )
    return part


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, (tuple, list)) and all(s is None or isinstance(s, int) for s in shape)
