"""Small made-up files in MMSA's schema, for tests.

`python -m tfds_builders.testing` writes anew the dummy data of `cmu_mosi`.
"""

import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from .mmsa import MODALITIES, SPLITS

SHAPES = {"text": (6, 4), "audio": (9, 3), "vision": (7, 2)}
SIZES = {"train": 4, "valid": 2, "test": 3}


def mmsa_content(
    shapes: Mapping[str, tuple[int, int]] = SHAPES,
    sizes: Mapping[str, int] = SIZES,
    dtype: str = "float32",
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Random content of an MMSA feature file.

    Args:
        shapes: `(steps, dim)` a modality.
        sizes: Segments a split.
        dtype: Of the features.
        seed: Int.

    Returns:
        Dict of splits, each a dict of arrays and lists; sequences are zero past their length.
    """
    rng = np.random.default_rng(seed)
    return {split: _split(rng, split, sizes[split], shapes, dtype) for split in SPLITS}


def _split(
    rng: np.random.Generator,
    split: str,
    size: int,
    shapes: Mapping[str, tuple[int, int]],
    dtype: str,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": np.array([f"{split}{row // 2}$_${row}" for row in range(size)]),
        "raw_text": np.array([f"SEGMENT {row} OF {split}" for row in range(size)]),
        "regression_labels": rng.uniform(-3, 3, size).round(1).astype("float32"),
    }
    lengths = {}
    for name in MODALITIES:
        steps, dim = shapes[name]
        lengths[name] = rng.integers(min(3, steps), steps + 1, size)
        true = np.arange(steps) < lengths[name][:, None]
        content[name] = (rng.normal(size=(size, steps, dim)) * true[..., None]).astype(dtype)
    content["audio_lengths"] = lengths["audio"].tolist()
    content["vision_lengths"] = lengths["vision"].tolist()
    mask = (np.arange(shapes["text"][0]) < lengths["text"][:, None]).astype("int32")
    ids = rng.integers(1000, 2000, mask.shape, dtype="int32") * mask
    content["text_bert"] = np.stack([ids, mask, np.zeros_like(mask)], axis=1)
    return content


def write(path: pathlib.Path, content: Any) -> pathlib.Path:
    """Pickles `content` to `path`."""
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    return path


if __name__ == "__main__":
    write(pathlib.Path(__file__).parent / "cmu_mosi" / "dummy_data" / "dummy.pkl", mmsa_content())
