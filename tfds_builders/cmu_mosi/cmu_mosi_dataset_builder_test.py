"""CMU-MOSI from dummy data, as TFDS tests its own data sets; its other forms against hand work."""

import pathlib
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data

from ..pickles import DataError
from ..testing import SHAPES, SIZES, write, write_csd, write_lists
from .cmu_mosi_dataset_builder import CmuMosi, MosiConfig
from .folds import FOLDS

pytestmark = pytest.mark.once

DUMMY = pathlib.Path(__file__).parent / "dummy_data"


class CmuMosiTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CmuMosi
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = [
        "from_file",
        MosiConfig(name="small", file="dummy.pkl", shapes=SHAPES, sizes=SIZES),
    ]


class WordListsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CmuMosi
    EXAMPLE_DIR = DUMMY / "word_lists"
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = ["word_lists"]


class CsdTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CmuMosi
    EXAMPLE_DIR = DUMMY / "csd"
    SPLITS = dict.fromkeys(FOLDS, 2)
    BUILDER_CONFIG_NAMES_TO_TEST = ["csd_aligned", "csd_unaligned"]


def test_standard_folds() -> None:
    assert [len(videos) for videos in FOLDS.values()] == [52, 10, 31]
    assert len(frozenset.union(*FOLDS.values())) == 93


def load(tmp_path: Any, config: Any) -> Any:
    with pytest.warns(UserWarning, match="on the standard folds. Received: {'train':"):
        return data.load("cmu_mosi", tmp_path / "out", tmp_path / "in", config=config)


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_lists_of_misa(folder: Any, tmp_path: Any) -> None:
    written = write_lists(folder, "misa")
    table = np.load(folder / "embeddings.npy")
    splits = load(tmp_path, "word_lists")
    for split, name in (("train", "train.pkl"), ("valid", "dev.pkl"), ("test", "test.pkl")):
        got = splits[split]
        assert len(got) == len(written[name])
        for row, ((ids, vision, audio, words), label, segment) in enumerate(written[name]):
            assert got.ids[row] == segment.replace("[", "$_$").rstrip("]")
            assert got.labels[row] == label[0, 0]
            for key, wanted in (("text", table[ids]), ("vision", vision), ("audio", audio)):
                array, length = got.features[key][row], got.features[f"{key}_length"][row]
                assert length == len(words)
                np.testing.assert_array_equal(array[:length], wanted.astype("float32"))
                assert not array[length:].any()
        assert "text_bert" not in got.features


def test_lists_of_mmim(folder: Any, tmp_path: Any) -> None:
    pytest.importorskip("keras_hub")
    written = write_lists(folder, "mmim")
    splits = load(tmp_path, "word_lists")
    for split, name in (("train", "train.pkl"), ("valid", "dev.pkl"), ("test", "test.pkl")):
        features = splits[split].features
        for row, (parts, _, _) in enumerate(written[name]):
            for key, padded, length in (
                ("vision", parts[1], parts[4]),
                ("audio", parts[2], parts[5]),
            ):
                assert features[f"{key}_length"][row] == length
                np.testing.assert_array_equal(features[key][row, :length], padded[-length:])
            # [CLS] good bad [UNK] [SEP], as many as there are words
            tokens = [2, *(4, 5, 1)[: len(parts[3])], 3]
            assert features["text_bert"][row, 0, : len(tokens)].tolist() == tokens
            assert features["text_bert"][row, 1].sum() == len(tokens)
            assert features["text_length"][row] == len(tokens)
        assert "text" not in features


MARKS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
BROKEN_VOCABULARIES = {
    "no marks": (b"good\nbad", r"Missing: \['\[CLS\]'"),
    "a piece twice": (f"{MARKS}good\ngood".encode(), "'good' twice"),
    "not UTF-8": (MARKS.encode() + b"g\xffd", "must be text in UTF-8"),
    "NUL": (f"{MARKS}good\nbad\0".encode(), r"without NUL. Received: 'bad\\x00'"),
}


@pytest.mark.parametrize("name", BROKEN_VOCABULARIES)
def test_broken_vocabulary(name: Any, folder: Any, tmp_path: Any) -> None:
    content, match = BROKEN_VOCABULARIES[name]
    write_lists(folder, "mmim")
    (folder / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=match):
        data.load("cmu_mosi", tmp_path / "out", folder, config="word_lists")
    assert not list((tmp_path / "out").rglob("*record*"))


def misa_row(row: Any) -> Any:
    (ids, vision, audio, words), label, name = row
    return {
        "ids": ids,
        "vision": vision,
        "audio": audio,
        "words": words,
        "label": label,
        "name": name,
    }


BROKEN = {
    "a dict": (lambda rows: {"train": rows}, "dev.pkl must be a list"),
    "empty": (lambda rows: [], "dev.pkl must be a list"),
    "no triple": (
        lambda rows: [rows[0], rows[1][:2]],
        r"dev.pkl, row 1: must be \(features, label, name",
    ),
    "two parts": (lambda rows: [(rows[0][0][:2], *rows[0][1:])], "row 0: features must be"),
    "rank 1": (lambda rows: changed(rows, vision=np.ones(4)), r"`vision` must be a numeric array"),
    "a list": (lambda rows: changed(rows, audio=[[1.0]]), "`audio` must be a numeric array.*list"),
    "other columns": (lambda rows: changed(rows, audio=np.ones((2, 9))), "one number of columns"),
    "words of numbers": (lambda rows: changed(rows, words=[1, 2]), "words must be strings"),
    "NaN label": (lambda rows: changed(rows, label=np.nan), "its label must be one number"),
    "seven labels": (lambda rows: changed(rows, label=np.ones((1, 7))), "its label must be one"),
    "no name": (lambda rows: changed(rows, name=3), "its name must be a string"),
    "a name twice": (lambda rows: [rows[0], rows[0]], "unique"),
    "unknown word": (lambda rows: changed(rows, ids=np.array([99])), r"ids must lie in 0\.\.4"),
    "label out of range": (lambda rows: changed(rows, label=9.0), r"labels must lie in -3\.\.3"),
}


def changed(rows: Any, **changes: Any) -> Any:
    new = {**misa_row(rows[0]), **changes}
    parts = tuple(new[key] for key in ("ids", "vision", "audio", "words"))
    return [(parts, new["label"], new["name"]), *rows[1:]]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_list(name: Any, folder: Any, tmp_path: Any) -> None:
    change, match = BROKEN[name]
    rows = write_lists(folder, "misa")["dev.pkl"]
    write(folder / "dev.pkl", change(rows))
    with pytest.raises(DataError, match=match):
        data.load("cmu_mosi", tmp_path / "out", folder, config="word_lists")
    assert not list((tmp_path / "out").rglob("*record*"))


def test_lists_mend_what_is_not_finite_as_misa_does(folder: Any, tmp_path: Any) -> None:
    rows = write_lists(folder, "misa")["dev.pkl"]
    audio = np.array([[np.nan, 1, np.inf]])
    write(folder / "dev.pkl", changed(rows, audio=audio))
    with pytest.warns(UserWarning, match="dev.pkl: 2 values of `audio` were not finite"):
        split = load(tmp_path, "word_lists")["valid"]
    assert split.features["audio"][0, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("aligned", [True, False])
def test_sequences_of_the_sdk(aligned: Any, folder: Any, tmp_path: Any) -> None:
    videos = [sorted(FOLDS[split])[0] for split in FOLDS]
    write_csd(folder, videos)
    splits = load(tmp_path, "csd_aligned" if aligned else "csd_unaligned")
    files = {"text": "TimestampedWordVectors", "audio": "COVAREP", "vision": "Visual_Facet_42"}
    rates = {"text": 1, "audio": 10, "vision": 4}
    for video, split in zip(videos, splits.values(), strict=True):
        assert split.ids == [f"{video}$_$0", f"{video}$_$1"]
        with h5py.File(folder / "CMU_MOSI_Opinion_Labels.csd") as file:
            wanted = file[f"labels/data/{video}/features"][:, 0].astype("float32")
        np.testing.assert_array_equal(split.labels, wanted)
        for key, name in files.items():
            with h5py.File(folder / f"CMU_MOSI_{name}.csd") as file:
                rows = file[f"sequence/data/{video}/features"][()]
            rate = rates[key]
            for segment in range(2):
                wanted = rows[3 * rate * segment : 3 * rate * (segment + 1)]
                if aligned:
                    wanted = wanted.reshape(3, rate, -1).mean(axis=1)
                got = split.features[key][segment]
                assert split.features[f"{key}_length"][segment] == len(wanted) == len(got)
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_transcript_is_that_of_each_segment(folder: Any, tmp_path: Any) -> None:
    """Words that a segment's interval meets, pauses left out; empty without the words' file."""
    write_csd(folder, [sorted(FOLDS[split])[0] for split in FOLDS])
    for wanted in ([b"word0 word1", b"word3 word4"], [b"", b""]):
        with pytest.warns(UserWarning, match="on the standard folds"):
            builder = data.prepare("cmu_mosi", tmp_path / wanted[0].decode(), folder, "csd_aligned")
        assert [one["raw_text"] for one in builder.as_data_source("test")] == wanted
        (folder / "CMU_MOSI_TimestampedWords.csd").unlink(missing_ok=True)


def test_sequences_need_each_file_once(folder: Any, tmp_path: Any) -> None:
    write_csd(folder, [sorted(FOLDS["train"])[0]])
    with pytest.raises(DataError, match="must hold videos of the standard folds.*none of valid"):
        data.load("cmu_mosi", tmp_path / "out", folder, config="csd_aligned")
    (folder / "CMU_MOSI_COVAREP.csd").unlink()
    with pytest.raises(FileNotFoundError, match="one .csd file each of word vectors"):
        data.load("cmu_mosi", tmp_path / "out", folder, config="csd_aligned")


if __name__ == "__main__":
    tfds.testing.test_main()
