"""What is not read does not matter; what is read and wrong is named, by key, row and what it is."""

import re
import warnings

import numpy as np
import pytest

from keras_m3s import data
from tests import layouts
from tfds_builders import testing
from tfds_builders.limits import DataError

pytestmark = pytest.mark.once

NAN = float("nan")


def objects(*entries):
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def for_each(key, value):
    """Puts `value(N)` into each split; None takes the key away."""

    def change(content):
        for raw in content.values():
            raw[key] = value(len(raw["id"]))

    return change


def load(tmp_path, *changes, name="my.pkl"):
    content = testing.mmsa_content()
    for change in changes:
        change(content)
    return data.load(testing.write(tmp_path / name, content))


def archived(tmp_path, *changes):
    content = testing.mmsa_content()
    for change in changes:
        change(content)
    np.savez(tmp_path / "my.npz", **layouts.flat(content))
    return data.load(tmp_path / "my.npz")


# --- What is not read -----------------------------------------------------------------------------

UNREAD = {
    "annotations with NaN": ("annotations", lambda n: objects(*["Positive", NAN] * n)[:n]),
    "annotations of None": ("annotations", lambda n: objects(*[None] * n)),
    "lists of lists": ("word_times", lambda n: objects(*[[0.1] * (1 + i) for i in range(n)])),
    "arrays of unequal length": ("frames", lambda n: objects(*[np.ones((1 + i, 2)) for i in range(n)])),
    "raw bytes": ("video", lambda n: objects(*[b"a"] * n)),
    "dicts": ("speaker", lambda n: objects(*[{"name": "A"}] * n)),
    "dates": ("time", lambda n: np.zeros(n, "M8[s]")),
    "complex numbers": ("spectrum", lambda n: np.zeros((n, 3), complex)),
    "records": ("faces", lambda n: np.zeros(n, [("x", "f4"), ("y", "f4")])),
    "another number of rows": ("annotations", lambda n: ["a"] * (n + 1)),
    "a number": ("version", lambda n: 2),
    "a dict": ("config", lambda n: {"fps": 25, "note": None}),
    "None": ("raw_text", lambda n: None),
    "no labels of classes": ("classification_labels", lambda n: np.full(n, NAN)),
    "strings as classes": ("classification_labels", lambda n: ["joy"] * n),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_does_not_matter(name, tmp_path):
    plain = load(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(tmp_path, for_each(*UNREAD[name]))
    for split, one in plain.items():
        assert found[split].fingerprint() == one.fingerprint()
    if name != "None":
        assert archived(tmp_path, for_each(*UNREAD[name]))["test"].ids == plain["test"].ids
    assert not data.inspect(tmp_path / "my.pkl").problems


TEXTS = {
    "a clip without speech": (lambda n: [NAN, *["words"] * (n - 1)], ""),
    "None": (lambda n: objects(None, *["words"] * (n - 1)), ""),
    "a number": (lambda n: [1984, *["words"] * (n - 1)], "1984"),
    "bytes": (lambda n: ["Märchen".encode(), *["words"] * (n - 1)], "Märchen"),
    "a column of objects": (lambda n: objects(*["words"] * n), "words"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_transcripts(name, tmp_path):
    values, first = TEXTS[name]
    content = testing.mmsa_content()
    for_each("raw_text", values)(content)
    path = testing.write(tmp_path / "my.pkl", content)
    builder = data.prepare_own("mine", path, tmp_path / "data")
    rows = {int(row["index"]): row for row in builder.as_data_source("train")}
    assert rows[0]["raw_text"].decode() == first


UNRATED = {
    "NaN": lambda n: np.full(n, NAN),
    "a list of None": lambda n: [None] * n,
    "objects": lambda n: objects(*[None] * n),
    "empty strings": lambda n: [""] * n,
    "an array of empty strings": lambda n: np.array([""] * n),
}


@pytest.mark.parametrize("name", UNRATED)
def test_empty_labels_of_single_modalities_count_as_absent(name, tmp_path):
    changes = [for_each(f"regression_labels_{letter}", UNRATED[name]) for letter in "TAV"]
    found = load(tmp_path, *changes)["train"]
    assert not found.unimodal and found.fingerprint() == load(tmp_path)["train"].fingerprint()


def test_labels_of_a_modality_that_some_segments_have(tmp_path):
    def change(content):
        content["train"]["regression_labels_T"] = [0.5, NAN, None, 1]
        content["test"]["regression_labels_A"] = np.ones(3)

    splits = load(tmp_path, change)
    np.testing.assert_equal(splits["train"].unimodal["text"], np.float32([0.5, NAN, NAN, 1]))
    assert np.isnan(splits["valid"].unimodal["text"]).all()
    assert np.isnan(splits["train"].unimodal["audio"]).all()
    data.prepare_own("mine", tmp_path / "my.pkl", tmp_path / "data")
    again = data.load("mine", tmp_path / "data")
    for split, one in splits.items():
        assert again[split].fingerprint() == one.fingerprint()


# --- What is read ---------------------------------------------------------------------------------

SCORES = {
    "a list": lambda y: y.tolist(),
    "a tuple": lambda y: tuple(y.tolist()),
    "numbers of numpy": lambda y: list(y),
    "arrays of one": lambda y: [np.array([one]) for one in y],
    "arrays (1, 1)": lambda y: [np.array([[one]]) for one in y],
    "a column": lambda y: y[:, None],
    "as MulT has it": lambda y: y[:, None, None],
    "objects": lambda y: objects(*y.tolist()),
    "objects (N, 1)": lambda y: objects(*y.tolist())[:, None],
    "float64": lambda y: y.astype("f8"),
    "big endian": lambda y: y.astype(">f4"),
}


@pytest.mark.parametrize("name", SCORES)
def test_labels_of_every_form(name, tmp_path):
    def change(content):
        for raw in content.values():
            raw["regression_labels"] = SCORES[name](raw["regression_labels"])

    wanted = load(tmp_path)
    for split, found in load(tmp_path, change).items():
        assert found.labels.dtype == np.float32
        np.testing.assert_array_equal(found.labels, wanted[split].labels)


def classes(values):
    def change(content):
        for raw in content.values():
            del raw["regression_labels"]
            raw["classification_labels"] = values(len(raw["id"]))

    return change


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", "bool", "object"])
def test_classes_of_every_type(dtype, tmp_path):
    found = load(tmp_path, classes(lambda n: (np.arange(n) % 2).astype(dtype)))["train"].labels
    assert found.dtype == np.int32 and found.tolist() == [0, 1, 0, 1]


def test_an_empty_column_of_scores_leaves_the_classes(tmp_path):
    changes = classes(lambda n: np.arange(n)), for_each("regression_labels", lambda n: [NAN] * n)
    assert load(tmp_path, *changes)["train"].labels.tolist() == [0, 1, 2, 3]


def first(key, value):
    return lambda content: content["train"].update({key: value})


PLACE = r"^\S+/my\.pkl, train: "
WRONG = {
    "labels of strings": (for_each("regression_labels", lambda n: ["-2.82"] * n), r"`regression_labels` must hold one number a segment, .*Received: list of 4 str, the first '-2.82'. Save them as numbers."),
    "strings of numpy": (for_each("regression_labels", lambda n: np.array(["-2.82"] * n)), r"Received: array \(4,\) of <U5, the first '-2.82'. Save"),
    "one label of another kind": (first("regression_labels", [1.0, 2.0, "x", 3.0]), r"list of 4 float and str, entry 2 the first str: 'x'"),
    "labels of dates": (for_each("regression_labels", lambda n: np.zeros(n, "M8[s]")), r"array of dtype 'M8', which is not read"),
    "a label NaN": (first("regression_labels", [1.0, NAN, 0, 0]), r"1 values of NaN or inf, the first nan in segment 'train0\$_\$1'.*Leave these segments out"),
    "a label None": (first("regression_labels", [1.0, 2.0, None, 0]), r"the first nan in segment 'train1\$_\$2'.*Leave"),
    "all labels NaN": (for_each("regression_labels", lambda n: np.full(n, NAN)), "4 values of NaN.*Leave these segments out"),
    "classes -1, 0, 1": (classes(lambda n: np.arange(n) % 3 - 1), r"`classification_labels` must number the classes from 0 on.*Received: the classes -1, 0, 1. .*subtract -1"),
    "classes 1e6": (classes(lambda n: np.arange(n) * 10**6), r"the classes 0, 1000000, 2000000, 3000000. .*number them anew"),
    "classes by name": (classes(lambda n: ["joy"] * n), "Received: list of 4 str, the first 'joy'. Number the classes from 0 on"),
    "one-hot classes": (classes(lambda n: np.eye(4)[:n]), r"array \(4, 4\) of float64. .*argmax\(axis=1\)"),
    "a class NaN": (classes(lambda n: [0, NAN, 1, 1][:n]), "`classification_labels` must be finite.*Leave these segments out"),
    "half a class": (classes(lambda n: np.full(n, 0.5)), "must hold whole numbers"),
    "lengths of strings": (for_each("audio_lengths", lambda n: ["5"] * n), "`audio_lengths` must hold one number a segment.*list of 4 str, the first '5'"),
    "lengths of arrays of two": (for_each("audio_lengths", lambda n: [np.array([5, 1])] * n), r"list of 4 array, the first \(2,\) of int64"),
    "a length NaN": (first("audio_lengths", [1, NAN, 1, 1]), r"segment 'train0\$_\$1'.*Give each segment its number of steps"),
    "a vector a segment": (for_each("audio", lambda n: np.ones((n, 5))), r"Received: array \(4, 5\) of float64. One vector a segment is a sequence of one step: `array\[:, None\]`"),
    "sequences of unequal length": (for_each("audio", lambda n: objects(*[np.ones((1 + i, 3)) for i in range(n)])), r"object array \(4,\) of array, the first \(1, 3\) of float64. Pad sequences to one length"),
    "nested lists": (for_each("audio", lambda n: [[[1.0, 2.0]]] * n), "Received: list of 4 list, the first of 1. Pad"),
    "complex features": (for_each("audio", lambda n: np.ones((n, 9, 3), complex)), "array of dtype 'c16', which is not read"),
    "an id NaN": (first("id", ["a", NAN, "b", "c"]), "`id` must list strings. Received: list of 4 str and float, entry 1 the first float: nan"),
    "transcripts of lists": (first("raw_text", ["a", ["b"], "c", "d"]), "`raw_text` must list strings.*entry 1 the first list: of 1"),
    "labels of a modality, strings": (first("regression_labels_T", ["good"] * 4), "`regression_labels_T` must hold one number"),
    "labels of a modality, inf": (first("regression_labels_T", [np.inf, 1, 1, 1]), "`regression_labels_T` must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_read_and_wrong_is_named(name, tmp_path):
    change, match = WRONG[name]
    with pytest.raises(DataError) as error:
        load(tmp_path, change)
    assert re.search(PLACE + f".*{match}", str(error.value)), str(error.value)
    assert "Replace them by 0" not in str(error.value) or "label" not in str(error.value)
    assert data.inspect(tmp_path / "my.pkl").problems[0] == str(error.value)


def test_objects_in_an_archive_are_no_pickles(tmp_path):
    """They are left unread; where they are needed, the message says what they are."""
    with pytest.raises(DataError, match=r"`regression_labels`.*array of objects, which would be a pickle"):  # fmt: skip
        archived(tmp_path, for_each("regression_labels", lambda n: objects(*["x"] * n)))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_classes_that_training_lacks_are_a_warning(split, tmp_path):
    def change(content):
        classes(lambda n: np.arange(n) % 2)(content)
        content[split]["classification_labels"][0] = 3

    with pytest.warns(UserWarning, match=rf"every class. Received: \[3\] in {split} alone"):
        load(tmp_path, change)
    assert "[3]" in data.inspect(tmp_path / "my.pkl").notes[0]
    with pytest.warns(UserWarning, match="every class"):
        builder = data.prepare_own("mine", tmp_path / "my.pkl", tmp_path / "data")
    assert builder.info.features["label"].num_classes == 4


# --- Scales ---------------------------------------------------------------------------------------


def test_scores_that_look_like_those_of_ch_sims(tmp_path):
    (tmp_path / "SIMS").mkdir()
    path = layouts.mmsa(tmp_path / "SIMS", "unaligned_39.pkl", bound=1)
    for read in (data.load, lambda path: data.prepare_own("mine", path, tmp_path / "data")):
        with pytest.warns(UserWarning, match=r"-3..3, .*Received: -.* `keras-m3s prepare ch_sims"):
            read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.load(layouts.mmsa(tmp_path, bound=3))


def test_ch_sims_without_labels_of_single_modalities(tmp_path):
    path = layouts.mmsa(tmp_path, bound=1)
    with pytest.warns(UserWarning, match=r"no labels of \['audio', 'text', 'vision'\] alone"):
        splits = data.load("ch_sims", tmp_path / "data", tmp_path)
    streamed = data.load_streamed("ch_sims", tmp_path / "data")
    with pytest.warns(UserWarning, match="ch_sims"):
        wanted = data.load(path)
    for name, split in splits.items():
        assert not split.unimodal and not streamed[name].unimodal
        assert split.fingerprint() == wanted[name].fingerprint()


# --- Modalities that are not there ----------------------------------------------------------------

ABSENT = [("audio",), ("audio", "vision"), ("text", "text_bert"), ("vision", "text", "text_bert")]


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("form", ["pickle", "npz", "named None"])
def test_a_modality_that_no_split_has_is_a_step_of_zeros(form, absent, tmp_path):
    def change(content):
        for raw in content.values():
            for key in absent:
                raw.update({key: None}) if form == "named None" else raw.pop(key)

    read = archived if form == "npz" else load
    names = " and ".join(f"`{m}`" for m in ("audio", "vision", "text") if m in absent)
    with pytest.warns(UserWarning, match=f"has no {names}: one step of zeros, of length 0"):
        splits = read(tmp_path, change)
    plain = load(tmp_path, name="whole.pkl")
    for name, split in splits.items():
        for m in ("audio", "vision", "text"):
            if m in absent:
                assert split.features[m].shape == (len(split), 1, 1) and not split.features[m].any()
                assert not split.features[f"{m}_length"].any()
            else:
                np.testing.assert_array_equal(split.features[m], plain[name].features[m])
    source = tmp_path / ("my.npz" if form == "npz" else "my.pkl")
    with pytest.warns(UserWarning, match="has no"):
        data.prepare_own("mine", source, tmp_path / "data")
    for name, split in data.load("mine", tmp_path / "data").items():
        assert split.fingerprint() == splits[name].fingerprint()


@pytest.mark.parametrize("modalities", [("text",), ("audio", "text"), ("vision",)])
def test_a_folder_without_a_modality(modalities, tmp_path):
    layouts.own(tmp_path, modalities=modalities)
    with pytest.warns(UserWarning, match="has no"):
        data.prepare_own("mine", tmp_path, tmp_path / "data")
    split = data.load("mine", tmp_path / "data")["train"]
    for m in ("audio", "vision", "text"):
        assert split.features[m].any() == (m in modalities)
        assert split.features[m].shape == ((3, 4, 3) if m in modalities else (3, 1, 1))
        assert split.features[f"{m}_length"].tolist() == [4 * (m in modalities)] * 3


def test_tokens_alone_stand_for_text(tmp_path):
    def change(content):
        for raw in content.values():
            del raw["text"]

    splits = load(tmp_path, change)
    data.prepare_own("mine", tmp_path / "my.pkl", tmp_path / "data")
    again = data.load("mine", tmp_path / "data")
    for name, split in splits.items():
        assert "text" not in split.features
        mask = split.features["text_bert"][:, 1]
        np.testing.assert_array_equal(split.features["text_length"], mask.sum(1))
        assert again[name].fingerprint() == split.fingerprint()


def test_a_modality_that_some_splits_have_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"valid: keys .*Missing: \['audio'\]"):
        load(tmp_path, lambda content: content["valid"].pop("audio"))
