"""Trained run and new clips -> predictions, with how much of each modality was missing.

    model = RunModel(run)
    for row in rows(model, data.unlabelled("clips.npz")):
        print(row["id"], row["prediction"], row["missing_audio"])

A modality that is absent, or a clip's part of one, is zeros over as many steps as the clip's other
modalities would have it: what the model met in training with a hole over all of it.
"""

import contextlib
import csv
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np

from keras_m3s.experiments.checkpoints import best_model
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.layers.text_states import TextStates
from keras_m3s.missing.transform import UNKNOWN_TOKEN
from keras_m3s.modalities import COMPLEMENT, DRAWS, INDEX, MODALITIES, TEXT_BERT, length_key
from keras_m3s.utils import atomic_files

FORMATS: tuple[str, ...] = ("csv", "jsonl")

CLS, SEP = 101, 102
"""In BERT's vocabularies, English and Chinese."""


class RunModel:
    """The best model of a run, and what it reads.

    Args:
        run: A trained run.

    Attributes:
        model: The base model, without T: nothing is cut out of what it is given.
        shapes: Input -> shape in training, without the batch.

    Raises:
        FileNotFoundError: this is no run, or it has no model yet.
        DamagedRunError: its files cannot be read.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.experiment = run.experiment()
        self.model = best_model(run, compile=False).model
        built = self.model.get_build_config()["input_shape"]
        self.shapes = {
            key: tuple(shape[1:]) for key, shape in built.items() if key not in (DRAWS, COMPLEMENT)
        }
        reads_tokens = TEXT_BERT in self.shapes and any(
            isinstance(layer, TextStates) and layer.bert is not None
            for layer in self.model._flatten_layers()
        )
        # Data sets often have both; a model reads one, and the other need not be there.
        self.shapes.pop("text" if reads_tokens else TEXT_BERT, None)

    @property
    def text(self) -> str:
        """Under which name the model reads text: `text` or `text_bert`."""
        return TEXT_BERT if TEXT_BERT in self.shapes else "text"

    def predict(self, x: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores or logits float32 `(batch, outputs)`."""
        return np.asarray(self.model.predict_on_batch(dict(x)), "float32")


def rows(model: RunModel, clips: Any, batch_size: int = 64) -> Iterator[dict[str, Any]]:
    """Predictions one by one, made in batches.

    Args:
        model: What predicts.
        clips: As `keras_m3s.data.unlabelled` reads them.
        batch_size: Clips that are in memory at once, where they lie in files of their own.

    Yields:
        Dict with `id`, `prediction` (score, or number of the class), for classes `logit_0` ..,
        and `missing_audio`, `missing_vision`, `missing_text`: shares in [0, 1], see `inputs`.

    Raises:
        ValueError: no modality that the model reads is there, or widths differ.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: {batch_size}.")
    check(model, clips)
    for start in range(0, len(clips), batch_size):
        chosen = range(start, min(start + batch_size, len(clips)))
        x, missing = inputs(model, clips, chosen)
        # One shape of batch, so that nothing is compiled anew for the last one.
        full = min(batch_size, len(clips))
        padded = {key: array[np.arange(full) % len(chosen)] for key, array in x.items()}
        outputs = model.predict(padded)[: len(chosen)]
        for i, row in enumerate(chosen):
            yield {
                "id": clips.ids[row],
                **_columns(outputs[i]),
                **{f"missing_{m}": round(float(share[i]), 4) for m, share in missing.items()},
            }


def check(model: RunModel, clips: Any) -> None:
    """Whether the model can read the clips at all.

    Raises:
        ValueError: no modality that the model reads is there, or widths differ.
    """
    wanted = [key for key in (*MODALITIES, TEXT_BERT) if key in model.shapes]
    here = [key for key in wanted if key in clips.features]
    if not here:
        raise ValueError(
            f"{clips.place} must hold at least one of {wanted}, which the model reads. "
            f"Received: {sorted(clips.features)}."
        )
    for key in here:
        array = clips.features[key]
        if isinstance(array, np.ndarray) and key != TEXT_BERT:
            _check_width(clips.place, key, array.shape[2], model.shapes[key][1])


def inputs(
    model: RunModel, clips: Any, chosen: Iterable[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Some clips as the model reads them, and how much of them was missing.

    Args:
        model: Says what it reads, how wide, and how many steps there were in training: shorter
            sequences are padded to that, longer ones stay.
        clips: As in `rows`.
        chosen: Their rows.

    Returns:
        The batch, and modality -> float `(batch,)`: of the true steps, the share that is all zero,
        holds a NaN, or is not there; of tokens, the share of words that are [UNK]. Without given
        lengths, a sequence ends at its last step that is not zero (with those aligned with it, at
        the text's), so that a hole at its very end is not seen.
    """
    chosen = list(chosen)
    shapes = model.shapes
    found = {
        m: _padded(clips, m, chosen, shapes[m]) for m in MODALITIES if len(shapes.get(m, ())) == 2
    }
    tokens = _tokens(clips, chosen, shapes[TEXT_BERT]) if TEXT_BERT in shapes else None
    lengths = _lengths(clips, chosen, found, shapes, tokens)
    x: dict[str, np.ndarray] = {**found}
    missing: dict[str, np.ndarray] = {}
    for m, features in found.items():
        true = np.arange(features.shape[1]) < lengths[m][:, None]
        there = ((features != 0).any(axis=2) & true).sum(axis=1)
        missing[m] = 1 - there / np.maximum(lengths[m], 1)
    if tokens is not None:
        x[TEXT_BERT] = tokens
        missing["text"] = _unknown_words(tokens)
        lengths.setdefault("text", tokens[:, 1].sum(axis=1))
    for m in MODALITIES:
        if length_key(m) in shapes and m in lengths:
            x[length_key(m)] = lengths[m].astype(np.int32)
    x[INDEX] = np.zeros(len(chosen), np.int32)  # row of the training data: nothing reads it here
    missing = {m: missing[m] for m in MODALITIES if m in missing}
    return {key: array for key, array in x.items() if key in shapes}, missing


def _padded(clips: Any, name: str, chosen: list[int], shape: tuple[int, ...]) -> np.ndarray:
    sequences = [clips.sequence(name, row) for row in chosen] if name in clips.features else []
    steps = max([shape[0], *(len(sequence) for sequence in sequences)])
    array = np.zeros((len(chosen), steps, shape[1]), np.float32)
    for row, sequence in enumerate(sequences):
        if len(sequence):
            _check_width(clips.place, name, sequence.shape[1], shape[1])
            lost = np.isnan(sequence).any(axis=1, keepdims=True)
            array[row, : len(sequence)] = np.where(lost, np.float32(0), sequence)
    return array


def _tokens(clips: Any, chosen: list[int], shape: tuple[int, ...]) -> np.ndarray:
    steps = shape[1]
    if TEXT_BERT in clips.features:
        given = np.stack([clips.features[TEXT_BERT][row] for row in chosen]).astype(np.int32)
        steps = max(steps, given.shape[2])
    else:
        given = np.zeros((len(chosen), 3, 0), np.int32)
    tokens = np.zeros((len(chosen), 3, steps), np.int32)
    tokens[:, :, : given.shape[2]] = given
    silent = tokens[:, 1].sum(axis=1) == 0
    tokens[silent, 0, :2] = CLS, SEP  # a text without words
    tokens[silent, 1, :2] = 1
    return tokens


def _lengths(
    clips: Any,
    chosen: list[int],
    found: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    tokens: np.ndarray | None,
) -> dict[str, np.ndarray]:
    lengths: dict[str, np.ndarray] = {}
    for m in ("text", "audio", "vision"):
        if m not in found:
            continue
        features, steps = found[m], found[m].shape[1]
        last = _last_step(features)
        if m in clips.lengths:
            length = np.minimum(clips.lengths[m][chosen], steps)
            if np.any(over := last > length):
                raise ValueError(
                    f"{clips.place}: `{m}_lengths` must cover all steps that are not zero. "
                    f"Received: {length[over][0]} for {clips.ids[chosen[int(over.argmax())]]!r}, "
                    f"which has {last[over][0]}. Give the true lengths, or none."
                )
        elif m == "text" and _mask(clips, steps):
            mask = np.stack([clips.features[TEXT_BERT][row][1] for row in chosen])
            length = mask.sum(axis=1)
        elif m != "text" and "text" in lengths and shapes[m][0] == shapes["text"][0]:
            length = np.where(_last_step(found["text"]) > 0, lengths["text"], last)
        else:
            length = last
        lengths[m] = length.astype(np.int64)
    if tokens is not None:
        share = {TEXT_BERT: tokens[:, 1].sum(axis=1) / shapes[TEXT_BERT][1]}
        share[TEXT_BERT] = np.where(tokens[:, 1].sum(axis=1) > 2, share[TEXT_BERT], 0)
    else:
        share = {}
    # What is wholly absent is as long, for its kind, as the others of its clip.
    share |= {m: length / shapes[m][0] for m, length in lengths.items()}
    longest = np.clip(np.max(list(share.values()), axis=0), 0, 1)
    for m, length in lengths.items():
        usual = np.maximum(1, np.ceil(longest * shapes[m][0])).astype(np.int64)
        lengths[m] = np.where(length > 0, length, usual)
    return lengths


def _mask(clips: Any, steps: int) -> bool:
    tokens = clips.features.get(TEXT_BERT)
    return tokens is not None and tokens[0].shape[1] <= steps


def _last_step(features: np.ndarray) -> np.ndarray:
    filled = (features != 0).any(axis=2)
    steps = features.shape[1] - filled[:, ::-1].argmax(axis=1)
    return np.where(filled.any(axis=1), steps, 0)


def _unknown_words(tokens: np.ndarray) -> np.ndarray:
    words = tokens[:, 1].sum(axis=1) - 2  # without [CLS] and [SEP]
    unknown = ((tokens[:, 0] == UNKNOWN_TOKEN) & (tokens[:, 1] == 1)).sum(axis=1)
    return np.where(words > 0, unknown / np.maximum(words, 1), 1.0)


def _check_width(place: str, key: str, width: int, wanted: int) -> None:
    if width != wanted:
        raise ValueError(
            f"{place}: `{key}` must have {wanted} columns, as the run was trained with. "
            f"Received: {width}. Extract the features as for training, or leave `{key}` out."
        )


def _columns(output: np.ndarray) -> dict[str, Any]:
    # The shortest text that reads back as the same float32.
    plain = [float(str(value)) for value in output]
    if len(plain) == 1:
        return {"prediction": plain[0]}
    return {
        "prediction": int(output.argmax()),
        **{f"logit_{i}": value for i, value in enumerate(plain)},
    }


def write(found: Iterable[Mapping[str, Any]], file: TextIO, form: str = "csv") -> int:
    """Writes rows as they come.

    Args:
        found: Dicts of the same keys.
        file: Text file, open for writing.
        form: One of `FORMATS`.

    Returns:
        How many there were.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {FORMATS}. Received: {form!r}.")
    table: Any = None
    count = 0
    for row in found:
        if form == "jsonl":
            file.write(json.dumps(row) + "\n")
        else:
            if table is None:
                table = csv.DictWriter(file, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(row)
        file.flush()
        count += 1
    return count


@contextlib.contextmanager
def opened(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """Stdout, or a file that is there under its name only once all of it is written."""
    if path is None:
        yield sys.stdout
        return
    with (
        atomic_files.whole(pathlib.Path(path).expanduser()) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file
