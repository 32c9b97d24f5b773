"""What one segment is in TFDS: the same features for every data set of the house."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from .mmsa import MODALITIES, TEXT_BERT, Segments

Shape = tuple[int | None, int | None]


def spec(shapes: Mapping[str, Shape], with_text_bert: bool = True) -> Any:
    """TFDS features of a segment.

    Args:
        shapes: `(steps, dim)` of `audio`, `vision`, `text`; `None` where the file decides.
        with_text_bert: Whether there are token ids. A file without leaves `text_bert` `(3, 0)`
            where the file decides.

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
    features |= {"id": np.str_, "raw_text": np.str_, "label": np.float32, "index": np.int32}
    return tfds.features.FeaturesDict(features)


def examples(
    segments: Segments, with_text_bert: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number and segment, in the order of the file; see `spec`."""
    no_tokens = np.zeros((3, 0), dtype=np.int32)
    for row in range(len(segments)):
        example = {name: array[row] for name, array in segments.features.items()}
        if with_text_bert:
            example.setdefault(TEXT_BERT, no_tokens)
        else:
            example.pop(TEXT_BERT, None)
        example |= {
            "id": segments.ids[row],
            "raw_text": segments.raw_text[row],
            "label": segments.labels[row],
            "index": row,
        }
        yield row, example
