"""Resamples recordings of a phone and a watch to one clock and cuts them into windows.

    DATA/s01/s01_02_sp.csv    subject 1, execution 2, smartphone; `_sw` smartwatch. A sample a line:
                              x_acc, y_acc, z_acc (m/s2), x_gyro, y_gyro, z_gyro (rad/s), timestamp
                              (ms), label

Reference: GeoTecINIT/sp-sw-har-dataset, README.md.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import files, formats, tables
from ..limits import DataError

CLASSES = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
DEVICES = {"phone": "sp", "watch": "sw"}
KINDS = ("acc", "gyro")
COLUMNS = [f"{axis}_{kind}" for kind in KINDS for axis in "xyz"]

PERIOD = 20
"""Milliseconds from step to step: 50 Hz."""
STEPS, STRIDE = 100, 50
"""Steps of a window and between the starts of windows: 2 s and 1 s."""

NAME = re.compile(r"(s\d\d)_(\d\d)_(sp|sw)\.csv")


def find(folder: Any) -> dict[str, dict[str, pathlib.Path]]:
    """Finds the recordings in a folder, or in its `DATA`: `s01_02` -> device -> file.

    Raises:
        FileNotFoundError: There are none, or one lacks a device.
    """
    folder = pathlib.Path(folder)
    inside = files.find(folder, "DATA")
    start = inside if inside.is_dir() else folder
    found: dict[str, dict[str, pathlib.Path]] = {}
    for path in sorted(start.glob("*/*.csv")):
        if match := NAME.fullmatch(path.name):
            found.setdefault(f"{match[1]}_{match[2]}", {})[match[3]] = path
    alone = {name: list(one) for name, one in found.items() if len(one) < len(DEVICES)}
    if alone or not found:
        raise FileNotFoundError(
            f"There must be files s01/s01_01_sp.csv and s01/s01_01_sw.csv, and so on, in {start}. "
            f"Received: {f'only one device of {alone}' if alone else 'none'}. "
            "They are the folder DATA of https://github.com/GeoTecINIT/sp-sw-har-dataset."
        )
    return found


def windows(
    paths: dict[str, pathlib.Path],
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yields the windows of a recording: `phone_acc` etc. float32 `(STEPS, 3)`, and the class.

    The clock covers the time in which both devices record. Values are interpolated linearly. A tick
    has the class of the phone's next sample, a window the most frequent class of its ticks; of
    equally frequent ones the one that occurs first.

    Args:
        paths: Device -> file.

    Raises:
        DataError: A file is invalid.
    """
    read = {device: _read(paths[ending]) for device, ending in DEVICES.items()}
    start = max(times[0] for times, _, _ in read.values())
    end = min(times[-1] for times, _, _ in read.values())
    clock = np.arange(start, end + 1, PERIOD)
    values: dict[str, np.ndarray] = {}
    for device, (times, samples, _) in read.items():
        each = _interpolated(clock, times, samples)
        for at, kind in enumerate(KINDS):
            values[f"{device}_{kind}"] = each[:, 3 * at : 3 * at + 3].astype(np.float32)
    times, _, classes = read["phone"]
    ticks = classes[np.searchsorted(times, clock)]
    for first in range(0, len(clock) - STEPS + 1, STRIDE):
        part = slice(first, first + STEPS)
        counts = np.bincount(ticks[part], minlength=len(CLASSES))
        most = ticks[part][np.isin(ticks[part], np.flatnonzero(counts == counts.max()))][0]
        yield {name: array[part] for name, array in values.items()}, int(most)


def _interpolated(clock: np.ndarray, times: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Interpolates samples at the ticks; at a tick with several samples, takes the first."""
    after = np.searchsorted(times, clock)
    before = np.maximum(after - 1, 0)
    span = np.maximum(times[after] - times[before], 1)
    share = np.where(times[after] == clock, 1.0, (clock - times[before]) / span)
    found: np.ndarray = samples[before] + (samples[after] - samples[before]) * share[:, None]
    return found


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads a file: sorted times int64 in ms, samples `(n, 6)`, classes."""
    place = formats.place(path)
    lines = tables.read(path, (*COLUMNS, "timestamp", "label"))
    try:
        times = np.array([int(float(line["timestamp"])) for line in lines])
        samples = np.array([[float(line[name]) for name in COLUMNS] for line in lines])
    except (ValueError, OverflowError) as error:
        raise DataError(f"{place} must hold numbers in {COLUMNS} and `timestamp`. "
                        f"Received: {error}.") from None  # fmt: skip
    strange = sorted({line["label"] for line in lines} - {*CLASSES})
    if strange:
        raise DataError(f"{place}: `label` must be one of {CLASSES}. Received: {strange[:5]}.")
    if not np.isfinite(samples).all():
        raise DataError(f"{place} must hold finite numbers. Received: "
                        f"{int((~np.isfinite(samples)).sum())} of NaN or inf.")  # fmt: skip
    # A day is far more than any recording takes, and what a clock of it needs fits into memory.
    if np.any(np.diff(times) < 0) or times[-1] - times[0] > 86_400_000:
        raise DataError(f"{place}: `timestamp` must be in order, in ms, of one recording. "
                        f"Received: {times.min()} to {times.max()}.")  # fmt: skip
    return times, samples, np.array([CLASSES.index(line["label"]) for line in lines])
