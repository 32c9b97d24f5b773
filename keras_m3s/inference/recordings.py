"""New recordings to batches of a model that fills what is missing by itself.

For models of one's own, whose run knows the modalities of its data: what is absent, or was never
measured, is NaN, as it was in training.
"""

from collections.abc import Sequence

import numpy as np

from keras_m3s.inference.clips import Clips, Shapes
from keras_m3s.inference.trained_model import CLS, SEP
from keras_m3s.modalities import TEXT_BERT, length_key, modalities_in


def modalities(shapes: Shapes) -> tuple[str, ...]:
    """The modalities among a model's inputs."""
    return modalities_in({name: (None, *shape) for name, shape in shapes.items()})


def check(shapes: Shapes, clips: Clips) -> None:
    """Checks that a model can read recordings, before the first prediction.

    Args:
        shapes: Inputs of the model.
        clips: Recordings to predict, of which any modality may be absent.

    Raises:
        ValueError: They hold no modality that the model reads, or one of another width.
    """
    wanted = [name for name in shapes if name in modalities(shapes) or name == TEXT_BERT]
    present = [name for name in wanted if name in clips.features]
    if not present:
        raise ValueError(
            f"{clips.place} must hold at least one of {wanted}, which the model reads. "
            f"Received: {sorted(clips.features)}."
        )
    for name in present:
        array = clips.features[name]
        if isinstance(array, np.ndarray) and name != TEXT_BERT:
            _check_shape(clips.place, name, array.shape[1:], shapes[name])


def inputs(
    shapes: Shapes, clips: Clips, rows: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of some recordings, and the share of each modality that is missing.

    Args:
        shapes: Inputs of the model. Sequences shorter than in training are padded.
        clips: Recordings to predict.
        rows: Which of them.

    Returns:
        The batch, and modality -> float `(batch,)`: the share of the cells within true steps that
        are NaN or absent.

    Raises:
        ValueError: A sequence is wider or longer than in training.
    """
    batch: dict[str, np.ndarray] = {}
    missing: dict[str, np.ndarray] = {}
    for name in modalities(shapes):
        if name not in shapes:  # text as tokens
            continue
        shape, key = known_shape(shapes[name]), length_key(name)
        batch[name] = _filled(clips, name, rows, shape)
        lost = np.isnan(batch[name]).reshape(len(rows), -1, shape[-1])
        if key in shapes:
            batch[key] = _lengths(clips, name, rows, batch[name])
            true = np.arange(lost.shape[1]) < batch[key][:, None]
            lost = lost & true[:, :, None]
            batch[name] = np.where(true[:, :, None], batch[name], 0)
            cells = np.maximum(batch[key], 1) * shape[-1]
        else:
            cells = np.full(len(rows), lost[0].size)
        missing[name] = lost.sum(axis=(1, 2)) / cells
    if TEXT_BERT in shapes:
        batch[TEXT_BERT] = _tokens(clips, rows, known_shape(shapes[TEXT_BERT]))
    return {name: array for name, array in batch.items() if name in shapes}, missing


def known_shape(shape: Sequence[int | None]) -> tuple[int, ...]:
    """The shape of an input of a model of one's own, whose data tells it as a whole."""
    return tuple(size for size in shape if size is not None)


def _filled(clips: Clips, name: str, rows: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Float32 `(batch, *shape)`, NaN where there is nothing."""
    array = np.full((len(rows), *shape), np.nan, np.float32)
    if name not in clips.features:
        return array
    for at, row in enumerate(rows):
        if len(shape) == 1:
            values = np.asarray(clips.features[name][row], np.float32)
            _check_shape(clips.place, name, values.shape, shape)
            array[at] = values
            continue
        sequence = clips.sequence(name, row)
        if len(sequence):
            _check_shape(clips.place, name, sequence.shape, shape)
            array[at, : len(sequence)] = sequence
    return array


def _lengths(clips: Clips, name: str, rows: Sequence[int], array: np.ndarray) -> np.ndarray:
    """Int32 `(batch,)`: given lengths, or up to the last step that is neither NaN nor all zero.

    What is missing as a whole is as long as can be.
    """
    steps = array.shape[1]
    if name in clips.lengths:
        return np.minimum(clips.lengths[name][list(rows)], steps).astype(np.int32)
    there = (np.nan_to_num(array) != 0).any(axis=2)
    last = steps - there[:, ::-1].argmax(axis=1)
    return np.where(there.any(axis=1), last, steps).astype(np.int32)


def _tokens(clips: Clips, rows: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Int32 `(batch, 3, steps)`; a row without text becomes [CLS] [SEP]."""
    tokens = np.zeros((len(rows), *shape), np.int32)
    if TEXT_BERT in clips.features:
        given = np.stack([clips.features[TEXT_BERT][row] for row in rows])[:, :, : shape[1]]
        tokens[:, :, : given.shape[2]] = given
    empty = tokens[:, 1].sum(axis=1) == 0
    tokens[empty, 0, :2] = CLS, SEP
    tokens[empty, 1, :2] = 1
    return tokens


def _check_shape(place: str, name: str, shape: Sequence[int], wanted: Sequence[int]) -> None:
    fits = len(shape) == len(wanted) and shape[-1] == wanted[-1]
    if not fits or (len(wanted) == 2 and shape[0] > wanted[0]):
        what = f"{wanted[-1]} columns" + (
            f" and at most {wanted[0]} steps" if len(wanted) == 2 else ""
        )
        raise ValueError(
            f"{place}: `{name}` must have {what}, as the run was trained with. Received: shape "
            f"{tuple(shape)}. Prepare the data as for training, or leave `{name}` out."
        )
