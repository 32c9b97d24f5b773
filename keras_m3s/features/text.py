"""Text features by a keras-hub BERT: the states of its last layer, and the tokens."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from keras_m3s.features.clips import Clip


class BertText:
    """States of a BERT's last layer, including [CLS] and [SEP].

    Args:
        preset: Name of a keras-hub preset, which is downloaded once, or a local folder of one.
        steps: Largest number of tokens, 50 in MMSA; longer texts are truncated.

    Raises:
        ImportError: keras-hub is not installed.
        ValueError: The BERT has fewer positions.
    """

    def __init__(self, preset: str, steps: int = 50) -> None:
        try:
            import keras_hub
        except ImportError as error:
            raise ImportError(
                "Text features need keras-hub: pip install 'keras-m3s[features]'."
            ) from error
        self.name = f"{_release(preset)}, last layer, {steps} tokens"
        self.steps = steps
        tokenizer = keras_hub.models.BertTokenizer.from_preset(preset)
        self._pack: Any = keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=steps
        )
        self._backbone: Any = keras_hub.models.BertBackbone.from_preset(preset)
        if steps > self._backbone.max_sequence_length:
            raise ValueError(
                f"`steps` must be at most {self._backbone.max_sequence_length}, the number of "
                f"positions of {preset}. Received: {steps}."
            )

    def tokens(self, clip: Clip) -> np.ndarray:
        """Tokens of a clip's text, int32 `(3, steps)`: ids, mask, segments, as in MMSA's schema."""
        packed = self._pack(np.array([clip.text]))
        rows = (packed["token_ids"], packed["padding_mask"], packed["segment_ids"])
        return np.concatenate([np.asarray(row) for row in rows]).astype(np.int32)

    def __call__(self, clip: Clip) -> np.ndarray:
        """Features of a clip's text, float32 `(tokens, dim)`, without padding."""
        ids, mask, segments = self.tokens(clip)[:, None]
        inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
        states = self._backbone.predict_on_batch(inputs)["sequence_output"]
        return np.asarray(states[0, : mask.sum()], dtype=np.float32)


def _release(preset: str) -> str:
    """Name of a preset; for a local folder with the SHA-256 of its files, which may change."""
    folder = pathlib.Path(preset)
    if not folder.is_dir():
        return preset
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{folder.name} ({digest.hexdigest()[:16]})"
