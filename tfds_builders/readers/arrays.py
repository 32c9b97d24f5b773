"""Reader of arrays with splits, of any modalities: a .npz, a pickle, a folder or a table."""

from collections.abc import Mapping
from typing import Any

from .. import arrays, formats, gaps
from ..describing import describe
from ..segments import Segments, split_names
from .source import Source, own_command


class ArraysReader:
    """`SPLIT/NAME` in one file or folder, or from tables."""

    def recognises(self, source: Source) -> bool:
        held = source.content
        return isinstance(held, Mapping) and arrays.recognises(_splits(held))

    def kind(self, source: Source) -> str:
        return "own data: arrays with splits"

    def holds(self, source: Source) -> list[str]:
        lines = []
        for split, raw in _splits(source.content).items():
            lines.append(f"{split}:")
            if isinstance(raw, Mapping):
                lines += [f"  {key!s:<22}{describe(raw[key])}" for key in sorted(raw, key=str)]
        return lines

    def commands(self, source: Source) -> list[str]:
        self.read(source)
        return [own_command(source.path)]

    def read(self, source: Source) -> dict[str, Segments]:
        splits = arrays.check(formats.place(source.path), source.content)
        source.gaps = gaps.of(
            [segments.features for segments in splits.values()], splits["train"].modalities
        )
        return splits


def _splits(held: Mapping[str, Any]) -> dict[str, Any]:
    return {split: held[key] for split, key in split_names(held).items()}
