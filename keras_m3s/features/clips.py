"""A folder of clips with `label.csv`, as MMSA-FET reads it.

    label.csv                        video_id, clip_id, text, label, mode; label_T, label_A, label_V
    {video_id}/{clip_id}.mp4         or .wav and others, in any case; also in a folder `Raw`

Reference: thuiar/MMSA-FET, src/MSA_FET/dataset.py.
"""

import collections
import dataclasses
import functools
import hashlib
import pathlib

from keras_m3s import data

ENDINGS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".wav", ".flac", ".ogg", ".mp3")
"""Of clips, in lower or upper case. If a clip has several files, the first of these is used."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        id: `video$_$clip`.
        video_id: Folder of the clip.
        clip_id: Name of its file, without the ending.
        text: Transcript, from `label.csv`.
        path: The file; `None` if there is none.
    """

    id: str
    video_id: str
    clip_id: str
    text: str
    path: pathlib.Path | None

    @property
    def file(self) -> pathlib.Path:
        """The file.

        Raises:
            FileNotFoundError: There is none.
        """
        if self.path is None:
            raise FileNotFoundError(
                f"There must be a file {self.video_id}/{self.clip_id} with one of {ENDINGS}."
            )
        return self.path

    def digest(self, modality: str) -> str:
        """SHA-256 of what a modality is computed from: the text or the file; empty if absent."""
        if modality == "text":
            return hashlib.sha256(self.text.encode()).hexdigest()
        if self.path is None:
            return ""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_clips(folder: pathlib.Path) -> tuple[list[Clip], list[dict[str, str]]]:
    """Reads `label.csv` and finds the file of each clip.

    Args:
        folder: Folder of clips, as above.

    Returns:
        The clips, and their lines of `label.csv`.

    Raises:
        FileNotFoundError: There is no `label.csv`.
        ValueError: `label.csv` is not as above.
    """
    lines = data.label_lines(folder)
    files_of = functools.cache(_files)  # listed once: a folder may hold thousands of clips
    clips = []
    for line in lines:
        video, clip = line["video_id"], line["clip_id"]
        found = [files_of(start / video).get(clip) for start in (folder, folder / "Raw")]
        path = next((path for path in found if path is not None), None)
        clips.append(Clip(line["id"], video, clip, line.get("text") or "", path))
    return clips, lines


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Name of a clip -> its file, for all clips in a folder."""
    found: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in ENDINGS and path.is_file():
                found[path.stem].append(path)

    def rank(path: pathlib.Path) -> int:
        return ENDINGS.index(path.suffix.lower())

    return {name: min(paths, key=rank) for name, paths in found.items()}
