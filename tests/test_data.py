"""Data sets by name and by file, the schema's errors, and batches."""

import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import tracemalloc
import warnings

import keras
import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.data.batches import Batches, as_tf_dataset
from keras_m3s.data.callbacks import SetEpoch
from tfds_builders import mmsa, testing
from tfds_builders.cmu_mosi.cmu_mosi_dataset_builder import CmuMosi, MosiConfig
from tfds_builders.cmu_mosi.folds import FOLDS
from tfds_builders.pickles import DataError

once = pytest.mark.once


# --- Files in MMSA's schema ---------------------------------------------------------------------


@pytest.fixture
def content():
    return testing.mmsa_content()


@once
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_file_comes_back(dtype, tmp_path):
    content = testing.mmsa_content(dtype=dtype)
    splits = data.load(testing.write(tmp_path / "a.pkl", content))
    assert list(splits) == ["train", "valid", "test"]
    for name, split in splits.items():
        raw = content[name]
        assert len(split) == testing.SIZES[name] and split.name == name
        assert split.ids == list(raw["id"])
        for key in ("audio", "vision", "text", "text_bert"):
            np.testing.assert_array_equal(split.features[key], raw[key].astype("float32"))
            assert split.features[key].dtype == ("int32" if key == "text_bert" else "float32")
        for key in ("audio", "vision"):
            np.testing.assert_array_equal(split.features[f"{key}_length"], raw[f"{key}_lengths"])
        np.testing.assert_array_equal(split.features["text_length"], raw["text_bert"][:, 1].sum(1))
        np.testing.assert_array_equal(split.features["index"], np.arange(len(split)))
        np.testing.assert_array_equal(split.labels, raw["regression_labels"])
        assert split.labels.dtype == np.float32


@once
def test_lengths_where_the_file_has_none(content, tmp_path):
    for split in content.values():
        del split["audio_lengths"], split["vision_lengths"]
        split["vision"] = split["vision"][:, :6]  # as many steps as text: aligned with it
    content["test"]["audio"][0] = 0
    features = data.load(testing.write(tmp_path / "a.pkl", content))["test"].features
    np.testing.assert_array_equal(features["vision_length"], features["text_length"])
    raw = content["test"]["audio"]
    for row, length in enumerate(features["audio_length"]):
        assert not raw[row, length:].any()
        assert length == 0 or raw[row, length - 1].any()
    assert features["audio_length"][0] == 0


@once
def test_without_tokens_text_ends_at_its_last_step(content, tmp_path):
    lengths = {name: split.pop("text_bert")[:, 1].sum(1) for name, split in content.items()}
    for name, split in data.load(testing.write(tmp_path / "a.pkl", content)).items():
        assert "text_bert" not in split.features
        np.testing.assert_array_equal(split.features["text_length"], lengths[name])


@once
def test_class_labels_stay_integers(content, tmp_path):
    for split in content.values():
        split["classification_labels"] = np.arange(len(split["id"]), dtype="float32")
        del split["regression_labels"]
    labels = data.load(testing.write(tmp_path / "a.pkl", content))["train"].labels
    assert labels.dtype == np.int32 and labels.tolist() == [0, 1, 2, 3]


@once
def test_minus_infinity_in_audio_is_counted_and_becomes_0(content, tmp_path):
    content["train"]["audio"][1, :2, 0] = -np.inf
    path = testing.write(tmp_path / "a.pkl", content)
    with pytest.warns(UserWarning, match=r"a\.pkl, train: 2 values of `audio` were -inf"):
        audio = data.load(path)["train"].features["audio"]
    expected = content["train"]["audio"].copy()
    expected[1, :2, 0] = 0
    np.testing.assert_array_equal(audio, expected)


@once
def test_a_video_in_two_splits_is_a_warning(content, tmp_path):
    content["test"]["id"][2] = "train1$_$9"
    with pytest.warns(UserWarning, match="share no video.*1 in both train and test, 'train1'"):
        data.load(testing.write(tmp_path / "a.pkl", content))


def put(split, key, value):
    return lambda content: content[split].__setitem__(key, value)


def at(split, key, index, value):
    return lambda content: content[split][key].__setitem__(index, value)


def cut(split, key):
    return lambda content: content[split].__setitem__(key, content[split][key][:-1])


BROKEN = {
    "no split": (lambda c: c.pop("valid"), r"with the splits \('train', 'valid', 'test'\)"),
    "a split that is no dict": (lambda c: c.update(valid=[1, 2]), "valid: .*dict.*list of 2"),
    "no text": (lambda c: c["test"].pop("text"), r"test: keys .* Missing: \['text'\]"),
    "no id": (lambda c: c["test"].pop("id"), r"Missing: \['id'\]"),
    "no labels": (lambda c: c["valid"].pop("regression_labels"), "`regression_labels` or"),
    "empty split": (
        lambda c: c["valid"].update({k: v[:0] for k, v in c["valid"].items()}),
        "valid: a split must hold at least one segment",
    ),
    "unequal audio": (cut("train", "audio"), "4 in `id`, 3 in `audio`"),
    "unequal labels": (cut("train", "regression_labels"), "3 in `regression_labels`"),
    "unequal lengths": (cut("test", "vision_lengths"), "2 in `vision_lengths`"),
    "unequal text": (cut("test", "raw_text"), "2 in `raw_text`"),
    "rank 2": (
        put("test", "audio", np.zeros((3, 5))),
        r"one numeric array \(N, steps, dim\).*3, 5",
    ),
    "rank 4": (put("test", "text", np.zeros((3, 5, 2, 2))), r"Received: array \(3, 5, 2, 2\)"),
    "rank 0": (put("test", "text", np.array(1.0)), "one numeric array"),
    "no steps": (put("test", "vision", np.zeros((3, 0, 2))), "steps and dim >= 1"),
    "a list": (put("test", "audio", [np.zeros((4, 2))] * 3), "Received: list of 3.*stack"),
    "strings for numbers": (put("test", "audio", np.full((3, 4, 2), "1")), "numeric array"),
    "object array": (
        put("test", "audio", np.array([None] * 3, object)),
        "object array .3,. of NoneType, the first None",
    ),
    "other dims": (put("test", "audio", np.ones((3, 9, 4))), "`audio` must have one shape in all"),
    "tokens in one split": (
        lambda c: c["test"].pop("text_bert"),
        "`text_bert` must have one shape",
    ),
    "NaN": (
        at("train", "text", (2, 1, 3), np.nan),
        r"1 values.*'train1\$_\$2', position \(2, 1, 3\)",
    ),
    "inf": (at("train", "audio", (0, 0, 0), np.inf), "`audio` must be finite"),
    "-inf in text": (at("valid", "text", (0, 0, 0), -np.inf), "`text` must be finite"),
    "NaN label": (at("test", "regression_labels", 1, np.nan), "`regression_labels` must be finite"),
    "too large": (put("test", "audio", np.full((3, 9, 3), 1e300)), "`audio` must be finite"),
    "length beyond": (at("test", "audio_lengths", 1, 10), r"in 0\.\.9.*the first 10 in .*test0"),
    "negative length": (at("test", "vision_lengths", 2, -1), r"in 0\.\.7.*the first -1"),
    "half a length": (at("test", "audio_lengths", 0, 1.5), "must hold whole numbers"),
    "length no number": (at("test", "audio_lengths", 0, "3"), "one number a segment"),
    "labels of two columns": (put("test", "regression_labels", np.ones((3, 2))), "one number a"),
    "tokens of rank 2": (put("test", "text_bert", np.ones((3, 6))), r"array \(N, 3, steps\)"),
    "two rows of tokens": (put("test", "text_bert", np.ones((3, 2, 6))), "must be .N, 3, steps."),
    "a mask of 2": (put("test", "text_bert", np.full((3, 3, 6), 2)), "mask of 0 and 1"),
    "ids of numbers": (put("test", "id", np.arange(3)), "`id` must list strings"),
    "an id twice": (put("test", "id", ["a", "b", "a"]), "ids must be unique. Received: 'a' twice"),
    "ids that are no UTF-8": (
        put("test", "id", [b"a", b"b", b"\xff"]),
        "`id` must be text in UTF-8",
    ),
    "half a character": (
        put("test", "raw_text", ["a", "b", "\ud800"]),
        "`raw_text` must be text in UTF-8",
    ),
    "id no list": (put("test", "id", "abc"), "`id` must list strings"),
}


@once
@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_one_clear_error_and_nothing_is_written(name, content, tmp_path):
    change, match = BROKEN[name]
    change(content)
    path = testing.write(tmp_path / "in.pkl", content)
    with pytest.raises(DataError, match=match) as error:
        data.load(path)
    assert "/in.pkl" in str(error.value) and "Received: " in str(error.value)
    if name in ("NaN", "rank 2", "no split"):
        with pytest.raises(DataError, match=match):
            data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)
        assert_nothing_written(tmp_path / "out")


def assert_nothing_written(folder):
    """TFDS notes the name of the default config; no data, whole or half, may lie there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= {".config"}
    assert not list(folder.rglob("*incomplete*"))


# --- Data sets by name --------------------------------------------------------------------------


@once
def test_unknown_name_and_config(tmp_path):
    with pytest.raises(ValueError, match=r"'cmu_mosi', .*'synthetic_msa'\].*Received: 'mosi'"):
        data.load("mosi", data_dir=tmp_path)
    with pytest.raises(ValueError, match="`config` of synthetic_msa must be one of .*'huge'"):
        data.load("synthetic_msa", data_dir=tmp_path, config="huge")
    with pytest.raises(FileNotFoundError, match=r"Received: .*nothing\.pkl"):
        data.load(tmp_path / "nothing.pkl")
    with pytest.raises(ValueError, match="`config` must be left out for a file"):
        data.load(tmp_path / "nothing.pkl", config="aligned_50")


@once
@pytest.mark.parametrize("config", ["from_file", "unaligned_50", "aligned_50"])
def test_missing_file_says_where_to_put_it(config, tmp_path):
    (tmp_path / "in").mkdir()
    for folder in (None, tmp_path / "in", tmp_path / "no_such_folder"):
        with pytest.raises(FileNotFoundError, match=r"unaligned_50\.pkl") as error:
            data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=folder, config=config)
        assert str(folder or tmp_path / "out" / "downloads" / "manual") in str(error.value)
    (tmp_path / "in" / "else.pkl").touch()
    (tmp_path / "in" / "more.pkl").touch()
    with pytest.raises(FileNotFoundError, match=r"Received: \['else.pkl', 'more.pkl'\]"):
        data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path / "in", config=config)
    assert_nothing_written(tmp_path / "out")


@once
def test_prepared_file_comes_back_equal_without_network(content, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("network touched")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    path = testing.write(tmp_path / "a.pkl", content)
    for _ in range(2):  # made, then found
        splits = data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)
        assert_same_splits(splits, data.load(path))
    path.unlink()
    assert_same_splits(data.load("cmu_mosi", data_dir=tmp_path / "out"), splits)


@once
def test_read_where_there_is_no_array_record(content, tmp_path, monkeypatch):
    monkeypatch.setattr(data.loading, "_file_format", lambda: "tfrecord")
    path = testing.write(tmp_path / "a.pkl", content)
    splits = data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)
    assert list((tmp_path / "out").rglob("*.tfrecord*"))
    assert_same_splits(splits, data.load(path))


def assert_same_splits(splits, others):
    assert splits.keys() == others.keys()
    for name, split in splits.items():
        other = others[name]
        assert split.ids == other.ids
        assert split.features.keys() == other.features.keys()
        for key, array in split.features.items():
            np.testing.assert_array_equal(array, other.features[key])
            assert array.dtype == other.features[key].dtype, key
        np.testing.assert_array_equal(split.labels, other.labels)
        assert split.labels.dtype == other.labels.dtype
        assert split.fingerprint() == other.fingerprint()


@once
def test_fingerprint_sees_every_value(content, tmp_path):
    path = testing.write(tmp_path / "a.pkl", content)
    first = data.load(path)["test"].fingerprint()
    split = data.load(path)["test"]
    split.features["vision"][1, 2, 0] += 1
    assert split.fingerprint() != first


@once
def test_another_file_in_the_same_place_is_noticed(tmp_path):
    testing.write(tmp_path / "a.pkl", testing.mmsa_content(seed=0))
    data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)
    testing.write(tmp_path / "a.pkl", testing.mmsa_content(seed=1))
    with pytest.raises(ValueError, match="was made from another a.pkl.*Remove that folder"):
        data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)


@once
def test_failure_while_writing_leaves_nothing(content, tmp_path, monkeypatch):
    testing.write(tmp_path / "a.pkl", content)
    module = sys.modules[CmuMosi.__mro__[1].__module__]  # FeatureFileBuilder's
    real = module.examples

    def breaks_off(segments):
        yield next(real(segments))
        raise RuntimeError("no more")

    monkeypatch.setattr(module, "examples", breaks_off)
    with pytest.raises(RuntimeError, match="no more"):
        data.load("cmu_mosi", data_dir=tmp_path / "out", manual_dir=tmp_path)
    assert_nothing_written(tmp_path / "out")


def renamed(folder):
    """As left by a process that was killed after the last file, before the data set got its name."""
    (folder / "1.0.0").rename(folder / "incomplete.ABCDEF_1.0.0")


def half_written(folder):
    renamed(folder)
    (folder / "incomplete.ABCDEF_1.0.0" / "dataset_info.json").unlink()


def emptied(folder):
    shutil.rmtree(folder / "1.0.0")
    (folder / "1.0.0").mkdir()


def nothing_in_it(folder):
    shutil.rmtree(folder / "1.0.0")


@once
@pytest.mark.parametrize("interrupted", [renamed, half_written, emptied, nothing_in_it])
def test_own_data_can_be_prepared_after_an_interruption(interrupted, content, tmp_path):
    path = testing.write(tmp_path / "a.pkl", content)
    data.prepare_own("mine", path, tmp_path / "out")
    interrupted(tmp_path / "out" / "mine")
    with pytest.raises(ValueError, match="`name` must be one of the data sets"):
        data.load("mine", tmp_path / "out")
    data.prepare_own("mine", path, tmp_path / "out")
    assert_same_splits(data.load("mine", tmp_path / "out"), data.load(path))


KILLED = """
import os, signal, sys
from keras_m3s import data
from tfds_builders import own_data

def killed(segments, **options):
    yield next(examples(segments, **options))
    os.kill(os.getpid(), signal.SIGKILL)

examples, own_data.examples = own_data.examples, killed
data.prepare_own("mine", sys.argv[1], sys.argv[2])
"""


@once
def test_own_data_can_be_prepared_after_a_kill(content, tmp_path):
    path = testing.write(tmp_path / "a.pkl", content)
    done = subprocess.run([sys.executable, "-c", KILLED, path, tmp_path / "out"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "out" / "mine").glob("incomplete.*"))
    data.prepare_own("mine", path, tmp_path / "out")
    assert_same_splits(data.load("mine", tmp_path / "out"), data.load(path))


@once
@pytest.mark.parametrize("name", ["mine", "cmu_mosi"])
def test_a_data_set_that_lacks_files_is_named(name, content, tmp_path):
    path = testing.write(tmp_path / "a.pkl", content)

    def prepare():
        if name == "mine":
            return data.prepare_own(name, path, tmp_path / "out")
        return data.prepare(name, tmp_path / "out", tmp_path)

    folder = pathlib.Path(prepare().data_dir)
    (folder / "dataset_info.json").unlink()
    with pytest.raises(ValueError, match=f"{folder} must hold a complete data set.*Remove"):
        prepare()
    shutil.rmtree(folder)
    folder.mkdir()
    assert prepare().info.splits["test"].num_examples == 3


@once
def test_data_of_others_does_not_lend_its_name(content, tmp_path):
    """Such as another data set of TFDS in its usual folder."""
    path = testing.write(tmp_path / "a.pkl", content)
    folder = pathlib.Path(data.prepare_own("mine", path, tmp_path / "out").data_dir)
    (folder / "metadata.json").unlink()
    with pytest.raises(ValueError, match="must be a new name.*was made from another source"):
        data.prepare_own("mine", path, tmp_path / "out")


@once
def test_fixed_config_checks_shapes_sizes_and_hash(content, tmp_path):
    testing.write(tmp_path / "unaligned_50.pkl", content)
    with (
        pytest.warns(UserWarning, match="SHA-256 78e0f8b5"),
        pytest.raises(DataError, match=r"`text` of shape \(N, 50, 768\).*from_file"),
    ):
        data.load("cmu_mosi", tmp_path / "out", tmp_path, config="unaligned_50")
    assert_nothing_written(tmp_path / "out")

    config = MosiConfig("small", file="unaligned_50.pkl", shapes=testing.SHAPES, sha256="0" * 64,
                        sizes={"train": 1284, "valid": 229, "test": 686})  # fmt: skip
    builder = CmuMosi(data_dir=tmp_path / "out", config=config)
    with (
        pytest.warns(UserWarning, match="with SHA-256 0000.*It is read as it is"),
        pytest.warns(UserWarning, match="Received: {'train': 4, 'valid': 2, 'test': 3}"),
    ):
        data.loading._write(builder, str(tmp_path))
    assert builder.info.splits["test"].num_examples == 3

    for split in content.values():
        del split["text_bert"]
    testing.write(tmp_path / "unaligned_50.pkl", content)
    with (
        pytest.warns(UserWarning, match="with SHA-256 0000"),
        pytest.raises(DataError, match=r"`text_bert` of shape \(N, 3, 6\)"),
    ):
        data.loading._write(CmuMosi(data_dir=tmp_path / "more", config=config), str(tmp_path))


@once
def test_table_1_sizes():
    sizes = CmuMosi.builder_configs["unaligned_50"].sizes
    assert list(sizes.values()) == [1284, 229, 686]


@once
def test_real_mosi_comes_back_equal_to_the_file(mosi_dir, tmp_path):
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("numpy 1 cannot read what numpy 2 pickled, as our reader can")
    with (mosi_dir / "unaligned_50.pkl").open("rb") as file:
        content = pickle.load(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        splits = data.load("cmu_mosi", data_dir=tmp_path, manual_dir=mosi_dir)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 1284,
        "valid": 229,
        "test": 686,
    }
    for name, split in splits.items():
        raw = content[name]
        assert split.ids == raw["id"].tolist()
        assert {segment.partition("$_$")[0] for segment in split.ids} == FOLDS[name]
        for key in ("audio", "vision", "text", "text_bert"):
            np.testing.assert_array_equal(split.features[key], raw[key])
        for key in ("audio", "vision"):
            np.testing.assert_array_equal(split.features[f"{key}_length"], raw[f"{key}_lengths"])
        np.testing.assert_array_equal(split.labels, raw["regression_labels"])
    assert_same_splits(splits, data.load(mosi_dir / "unaligned_50.pkl"))


@once
def test_loading_takes_at_most_twice_the_arrays(tmp_path):
    """Peak of what Python and numpy allocate; a quarter of MOSI's rows at its full width."""
    shapes = {"text": (50, 192), "audio": (375, 5), "vision": (500, 20)}
    content = testing.mmsa_content(shapes, {"train": 200, "valid": 20, "test": 20})
    path = testing.write(tmp_path / "a.pkl", content)
    del content
    for arguments in ({"name": path}, {"name": "cmu_mosi"}):
        where = {"data_dir": tmp_path / "out", "manual_dir": tmp_path}
        data.prepare("cmu_mosi", **where)
        tracemalloc.start()
        splits = data.load(**arguments, **where)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = sum(array.nbytes for split in splits.values() for array in split.features.values())
        assert peak < 2 * size


# --- Batches --------------------------------------------------------------------------------------


def split_of(size: int) -> data.Split:
    rows = np.arange(size)
    features = {
        "audio": np.broadcast_to(rows[:, None, None], (size, 2, 3)).astype("float32"),
        "index": rows.astype("int32"),
    }
    return data.Split("train", features, rows.astype("float32") / 10, [str(row) for row in rows])


def rows_of(batches):
    return [x["index"].tolist() for x, _ in batches]


def order_of(batches):
    return [row for rows in rows_of(batches) for row in rows]


@once
@pytest.mark.parametrize("size, steps", [(1, 1), (4, 1), (9, 3), (8, 2)])
def test_in_order(size, steps):
    split = split_of(size)
    batches = Batches(split, 4)
    assert len(batches) == steps
    assert order_of(batches) == list(range(size))
    x, y = batches[steps - 1]
    np.testing.assert_array_equal(y[:, 0], split.labels[x["index"]])
    np.testing.assert_array_equal(x["audio"][:, 1, 2], x["index"])
    assert y.dtype == np.float32 and y.shape == (len(x["index"]), 1)
    with pytest.raises(IndexError):
        batches[steps]


@once
def test_class_labels_have_no_second_axis():
    split = split_of(5)
    split = data.Split("train", split.features, np.arange(5, dtype="int32"), split.ids)
    y = Batches(split, 4)[0][1]
    assert y.shape == (4,) and y.dtype == np.int32


@once
def test_shuffled_order_is_that_of_seed_and_epoch():
    batches = Batches(split_of(20), 6, shuffle=True, seed=3)
    orders = []
    for epoch in range(3):
        order = order_of(batches)
        assert order == np.random.default_rng((3, epoch)).permutation(20).tolist()
        orders.append(order)
        batches.on_epoch_end()
    assert len({tuple(order) for order in orders}) == 3
    resumed = Batches(split_of(20), 6, shuffle=True, seed=3, epoch=2)
    assert order_of(resumed) == orders[2]
    batches.epoch = 1
    assert order_of(batches) == orders[1]
    assert order_of(Batches(split_of(20), 6, shuffle=True, seed=4)) != orders[0]


@once
@pytest.mark.parametrize("size, batch_size", [(20, 6), (12, 6), (5, 8), (1, 1)])
def test_double_batches(size, batch_size):
    batches = Batches(split_of(size), batch_size, shuffle=True, double=True)
    for _ in range(2):
        rows = rows_of(batches)
        assert len(rows) == len(batches) == -(-size // batch_size)
        assert all(len(one) == 2 * batch_size for one in rows[:-1])
        support = [row for one in rows for row in one[0::2]]
        query = [row for one in rows for row in one[1::2]]
        assert sorted(support) == sorted(query) == list(range(size))
        assert support != query or size == 1
        batches.on_epoch_end()
    assert batches.epoch == 2


@once
def test_draws_go_with_their_rows():
    draws = np.random.default_rng(0).random((9, 1, 2))
    for double in (False, True):
        for x, _ in Batches(split_of(9), 4, shuffle=True, double=double, draws=draws):
            np.testing.assert_array_equal(x["draws"], draws[x["index"]].astype("float32"))
            assert x["draws"].dtype == np.float32


@once
def test_drop_remainder():
    batches = Batches(split_of(9), 4, drop_remainder=True)
    assert rows_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@once
@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"batch_size": 0}, "`batch_size` must be an int >= 1. Received: 0"),
        ({"batch_size": 2.0}, "Received: 2.0"),
        ({"batch_size": 2, "double": True}, "`double=True` must go with `shuffle=True`"),
        ({"batch_size": 2, "draws": np.zeros((3, 3, 2))}, r"shape \(9, 1, 2\).*\(3, 3, 2\)"),
        ({"batch_size": 10, "drop_remainder": True}, "at most 9.*Received: 10"),
    ],
)
def test_batches_refuse(arguments, match):
    with pytest.raises(ValueError, match=match):
        Batches(split_of(9), **arguments)


class Recorder(keras.Model):
    """Learns nothing; its callback reads from the metric which rows a step saw."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.seen = self.add_weight(shape=(12,), initializer="zeros", trainable=False)

    def call(self, inputs):
        index = keras.ops.cast(inputs["index"], "float32")
        size = 12 - keras.ops.shape(index)[0]
        self.seen.assign(keras.ops.pad(index + 1, [[0, size]]))
        return self.scale * inputs["audio"][:, :1, 0]


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        values = keras.ops.convert_to_numpy(self.model.seen).astype(int)
        self.rows.append([int(value) - 1 for value in values if value])


def fitted(batches, *callbacks, **arguments):
    model, seen = Recorder(), Seen()
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    model.fit(batches, shuffle=False, verbose=0, callbacks=[seen, *callbacks], **arguments)
    return seen.rows


@pytest.mark.parametrize("size", [9, 4])  # three steps an epoch, and one
@pytest.mark.parametrize("follow", [True, False])
def test_fit_sees_epoch_after_epoch(size, follow):
    """Also where Keras looks at a batch to build the model before the first epoch."""
    expected = []
    for epoch in range(3):
        expected += rows_of(Batches(split_of(size), 4, shuffle=True, double=True, epoch=epoch))
    batches = Batches(split_of(size), 4, shuffle=True, double=True)
    seen = fitted(batches, *([SetEpoch(batches)] if follow else []), epochs=3)
    if follow or len(batches) > 1:
        assert seen == expected
    batches = Batches(split_of(size), 4, shuffle=True, double=True)
    steps = len(batches)
    resumed = fitted(batches, SetEpoch(batches), initial_epoch=2, epochs=3)
    assert resumed == expected[2 * steps :]


def test_tf_data_gives_the_same_batches():
    batches = Batches(split_of(9), 4, shuffle=True, seed=1, draws=np.zeros((9, 1, 2), "float32"))
    dataset = as_tf_dataset(Batches(split_of(9), 4, shuffle=True, seed=1, draws=batches.draws))
    assert int(dataset.cardinality()) == 3
    for _ in range(2):
        for (x, y), (other_x, other_y) in zip(dataset.as_numpy_iterator(), batches, strict=True):
            assert x.keys() == other_x.keys()
            for key in x:
                np.testing.assert_array_equal(x[key], other_x[key])
                assert x[key].dtype == other_x[key].dtype
            np.testing.assert_array_equal(y, other_y)
        batches.on_epoch_end()


@once
def test_synthetic_by_name_in_its_tiny_form(tmp_path):
    splits = data.load("synthetic_msa", data_dir=tmp_path, config="tiny")
    assert [len(split) for split in splits.values()] == [24, 8, 9]
    assert splits["train"].features["text"].shape == (24, 8, 6)
    assert set(mmsa.MODALITIES) <= splits["test"].features.keys()
    assert np.abs(splits["train"].labels).max() <= 3
