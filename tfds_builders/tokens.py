"""Tokenizes texts for BERT with a vocabulary file, as in MMSA's `text_bert`."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .limits import DataError

CLS, SEP = "[CLS]", "[SEP]"
MARKS = {CLS, SEP, "[UNK]", "[PAD]", "[MASK]"}
MOST_TOKENS = 50
"""Largest number of tokens, as in MMSA and MMIM."""


def vocabulary(path: Any) -> list[str]:
    """The word pieces of a `vocab.txt`, one a line; the line's number is the id.

    Raises:
        DataError: it lacks BERT's marks, or a piece comes twice or holds a character NUL.
    """
    try:
        # Not `splitlines`, for which some word pieces end a line, too.
        pieces = pathlib.Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be text in UTF-8, one word piece a line: {error}.") from None
    lacking = sorted(MARKS - set(pieces))
    if lacking:
        raise DataError(
            f"{path} must be a vocabulary of BERT, one word piece a line. Missing: {lacking}."
        )
    if len(set(pieces)) < len(pieces):
        twice = next(piece for piece in pieces if pieces.count(piece) > 1)
        raise DataError(f"{path} must have each word piece once. Received: {twice!r} twice.")
    broken = next((piece for piece in pieces if "\0" in piece), None)
    if broken is not None:
        # It ends a string in the tokenizer, which then fails.
        raise DataError(f"{path} must have word pieces without NUL. Received: {broken!r}.")
    return pieces


def text_bert(texts: Sequence[str], pieces: list[str], steps: int = MOST_TOKENS) -> np.ndarray:
    """Tokens, mask and segments.

    Args:
        texts: `N` transcripts.
        pieces: As `vocabulary` returns them; lower case words are looked up, unless it has words
            in upper case.
        steps: Longer texts are cut, between [CLS] and [SEP].

    Returns:
        Int32 `(N, 3, steps)`.

    Raises:
        ImportError: keras-hub is not installed.
    """
    try:
        from keras_hub.models import BertTokenizer
    except ImportError as error:
        raise ImportError(
            "Tokens of texts need keras-hub: pip install 'keras-m3s[text]'."
        ) from error

    cased = any(piece.isalpha() and piece != piece.lower() for piece in pieces)
    tokenizer = BertTokenizer(vocabulary=pieces, lowercase=not cased)
    first, last = pieces.index(CLS), pieces.index(SEP)
    made = np.zeros((len(texts), 3, steps), dtype=np.int32)
    for row, text in enumerate(texts):
        inside = np.asarray(tokenizer(text))[: steps - 2].tolist()
        tokens = [first, *inside, last]
        made[row, 0, : len(tokens)] = tokens
        made[row, 1, : len(tokens)] = 1
    return made
