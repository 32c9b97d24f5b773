"""Every error of the library says what must hold and what arrived; those that a user meets, what to do."""

import ast
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_m3s as m3s
from keras_m3s import data, models, report
from keras_m3s.data.batches import Batches
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import export, predictions
from keras_m3s.layers import recurrent
from keras_m3s.optimizers import GroupedAdam

pytestmark = pytest.mark.once

ROOT = pathlib.Path(m3s.__file__).resolve().parent.parent
FILES = sorted(
    path
    for folder in ("keras_m3s", "cli", "tfds_builders")
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.endswith("_test.py")
)


ERRORS = ("ValueError", "DataError", "DamagedRunError", "ChangedExperimentError", "NotFiniteError")


def text(node, parts):
    """The constants in an expression, and what is known of its names."""
    found = (
        part.value if isinstance(part, ast.Constant) else parts.get(getattr(part, "id", ""))
        for part in ast.walk(node)
    )
    return "".join(part for part in found if isinstance(part, str))


def messages(source):
    """Line and constant text of each error of `ERRORS` that is made, parts with a name included."""
    parts = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
            parts[ast.unparse(node.targets[0])] = text(node.value, {})
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            yield node.lineno, "".join(text(argument, parts) for argument in node.args)


def lacking(source, received=True):
    return [
        line
        for line, text in messages(source)
        if text.strip(": ")  # else the message is another's, handed on, and stands there
        and not (re.search(r"\bmust\b", text) and ("Received" in text or not received))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_message_says_what_must_hold_and_what_arrived(path):
    # What arrived in a file may be too much to say: which line or key it was is enough.
    lines = lacking(path.read_text(), received="tfds_builders" not in path.parts)
    assert not lines, f"{path.name}: no 'must' or no 'Received' in lines {lines}"


def test_the_walk_sees():
    assert sum(len(list(messages(path.read_text()))) for path in FILES) > 180
    assert lacking("raise ValueError(f'{x} is bad')") == [1]
    assert lacking("raise ValueError(f'`x` must be 1. ' f'Received: {x}.')") == []
    assert lacking("raise DataError('`x` must be 1.')") == [1]
    assert lacking("y = '`x` must be 1.'\nraise DataError(f'{y} Received: {x}.')") == []
    assert lacking("y = '`x` is 1.'\nraise DataError(f'{y} Received: {x}.')") == [2]
    assert lacking("raise DataError('`x` must be 1.')", received=False) == []


def tiny():
    x = np.zeros((4, 3, 2), "float32")
    features = dict.fromkeys(("audio", "vision", "text"), x) | {"index": np.arange(4)}
    return data.Split("train", features, np.zeros(4, "float32"), list("abcd"))


def two_outputs():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


# What a user may well do, and the part of the answer that says what to do next or what would do.
MISTAKES = {
    "rate beyond 1": (lambda: m3s.MissingModality(1.5), r"\[0, 1\]|0 <="),
    "rate range turned round": (lambda: m3s.MissingModality((0.6, 0.4)), "low <= high"),
    "no such axis": (lambda: m3s.MissingModality(0.5, axis="rows"), "time.*feature"),
    "no such pattern": (lambda: m3s.MissingModality(0.5, pattern="holes"), "span"),
    "T of other inputs": (lambda: m3s.MissingModality({"audio": 0.5})({"sound": np.zeros((2, 3, 1))}), "audio"),
    "no model": (lambda: m3s.WithMissing(print), "keras.Model"),
    "T of another kind": (lambda: m3s.WithMissing(two_outputs(), 0.5), "MissingModality"),
    "no such site": (lambda: m3s.WithMissing(two_outputs(), None, "inner"), "raw.*encoded"),
    "site without encode": (lambda: m3s.WithMissing(two_outputs(), None, "encoded"), "`encode"),
    "fewer than no inner steps": (lambda: m3s.MetaModel(two_outputs(), inner_steps=-1, inner_learning_rate=0.1), ">= 0"),
    "no such model": (lambda: Experiment.of("synthetic_msa", "lstm", "m3s"), "misa"),
    "no such method": (lambda: Experiment.of("synthetic_msa", "misa", "sgd"), "spl-trn"),
    "fields of another version": (lambda: Experiment.from_dict({**Experiment.of("d", "misa", "orig").to_dict(), "margin": 1}), "upgrade"),
    "no such data set": (lambda: data.load("mosei"), "keras-m3s prepare --from"),
    "no such config": (lambda: data.load("cmu_mosi", config="aligned"), "aligned_50"),
    "a taken name": (lambda: data.prepare_own("cmu_mosi", "x.npz"), "lower case"),
    "double without shuffle": (lambda: Batches(tiny(), 2, double=True), "shuffle=True"),
    "draws of other rows": (lambda: Batches(tiny(), 2, draws=np.zeros((3, 3, 2))), "4, 3, 2"),
    "two clippings": (lambda: GroupedAdam(group_clipnorm=1.0, clipnorm=1.0), "others must be left out"),
    "no units": (lambda: recurrent.LSTM(0), "positive"),
    "predictions of other rows": (lambda: m3s.metrics.mae([1.0, 2.0], [1.0]), "same"),
    "no field of an experiment": (lambda: Experiment.from_dict({"model": "misa"}), "none of"),
    "negative classes": (lambda: models.MMIN.data_arguments(np.array([-1, 0, 1])), "-1, 0, 1. Number the classes from 0"),
    "classes for a score": (lambda: models.MMIM.data_arguments(np.array([0, 1])), "take MMIN or MISA"),
    "no such format of report": (lambda: report.write_report(".", ".", ["pdf"]), "html"),
    "no such format of export": (lambda: export.export(RunDirectory(pathlib.Path()), "tflite"), "onnx"),
    "no such format of predictions": (lambda: predictions.write([], None, "xml"), "jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_answer_to_a_mistake(mistake):
    make, what_to_do = MISTAKES[mistake]
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert re.search(r"\bmust\b", text) and "Received" in text, text
    assert re.search(what_to_do, text, re.DOTALL), text
