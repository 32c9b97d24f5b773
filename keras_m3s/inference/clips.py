"""New clips to batches of a model's inputs, with the share of each modality that is missing.

A modality that is absent, or that a clip lacks, becomes zeros over as many steps as the clip's
other modalities suggest: in training, a modality that was missing over its whole length looked the
same.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from keras_m3s.inference.trained_model import CLS, SEP
from keras_m3s.missing.transform import UNKNOWN_TOKEN
from keras_m3s.modalities import INDEX, MODALITIES, TEXT_BERT, length_key

Shape: TypeAlias = tuple[int | None, ...]

Shapes: TypeAlias = Mapping[str, Shape]
"""Name of a model's input -> its shape in training, without the batch axis.

The number of steps is `None` where the run does not tell it.
"""

STAND_IN = (1, 1)
"""Shape of a modality that the training data lacked: one step of zeros, of length 0."""


class Clips(Protocol):
    """Clips to predict, as `keras_m3s.data.unlabelled` reads them.

    Attributes:
        place: Name of the source, for error messages.
        ids: `n` names.
        features: Modality, or `text_bert` -> `n` sequences: an array, or paths of files.
        lengths: Modality -> int `(n,)`, true steps, where the source gives them.
    """

    @property
    def place(self) -> str: ...

    @property
    def ids(self) -> list[str]: ...

    @property
    def features(self) -> Mapping[str, Sequence[np.ndarray]]: ...

    @property
    def lengths(self) -> Mapping[str, np.ndarray]: ...

    def __len__(self) -> int: ...

    def sequence(self, name: str, row: int) -> np.ndarray:
        """Float32 `(steps, dim)`, NaN where a value is missing; no steps if all is missing."""
        ...


def check(shapes: Shapes, clips: Clips) -> None:
    """Checks that a model can read the clips, before the first prediction.

    Args:
        shapes: Inputs of the model.
        clips: Clips to predict.

    Raises:
        ValueError: The clips hold no modality that the model reads, or one of another width.
    """
    wanted = [key for key in (*MODALITIES, TEXT_BERT) if key in shapes]
    present = [key for key in wanted if key in clips.features]
    if not present:
        raise ValueError(
            f"{clips.place} must hold at least one of {wanted}, which the model reads. "
            f"Received: {sorted(clips.features)}."
        )
    for key in present:
        array = clips.features[key]
        if isinstance(array, np.ndarray) and key != TEXT_BERT:
            _check_width(clips.place, key, array.shape[2], shapes[key][1])


def inputs(
    shapes: Shapes, clips: Clips, rows: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of some of the clips, and the share of each modality that is missing.

    Args:
        shapes: Inputs of the model. Sequences shorter than in training are padded; longer ones
            keep their length.
        clips: Clips to predict.
        rows: Which of them.

    Returns:
        The batch, and modality -> float `(batch,)`: the share of true steps that are all zero, hold
        a NaN, or are absent; of tokens, the share of words that are [UNK]. Without given lengths a
        sequence ends at its last nonzero step (sequences aligned with the text: where the text
        ends), so that missing steps at its very end do not count.

    Raises:
        ValueError: Widths differ from training, or a given length is too short.
    """
    sequences = {
        m: _padded(clips, m, rows, shapes[m]) for m in MODALITIES if len(shapes.get(m, ())) == 2
    }
    tokens = _tokens(clips, rows, shapes[TEXT_BERT]) if TEXT_BERT in shapes else None
    lengths = _lengths(clips, rows, sequences, shapes, tokens)
    batch: dict[str, np.ndarray] = {**sequences}
    missing: dict[str, np.ndarray] = {}
    for m, sequence in sequences.items():
        true = np.arange(sequence.shape[1]) < lengths[m][:, None]
        present = ((sequence != 0).any(axis=2) & true).sum(axis=1)
        missing[m] = 1 - present / np.maximum(lengths[m], 1)
    if tokens is not None:
        batch[TEXT_BERT] = tokens
        missing["text"] = _share_of_unknown_words(tokens)
        lengths.setdefault("text", tokens[:, 1].sum(axis=1))
    for m in MODALITIES:
        if length_key(m) in shapes and m in lengths:
            batch[length_key(m)] = lengths[m].astype(np.int32)
    # Row of the training data; models read it in training only.
    batch[INDEX] = np.zeros(len(rows), np.int32)
    missing = {m: missing[m] for m in MODALITIES if m in missing}
    return {key: array for key, array in batch.items() if key in shapes}, missing


def _padded(clips: Clips, name: str, rows: Sequence[int], shape: Shape) -> np.ndarray:
    """Float32 `(batch, steps, dim)`; steps that hold a NaN become zeros."""
    sequences = [clips.sequence(name, row) for row in rows] if name in clips.features else []
    steps = max([_steps(shape), *(len(sequence) for sequence in sequences)])
    array = np.zeros((len(rows), steps, shape[1] or 0), np.float32)
    for i, sequence in enumerate(sequences):
        if len(sequence):
            _check_width(clips.place, name, sequence.shape[1], shape[1])
            lost = np.isnan(sequence).any(axis=1, keepdims=True)
            array[i, : len(sequence)] = np.where(lost, np.float32(0), sequence)
    return array


def _tokens(clips: Clips, rows: Sequence[int], shape: Shape) -> np.ndarray:
    """Int32 `(batch, 3, steps)`; a clip without text becomes [CLS] [SEP]."""
    steps = shape[1] or 2
    if TEXT_BERT in clips.features:
        given = np.stack([clips.features[TEXT_BERT][row] for row in rows]).astype(np.int32)
        steps = max(steps, given.shape[2])
    else:
        given = np.zeros((len(rows), 3, 0), np.int32)
    tokens = np.zeros((len(rows), 3, steps), np.int32)
    tokens[:, :, : given.shape[2]] = given
    empty = tokens[:, 1].sum(axis=1) == 0
    tokens[empty, 0, :2] = CLS, SEP
    tokens[empty, 1, :2] = 1
    return tokens


def _lengths(
    clips: Clips,
    rows: Sequence[int],
    sequences: Mapping[str, np.ndarray],
    shapes: Shapes,
    tokens: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Modality -> true steps int64 `(batch,)`, from given lengths, tokens, or the values."""
    lengths: dict[str, np.ndarray] = {}
    for m in ("text", "audio", "vision"):  # the others may be aligned with the text
        if m not in sequences:
            continue
        steps, last = sequences[m].shape[1], _last_step(sequences[m])
        if m in clips.lengths:
            length = np.minimum(clips.lengths[m][list(rows)], steps)
            if np.any(over := last > length):
                raise ValueError(
                    f"{clips.place}: `{m}_lengths` must cover all steps that are not zero. "
                    f"Received: {length[over][0]} for {clips.ids[rows[int(over.argmax())]]!r}, "
                    f"which has {last[over][0]}. Give the true lengths, or none."
                )
        elif m == "text" and _has_token_mask(clips, steps):
            mask = np.stack([clips.features[TEXT_BERT][row][1] for row in rows])
            length = mask.sum(axis=1)
        elif m != "text" and "text" in lengths and _are_aligned(shapes[m], shapes["text"]):
            length = np.where(_last_step(sequences["text"]) > 0, lengths["text"], last)
        else:
            length = last
        lengths[m] = length.astype(np.int64)
    longest = _longest_share(lengths, shapes, tokens, len(rows))
    for m, length in lengths.items():
        if not _is_stand_in(shapes[m]):
            usual = np.maximum(1, np.ceil(longest * _steps(shapes[m]))).astype(np.int64)
            lengths[m] = np.where(length > 0, length, usual)
    return lengths


def _longest_share(
    lengths: Mapping[str, np.ndarray], shapes: Shapes, tokens: np.ndarray | None, size: int
) -> np.ndarray:
    """Float `(batch,)`: each clip's longest modality, as a share of the steps in training.

    An absent modality is taken to be as long.
    """
    shares = [np.zeros(size)]
    shares += [n / _steps(shapes[m]) for m, n in lengths.items() if not _is_stand_in(shapes[m])]
    if tokens is not None:
        words = tokens[:, 1].sum(axis=1)
        shares.append(np.where(words > 2, words / (shapes[TEXT_BERT][1] or 1), 0))
    return np.clip(np.max(shares, axis=0), 0, 1)


def _steps(shape: Shape) -> int:
    """Steps in training; 1 where they are not known, so that any clip is at least as long."""
    return shape[0] or 1


def _are_aligned(one: Shape, other: Shape) -> bool:
    """Whether sequences had as many steps in training."""
    return one[0] is not None and one[0] == other[0]


def _is_stand_in(shape: Shape) -> bool:
    """Whether training data lacked a modality of this shape."""
    return (_steps(shape), shape[1]) == STAND_IN


def _has_token_mask(clips: Clips, steps: int) -> bool:
    tokens = clips.features.get(TEXT_BERT)
    return tokens is not None and tokens[0].shape[1] <= steps


def _last_step(sequences: np.ndarray) -> np.ndarray:
    """Int `(batch,)`: steps up to the last one that is not all zero."""
    nonzero = (sequences != 0).any(axis=2)
    steps = sequences.shape[1] - nonzero[:, ::-1].argmax(axis=1)
    return np.where(nonzero.any(axis=1), steps, 0)


def _share_of_unknown_words(tokens: np.ndarray) -> np.ndarray:
    """Float `(batch,)`: share of [UNK] among the words; 1 where there is no word."""
    words = tokens[:, 1].sum(axis=1) - 2  # without [CLS] and [SEP]
    unknown = ((tokens[:, 0] == UNKNOWN_TOKEN) & (tokens[:, 1] == 1)).sum(axis=1)
    return np.where(words > 0, unknown / np.maximum(words, 1), 1.0)


def _check_width(place: str, key: str, width: int, wanted: int | None) -> None:
    if width != wanted:
        raise ValueError(
            f"{place}: `{key}` must have {wanted} columns, as the run was trained with. "
            f"Received: {width}. Extract the features as for training, or leave `{key}` out."
        )
