"""Folders with label.csv: own data in arrays, and recordings that features are made of."""

import pathlib
import shlex

from .. import files, formats, npy_folder, tables
from ..limits import DataError, Problems
from ..segments import Segments
from .source import LABELS, Source, own_command

RECORDINGS = ("media", "unknown")
"""Formats of recordings."""


class OwnFolderReader:
    """label.csv with arrays of features."""

    def recognises(self, source: Source) -> bool:
        return source.is_folder and files.find(source.path, LABELS).is_file()

    def kind(self, source: Source) -> str:
        return "own data: arrays with label.csv"

    def holds(self, source: Source) -> list[str]:
        return [
            f"{path.name:<22}{path.stat().st_size} bytes"
            for path in npy_folder.sources(source.path)
            if path.parent == source.path
        ]

    def commands(self, source: Source) -> list[str]:
        """See `Reader.commands`. Reads each sequence here, since `read` leaves them on disk."""
        problems = Problems()
        for segments in self.read(source).values():
            for sequences in segments.features.values():
                if isinstance(sequences, npy_folder.Rows):
                    for row in range(len(sequences)):
                        with problems.noted():
                            sequences[row]
        problems.raise_any()
        return [own_command(source.path)]

    def read(self, source: Source) -> dict[str, Segments]:
        return npy_folder.read(source.path)


class RecordingsReader:
    """label.csv with a file for each clip, `{video_id}/{clip_id}.mp4` or the like."""

    def recognises(self, source: Source) -> bool:
        table = files.find(source.path, LABELS) if source.is_folder else None
        if table is None or not table.is_file() or npy_folder.arrays_in(source.path):
            return False
        try:
            lines = tables.read(table, ("video_id", "clip_id"))
        except DataError:
            return False
        return any(_recording(source.path, line) for line in lines)

    def kind(self, source: Source) -> str:
        return "recordings with label.csv"

    def holds(self, source: Source) -> list[str]:
        lines = tables.read(files.find(source.path, LABELS), ("video_id", "clip_id"))
        found = sum(_recording(source.path, line) is not None for line in lines)
        return [f"{len(lines)} clips, of which {found} have a file"]

    def commands(self, source: Source) -> list[str]:
        npy_folder.lines(source.path)
        return [f"keras-m3s features {shlex.quote(str(source.path))} --out FEATURES"]


def _recording(folder: pathlib.Path, line: dict[str, str]) -> pathlib.Path | None:
    names = (line["video_id"], line["clip_id"])
    if any(name in ("", "..") or "/" in name or "\\" in name or "\0" in name for name in names):
        return None
    for start in (folder, files.find(folder, "Raw")):
        clips = start / names[0]
        for path in sorted(clips.glob("*")) if clips.is_dir() else []:
            if path.stem == names[1] and formats.sniff(path).name in RECORDINGS:
                return path
    return None
