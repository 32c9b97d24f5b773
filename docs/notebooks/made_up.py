"""Made-up data of the shapes of the notebooks' real data, for where the real files are not at hand.

Each function writes one file with random numbers in which there is something to learn. Numbers that
come of it say nothing about people; the pages say where they were built with it.
"""

import os
import pathlib
import pickle
from collections.abc import Mapping

import numpy as np

from keras_m3s.data import builders

Rows = Mapping[str, int]
Path = str | os.PathLike[str]

SENSORS = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
GROUPS = {
    "circulation": (8, 0.49), "respiration": (7, 0.87), "chemistry": (14, 0.97), "blood": (5, 0.96),
    "neuro_renal": (2, 0.51),
}  # fmt: skip
"""Group of measurements -> its columns, and the share of cells that are not measured."""


def har(path: Path, rows: Rows | None = None, seed: int = 0) -> None:
    """Writes windows of four inertial sensors: `har.npz`.

    An activity is a rhythm, as in walking, and one movement, as in sitting down, of a strength and
    a direction that differ between the sensors; people differ in strength and speed.

    Args:
        path: File to write.
        rows: Windows of each split.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    rhythm = np.array([0.0, 0.1, 1.0, 0.5, 0.1])[:, None] * rng.uniform(0.4, 1.0, (5, 4))
    movement = np.array([0.0, 1.0, 0.1, 0.6, 1.0])[:, None, None] * rng.normal(size=(5, 4, 3))
    movement[4] = 0.5 * movement[4] - 0.5 * movement[1]  # down is much like up, the other way round
    gravity = 6 * rng.normal(size=(4, 3)) * np.array([1, 0, 1, 0])[:, None]
    scale = np.array([3.0, 1.0, 4.0, 1.5])[:, None]
    time = np.arange(100) / 50
    content: dict[str, np.ndarray] = {}
    people = 0
    for split, size in (rows or {"train": 480, "valid": 120, "test": 240}).items():
        label = rng.choice(5, size, p=(0.06, 0.1, 0.55, 0.2, 0.09))
        who = people + np.arange(size) * max(1, size // 20) // size
        people = int(who[-1]) + 1
        strong, fast = rng.uniform(0.6, 1.5, people), rng.uniform(1.5, 2.3, people)
        windows = gravity + 0.3 * rng.normal(size=(people, 1, 4, 3))[who]
        windows = np.repeat(windows, 100, axis=1)  # (size, time, sensor, axis)
        phase = rng.uniform(0, 2 * np.pi, (size, 1, 4, 3))
        wave = np.sin(2 * np.pi * fast[who][:, None, None, None] * time[:, None, None] + phase)
        centre = rng.uniform(0.4, 1.6, (size, 1))
        bump = np.exp(-(((time - centre) / 0.3) ** 2))[:, :, None, None]
        shown = wave * rhythm[label][:, None, :, None] + bump * movement[label][:, None]
        windows = windows + scale * strong[who][:, None, None, None] * shown
        windows = windows + scale * 0.9 * rng.normal(size=windows.shape)
        content |= {
            f"{split}/{name}": windows[:, :, n].astype("float16") for n, name in enumerate(SENSORS)
        }
        content[f"{split}/label"] = label.astype("int32")
        content[f"{split}/id"] = np.array([f"s{w:02d}$_${row}" for row, w in enumerate(who)])
    np.savez(path, **content)


def icu(path: Path, rows: Rows | None = None, seed: int = 0) -> None:
    """Writes intensive-care records with NaN where nothing was measured: `icu.npz`.

    How ill someone is moves all measurements, and the ill are measured more often.

    Args:
        path: File to write.
        rows: Stays of each split.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    usual = {name: rng.uniform(5, 100, columns) for name, (columns, _) in GROUPS.items()}
    effect = {name: rng.normal(0, 0.6, columns) for name, (columns, _) in GROUPS.items()}
    content: dict[str, np.ndarray] = {}
    for split, size in (rows or {"train": 1000, "valid": 200, "test": 400}).items():
        ill = rng.normal(size=size)
        content[f"{split}/label"] = (ill + 0.6 * rng.normal(size=size) > 1.25).astype("int32")
        content[f"{split}/id"] = np.array([f"{split}{row}" for row in range(size)])
        for name, (columns, missing) in GROUPS.items():
            drift = np.cumsum(rng.normal(0, 0.2, (size, 48, columns)), axis=1)
            moved = ill[:, None, None] * np.linspace(0.5, 1, 48)[:, None] * effect[name]
            values = usual[name] * (1 + 0.1 * (moved + drift + rng.normal(size=drift.shape)))
            often = np.clip((1 - missing) * np.exp(0.3 * ill - 0.05), 0, 0.95)[:, None, None]
            asked = rng.uniform(size=(size, 48, 1)) < np.sqrt(often)  # measured together
            kept = asked & (rng.uniform(size=values.shape) < np.sqrt(often))
            kept &= rng.uniform(size=(size, 1, 1)) > 0.02  # a group that is never measured
            content[f"{split}/{name}"] = np.where(kept, values, np.nan).astype("float16")
        age = np.clip(64 + 8 * ill + 14 * rng.normal(size=size), 18, 90)
        static = np.stack([age, rng.integers(0, 2, size), rng.normal(170, 10, size),
                           rng.integers(1, 5, size), rng.normal(80, 15, size)], axis=1)  # fmt: skip
        static[rng.uniform(size=static.shape) < [0, 0, 0.45, 0, 0.08]] = np.nan
        content[f"{split}/static"] = static.astype("float16")
    np.savez(path, **content)


def mosi(path: Path, rows: Rows | None = None, seed: int = 0) -> None:
    """Writes segments of speech in MMSA's schema: `unaligned_50.pkl`.

    Their features are those of the generated data set `synthetic_msa`.

    Args:
        path: File to write.
        rows: Segments of each split.
        seed: Of the random numbers.
    """
    generate = builders.module("synthetic_msa.generate")
    shapes = {"text": (50, 64), "audio": (50, 5), "vision": (50, 20)}
    sizes = dict(rows or {"train": 160, "valid": 60, "test": 120})
    recipe = generate.Recipe(shapes, sizes, seed=seed)
    content = {}
    for split, size in sizes.items():
        made = [generate.segment(recipe, split, row) for row in range(size)]
        content[split] = {
            "id": [f"{split}{row // 10}$_${row}" for row in range(size)],
            "raw_text": [f"segment {row}" for row in range(size)],
            "regression_labels": np.array([one.label for one in made], "float32"),
            **{name: np.stack([one.features[name] for one in made]) for name in shapes},
            **{f"{n}_lengths": [one.lengths[n] for one in made] for n in ("audio", "vision")},
        }
    pathlib.Path(path).write_bytes(pickle.dumps(content, protocol=4))
