"""Predictions of new clips by a trained run, with the share of each modality that was missing.

model = RunModel(run)
for row in rows(model, data.unlabelled("clips.npz")):
    print(row["id"], row["prediction"], row["missing_audio"])
"""

import contextlib
import csv
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO, TypeAlias

import numpy as np

from keras_m3s.inference import clips as clip_inputs
from keras_m3s.inference import recordings
from keras_m3s.inference.clips import Clips
from keras_m3s.inference.formats import PREDICTION_FORMATS
from keras_m3s.inference.trained_model import RunModel
from keras_m3s.utils import atomic_files

Row: TypeAlias = Mapping[str, str | int | float]


def rows(model: RunModel, clips: Clips, batch_size: int = 64) -> Iterator[Row]:
    """Predicts clips in batches and yields one row for each.

    Args:
        model: Model of a trained run.
        clips: Clips to predict, as `keras_m3s.data.unlabelled` reads them.
        batch_size: Clips per batch. Clips in files of their own are read batch by batch.

    Yields:
        Dict with `id`; `prediction`, a score or the index of a class; for classes `logit_0`, ...;
        and `missing_audio`, `missing_vision`, `missing_text`, or whatever modalities there are,
        shares in [0, 1], see `keras_m3s.inference.clips.inputs` and, for models of one's own,
        `keras_m3s.inference.recordings.inputs`.

    Raises:
        ValueError: The clips hold no modality that the model reads, or one of another width.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: {batch_size}.")
    reading = recordings if model.fills else clip_inputs
    reading.check(model.shapes, clips)
    size = max(1, min(batch_size, len(clips)))
    for start in range(0, len(clips), size):
        batch = range(start, min(start + size, len(clips)))
        x, missing = reading.inputs(model.shapes, clips, batch)
        # The last batch is filled up: another batch size would be compiled anew.
        full = {key: array[np.arange(size) % len(batch)] for key, array in x.items()}
        outputs = model.predict(full)[: len(batch)]
        for i, row in enumerate(batch):
            yield {
                "id": clips.ids[row],
                **_columns(outputs[i]),
                **{f"missing_{m}": round(float(share[i]), 4) for m, share in missing.items()},
            }


def _columns(output: np.ndarray) -> dict[str, int | float]:
    """Columns of one model output float32 `(outputs,)`."""
    # Through the shortest decimal that reads back as the same float32.
    values = [float(str(value)) for value in output]
    if len(values) == 1:
        return {"prediction": values[0]}
    logits = {f"logit_{i}": value for i, value in enumerate(values)}
    return {"prediction": int(output.argmax()), **logits}


def write(rows: Iterable[Row], file: TextIO, format: str = "csv") -> int:
    """Writes rows as they arrive.

    Args:
        rows: Dicts with the same keys.
        file: Text file, open for writing.
        format: One of `keras_m3s.inference.formats.PREDICTION_FORMATS`.

    Returns:
        Number of rows.

    Raises:
        ValueError: There is no such format.
    """
    if format not in PREDICTION_FORMATS:
        raise ValueError(f"`format` must be one of {PREDICTION_FORMATS}. Received: {format!r}.")
    table: csv.DictWriter[str] | None = None
    count = 0
    for row in rows:
        if format == "jsonl":
            file.write(json.dumps(row) + "\n")
        else:
            if table is None:
                table = csv.DictWriter(file, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(row)
        file.flush()
        count += 1
    return count


@contextlib.contextmanager
def open_output(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """Opens a text file that appears under its name only when it is complete.

    Args:
        path: File to write; `None` for stdout.

    Yields:
        The file, open for writing.
    """
    if path is None:
        yield sys.stdout
        return
    with (
        atomic_files.whole(pathlib.Path(path).expanduser()) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file
