"""The TFDS features of a segment, the same for every data set of this project."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from .segments import MODALITIES, SENTIMENT, TEXT_BERT, Segments

Shape = tuple[int | None, ...]

STEPS = "steps"
"""Key of `info.metadata`: modality -> steps to pad to, for sequences stored without padding."""

ABSENT = "absent"
"""Key of `info.metadata`: names of features that the files lack, stored as placeholders.

The placeholder of a modality is a single 0, that of a unimodal label is NaN.
"""

TASK = "task"
"""Key of `info.metadata`: what scores are, where they are no sentiment."""


def spec(
    shapes: Mapping[str, Shape],
    with_text_bert: bool = True,
    label: Any = np.float32,
    unimodal: Collection[str] = (),
    tokens: int | None = None,
    lengths: Collection[str] = MODALITIES,
    with_raw_text: bool = True,
) -> Any:
    """TFDS features of a segment.

    Args:
        shapes: `(steps, dim)` or `(dim,)` of each modality, `audio`, `vision`, `text` in sentiment
            data; `None` where the file decides, and for the steps of sequences that are stored
            without padding.
        with_text_bert: Whether there are token ids. A file without leaves `text_bert` `(3, 0)`
            where the file decides.
        label: `np.float32` for a score, or a `tfds.features.ClassLabel`.
        unimodal: Modalities that have labels of themselves.
        tokens: Width of `text_bert`, where it is known and not that of text.
        lengths: Modalities that have true steps.
        with_raw_text: Whether there are transcripts.

    Returns:
        A `tfds.features.FeaturesDict`.
    """
    # Tensors stored as bytes take a tenth of the time to write, and may have any shape.
    features: dict[str, Any] = {
        name: tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes")
        for name, shape in shapes.items()
    }
    features |= {f"{name}_length": np.int32 for name in lengths}
    if with_text_bert or tokens is not None:
        width = shapes["text"][0] if tokens is None else tokens
        features[TEXT_BERT] = tfds.features.Tensor(
            shape=(3, width), dtype=np.int32, encoding="bytes"
        )
    features |= {f"label_{name}": np.float32 for name in unimodal}
    features |= {"raw_text": np.str_} if with_raw_text else {}
    features |= {"id": np.str_, "label": label, "index": np.int32}
    return tfds.features.FeaturesDict(features)


def examples(
    segments: Segments, with_text_bert: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number and segment, in the order of the file; see `spec`."""
    no_text = np.zeros((1, 1), dtype=np.float32)
    no_tokens = np.zeros((3, 0), dtype=np.int32)
    for row in range(len(segments)):
        example = {name: filled(array[row]) for name, array in segments.features.items()}
        if segments.raw_text:
            example.setdefault("text", no_text)
            example["raw_text"] = segments.raw_text[row]
        if with_text_bert:
            example.setdefault(TEXT_BERT, no_tokens)
        else:
            example.pop(TEXT_BERT, None)
        example |= {f"label_{name}": labels[row] for name, labels in segments.unimodal.items()}
        example |= {
            "id": segments.ids[row],
            "label": segments.labels[row],
            "index": row,
        }
        yield row, example


def filled(value: Any) -> Any:
    """Replaces an empty sequence by one step of zeros, since TFDS cannot read an empty one."""
    return np.zeros((1, value.shape[1]), value.dtype) if np.shape(value)[:1] == (0,) else value


def describe(splits: Mapping[str, Segments]) -> dict[str, Any]:
    """The entries of `info.metadata` that are needed to read the splits back."""
    features = splits["train"].features
    said: dict[str, Any] = {}
    if splits["train"].scores != SENTIMENT:
        said[TASK] = splits["train"].scores
    absent = sorted(set(MODALITIES) - features.keys()) if splits["train"].raw_text else []
    for name in splits["train"].unimodal:
        if all(np.isnan(segments.unimodal[name]).all() for segments in splits.values()):
            absent.append(f"label_{name}")
    if absent:
        said[ABSENT] = absent
    if steps := _steps(splits):
        said[STEPS] = steps
    return said


def _steps(splits: Mapping[str, Segments]) -> dict[str, int]:
    """The longest sequence of each modality whose sequences differ in steps."""
    longest: dict[str, int] = {}
    for segments in splits.values():
        for name in segments.modalities:
            stored = segments.features[name]
            if not isinstance(stored, np.ndarray) and getattr(stored, "ragged", True):
                length = int(segments.features[f"{name}_length"].max())
                longest[name] = max(longest.get(name, 1), length)
    return longest
