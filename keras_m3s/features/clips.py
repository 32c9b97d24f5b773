"""A folder of clips with `label.csv`, as MMSA-FET reads it.

    label.csv                        video_id, clip_id, text, label, mode; label_T, label_A, label_V
    {video_id}/{clip_id}.mp4         or .wav and others, also in a folder `Raw`

Reference: thuiar/MMSA-FET, src/MSA_FET/dataset.py.
"""

import dataclasses
import hashlib
import pathlib

from keras_m3s import data

ENDINGS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".wav", ".flac", ".ogg", ".mp3")
"""Of clips, in any case; the first of several files counts."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
        id: `video$_$clip`.
        video_id: Folder of the clip.
        clip_id: Its name in it.
        text: What is said, from `label.csv`.
        path: The file; `None` where there is none.
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
            FileNotFoundError: there is none.
        """
        if self.path is None:
            raise FileNotFoundError(
                f"There must be a file {self.video_id}/{self.clip_id} with one of {ENDINGS}."
            )
        return self.path

    def digest(self, modality: str) -> str:
        """SHA-256 of what a modality is computed from: the text, or the file; empty without it."""
        if modality == "text":
            return hashlib.sha256(self.text.encode()).hexdigest()
        if self.path is None:
            return ""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_clips(folder: pathlib.Path) -> tuple[list[Clip], list[dict[str, str]]]:
    """The clips of a folder, and their lines of `label.csv`.

    Args:
        folder: As above.

    Raises:
        FileNotFoundError: there is no `label.csv`.
        ValueError: it is not as above.
    """
    lines = data.label_lines(folder)
    starts = (folder, folder / "Raw")
    clips = []
    for line in lines:
        video, clip = line["video_id"], line["clip_id"]
        found = next((path for start in starts if (path := _clip(start / video, clip))), None)
        clips.append(Clip(line["id"], video, clip, line.get("text") or "", found))
    return clips, lines


def _clip(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The clip of a name in a folder; a name may hold a full stop itself."""
    if not folder.is_dir():
        return None
    found = {path.suffix.lower(): path for path in sorted(folder.iterdir()) if path.stem == name}
    return next((found[ending] for ending in ENDINGS if ending in found), None)
