"""What one segment is in TFDS: the same features for every data set of the house."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from .mmsa import MODALITIES, TEXT_BERT, UNIMODAL, Segments

Shape = tuple[int | None, int | None]

STEPS = "steps"
"""Key of `info.metadata`: modality -> steps to pad to, where sequences are stored without padding."""


def spec(
    shapes: Mapping[str, Shape],
    with_text_bert: bool = True,
    label: Any = np.float32,
    unimodal: bool = False,
) -> Any:
    """TFDS features of a segment.

    Args:
        shapes: `(steps, dim)` of `audio`, `vision`, `text`; `None` where the file decides, and for
            the steps of sequences that are stored without padding.
        with_text_bert: Whether there are token ids. A file without leaves `text_bert` `(3, 0)`
            where the file decides.
        label: `np.float32` for a score, or a `tfds.features.ClassLabel`.
        unimodal: Whether there are labels of each modality by itself.

    Returns:
        A `tfds.features.FeaturesDict`.
    """
    # Tensors stored as bytes take a tenth of the time to write, and may have any shape.
    features: dict[str, Any] = {
        name: tfds.features.Tensor(shape=shapes[name], dtype=np.float32, encoding="bytes")
        for name in MODALITIES
    }
    features |= {f"{name}_length": np.int32 for name in MODALITIES}
    if with_text_bert:
        features[TEXT_BERT] = tfds.features.Tensor(
            shape=(3, shapes["text"][0]), dtype=np.int32, encoding="bytes"
        )
    if unimodal:
        features |= {f"label_{name}": np.float32 for name in UNIMODAL}
    features |= {"id": np.str_, "raw_text": np.str_, "label": label, "index": np.int32}
    return tfds.features.FeaturesDict(features)


def examples(
    segments: Segments, with_text_bert: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number and segment, in the order of the file; see `spec`."""
    no_text = np.zeros((0, 0), dtype=np.float32)
    no_tokens = np.zeros((3, 0), dtype=np.int32)
    for row in range(len(segments)):
        example = {name: array[row] for name, array in segments.features.items()}
        example.setdefault("text", no_text)
        if with_text_bert:
            example.setdefault(TEXT_BERT, no_tokens)
        else:
            example.pop(TEXT_BERT, None)
        example |= {f"label_{name}": labels[row] for name, labels in segments.unimodal.items()}
        example |= {
            "id": segments.ids[row],
            "raw_text": segments.raw_text[row],
            "label": segments.labels[row],
            "index": row,
        }
        yield row, example


def steps(splits: Mapping[str, Segments]) -> dict[str, int]:
    """What `info.metadata[STEPS]` says of segments whose sequences have each its own steps."""
    longest: dict[str, int] = {}
    for segments in splits.values():
        for name in set(MODALITIES) & segments.features.keys():
            length = max(len(sequence) for sequence in segments.features[name])
            longest[name] = max(longest.get(name, 0), length)
    return longest
