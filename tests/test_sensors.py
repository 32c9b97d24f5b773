"""Own data of any modalities: arrays with splits, vectors beside sequences, NaN kept."""

import tracemalloc
import warnings

import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.data.streaming import load_streamed
from tfds_builders.limits import DataError
from tfds_builders.physionet2012 import records

pytestmark = pytest.mark.once

SIZES = {"train": 5, "valid": 3, "test": 4}


def content(seed=0):
    """Sequences of two sensors, one of them padded, a vector; NaN in all of them."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, rows in SIZES.items():
        one = {
            "watch": rng.normal(size=(rows, 6, 3)).astype("float16"),
            "phone": rng.normal(size=(rows, 4, 2)),
            "static": rng.integers(0, 99, (rows, 5)).astype("float32"),
            "label": np.arange(rows, dtype="int32") % 2,
            "id": np.array([f"{split}{row}" for row in range(rows)]),
        }
        one["watch"][0, 2] = one["static"][1, 0] = one["phone"][1, :, 1] = np.nan
        one["phone_length"] = rng.integers(1, 5, rows)
        made[split] = one
    return made


def save(path, made):
    np.savez(path, **{f"{s}/{key}": array for s, one in made.items() for key, array in one.items()})
    return path


def assert_alike(first, second):
    assert first.fingerprint() == second.fingerprint()
    assert first.modalities == second.modalities and first.task == second.task


def round_trip(source, tmp_path):
    """Loaded, prepared, streamed: all the same; returns what was loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splits = data.load(source)
        data.prepare_own("mine", source, tmp_path / "out")
    prepared = data.load("mine", data_dir=tmp_path / "out")
    streamed = load_streamed("mine", data_dir=tmp_path / "out")
    for name, split in splits.items():
        assert_alike(split, prepared[name])
        rows = np.arange(len(split))[::-1]
        taken, read = split.take(rows), streamed[name].take(rows)
        assert taken.keys() == read.keys()
        for key, array in taken.items():
            np.testing.assert_array_equal(array, read[key], strict=True)
        np.testing.assert_array_equal(streamed[name].labels, split.labels, strict=True)
        assert streamed[name].ids == split.ids and streamed[name].task == split.task
        assert streamed[name].modalities == split.modalities
    return splits


def test_arrays_come_back_with_their_holes(tmp_path):
    made = content()
    splits = round_trip(save(tmp_path / "a.npz", made), tmp_path)
    train = splits["train"]
    assert train.modalities == ("phone", "static", "watch") and train.task == "classification"
    assert list(train.features) == ["phone", "phone_length", "static", "watch", "index"]
    for split, one in made.items():
        features = splits[split].features
        np.testing.assert_array_equal(features["watch"], one["watch"].astype("float32"))
        np.testing.assert_array_equal(features["static"], one["static"])
        true = np.arange(4) < one["phone_length"][:, None]
        phone = np.where(true[..., None], one["phone"].astype("float32"), np.float32(0))
        np.testing.assert_array_equal(features["phone"], phone)
        assert splits[split].ids == one["id"].tolist()
        assert {array.dtype.name for array in features.values()} == {"float32", "int32"}


@pytest.mark.parametrize("name", ["har", "icu"])
def test_real_sensors_come_back(name, shared_dir, tmp_path):
    path = shared_dir / "data" / name / f"{name}.npz"
    splits = round_trip(path, tmp_path)
    stored = np.load(path)
    for split, one in splits.items():
        for modality in one.modalities:
            expected = stored[f"{split}/{modality}"].astype("float32")
            np.testing.assert_array_equal(one.features[modality], expected)
        np.testing.assert_array_equal(one.labels, stored[f"{split}/label"])


def test_the_builder_divides_the_stays_as_the_shared_data_is(shared_dir):
    stored = np.load(shared_dir / "data" / "icu" / "icu.npz")
    ids = {split: stored[f"{split}/id"].tolist() for split in data.SPLITS}
    everyone = sorted(name for names in ids.values() for name in names)
    assert records.divided(everyone, 0) == ids


@pytest.mark.parametrize(
    ("labels", "expected", "said"),
    [
        (np.array([3, 7, 3, 3]), [0, 1, 0, 0], "'3' is 0, '7' is 1"),
        (np.array(["walk", "sit", "sit", "walk"]), [1, 0, 0, 1], "'sit' is 0, 'walk' is 1"),
        (np.array([True, False, True, True]), [1, 0, 1, 1], None),
        (np.array([2, 0, 1, 0]), [2, 0, 1, 0], None),
    ],
)
def test_classes_are_numbered_and_said(labels, expected, said, tmp_path):
    made = content()
    for one in made.values():
        one["label"] = np.resize(labels, len(one["label"]))
    path = save(tmp_path / "a.npz", made)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = data.load(path)
    assert splits["test"].labels.tolist() == expected and splits["test"].labels.dtype == np.int32
    numbered = [str(one.message) for one in caught if "numbered" in str(one.message)]
    assert numbered == [] if said is None else said in numbered[0]


def test_scores_are_no_sentiment(tmp_path):
    made = content()
    for one in made.values():
        one["label"] = np.linspace(10.5, 90, len(one["label"]))
    splits = round_trip(save(tmp_path / "a.npz", made), tmp_path)
    assert {split.task for split in splits.values()} == {"regression"}
    assert splits["train"].labels.dtype == np.float32


def test_infinite_values_are_counted_and_become_holes(tmp_path):
    made = content()
    made["valid"]["watch"][1, 1, :2] = np.inf, -np.inf
    path = save(tmp_path / "a.npz", made)
    with pytest.warns(UserWarning, match="valid: 2 values of `watch` were infinite"):
        splits = data.load(path)
    assert np.isnan(splits["valid"].features["watch"][1, 1, :2]).all()


def test_ids_may_be_absent(tmp_path):
    made = content()
    for one in made.values():
        del one["id"]
    splits = round_trip(save(tmp_path / "a.npz", made), tmp_path)
    assert splits["valid"].ids == ["valid$_$0", "valid$_$1", "valid$_$2"]


def test_other_columns_are_left_unread_and_said(tmp_path):
    made = content()
    for one in made.values():
        one["subject"] = np.array(["s1"] * len(one["id"]))
    with pytest.warns(UserWarning, match="`subject` is no modality and not read"):
        splits = data.load(save(tmp_path / "a.npz", made))
    assert "subject" not in splits["train"].features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.pop("label"), "`label` must be there"),
        (lambda one: one.pop("watch"), "must hold the same modalities.*Missing: .'watch'"),
        (lambda one: one.update(label=np.ones(99, int)), "`label` must hold one number or name"),
        (lambda one: one.update(label=np.eye(5)), "One-hot classes are `array.argmax"),
        (lambda one: one.update(label=np.full(5, np.nan)), "`label` must be finite"),
        (lambda one: one.update(label=np.array(["", "a", "b", "a", "b"])), "must name a class"),
        (lambda one: one.update(watch=one["watch"][:2]), "the same number of examples"),
        (lambda one: one.update(watch=one["watch"][:, None]), "`watch` must be .N, steps, dim."),
        (lambda one: one.update(watch=one["watch"][:, :, :1]), "`watch` must have one shape"),
        (lambda one: one.update(id=np.array(["a"] * 5)), "ids must be unique"),
        (lambda one: one.update(id=np.array(["a"])), "`id` must name each of 5 examples"),
        (lambda one: one.update(phone_length=np.full(5, 9)), "`phone_length` must lie in 0..4"),
        (lambda one: one.update(static_length=np.full(5, 1)), "must belong to sequences"),
        (lambda one: one.update({"two words": one["watch"]}), "name must be of letters"),
        (lambda one: one.update(draws=one["watch"]), "name must be .*Received: .draws"),
    ],
)
def test_what_cannot_be(change, message, tmp_path):
    made = content()
    change(made["train"])
    path = save(tmp_path / "a.npz", made)
    with pytest.raises(DataError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data.load(path)


def test_a_split_must_be_there(tmp_path):
    made = content()
    del made["valid"]
    with pytest.raises(DataError, match="must have the splits.*Missing: .'valid'"):
        data.load(save(tmp_path / "a.npz", made))


def without_labels(one):
    return {key: array for key, array in one.items() if key != "label"}


@pytest.mark.parametrize(
    ("splits", "speech", "missing"),
    [
        (("train", "valid", "test"), False, "`label` must be in each split"),
        (("test",), False, "must have the splits"),
        (("train", "valid", "test"), True, "`regression_labels` or `classification_labels` must be in each"),
        (("test",), True, "must be a dict with the splits"),
    ],
)  # fmt: skip
def test_splits_without_labels_say_what_to_do(splits, speech, missing, tmp_path):
    """Once for the file: what must be there, that it is not, and what reads it as it is."""
    made = {split: one for split, one in content().items() if split in splits}
    if speech:
        made = {
            s: {"text": o["phone"], "audio": o["watch"], "id": o["id"]} for s, o in made.items()
        }
    path = save(tmp_path / "a.npz", {split: without_labels(one) for split, one in made.items()})
    (problem,) = data.inspect(path).problems
    assert missing in problem and "Received: " in problem
    assert "to predict from it, `keras-m3s predict RUN" in problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert len(data.unlabelled(path)) == sum(SIZES[split] for split in splits)


def save_folder(folder, made):
    """`SPLIT/NAME.npy`, or `NAME.npy` of content without splits."""
    folder.mkdir(exist_ok=True)
    for name, value in made.items():
        if isinstance(value, dict):
            save_folder(folder / name, value)
        else:
            np.save(folder / f"{name}.npy", value)
    return folder


def test_a_folder_of_arrays_is_in_memory_once(tmp_path):
    """Files are mapped, not read: what is allocated is the float32 that a split holds."""
    rng, bytes_of_files = np.random.default_rng(0), 0
    for split in SIZES:
        (tmp_path / split).mkdir()
        watch = rng.normal(size=(200, 100, 10))
        np.save(tmp_path / split / "watch.npy", watch)
        np.save(tmp_path / split / "label.npy", np.arange(200) % 2)
        bytes_of_files += watch.nbytes
    data.load(tmp_path)  # imports
    tracemalloc.start()
    splits = data.load(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.75 * bytes_of_files
    watch = splits["train"].features["watch"]
    assert type(watch) is np.ndarray and watch.flags.writeable
    np.testing.assert_allclose(watch, np.load(tmp_path / "train" / "watch.npy"), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("names", [("watch", "phone"), ("audio", "text")])
def test_what_is_loaded_from_a_folder_is_no_part_of_its_files(dtype, names, tmp_path):
    for split, rows in SIZES.items():
        (tmp_path / split).mkdir()
        for name in names:
            np.save(tmp_path / split / f"{name}.npy", np.ones((rows, 6, 3), dtype))
        if "text" in names:
            np.save(tmp_path / split / "text_bert.npy", np.ones((rows, 3, 4), "int32"))
        key = "label" if "watch" in names else "regression_labels"
        np.save(tmp_path / split / f"{key}.npy", np.arange(rows).astype("float32"))
        np.save(tmp_path / split / "id.npy", np.array([f"{split}{row}" for row in range(rows)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splits = data.load(tmp_path)
    for split in splits.values():
        for array in (*split.features.values(), split.labels):
            assert type(array) is np.ndarray and array.flags.writeable
            assert not isinstance(array.base, np.memmap)


def test_a_folder_of_arrays_is_read_as_the_file(tmp_path):
    made = content()
    folder = save_folder(tmp_path / "in", made)
    data.prepare_own("mine", folder, tmp_path / "out")
    splits = data.load("mine", data_dir=tmp_path / "out")
    for split, one in data.load(save(tmp_path / "a.npz", made)).items():
        assert_alike(one, splits[split])


@pytest.mark.parametrize(
    "layout", [save_folder, lambda path, made: save(path.with_suffix(".npz"), made)]
)
def test_features_to_predict(layout, tmp_path):
    made = {split: without_labels(one) for split, one in content().items()}
    clips = data.unlabelled(layout(tmp_path / "a", made), "test")
    expected = data.load(save(tmp_path / "b.npz", content()))["test"]
    assert clips.ids == expected.ids and set(clips.features) == {"phone", "static", "watch"}
    for name in clips.features:
        for row in range(len(clips)):
            np.testing.assert_array_equal(clips.sequence(name, row), expected.features[name][row])
    np.testing.assert_array_equal(clips.lengths["phone"], expected.features["phone_length"])
    assert len(data.unlabelled(layout(tmp_path / "a", made))) == sum(SIZES.values())


def test_features_to_predict_without_splits(tmp_path):
    one = content()["test"]
    del one["phone"], one["phone_length"], one["id"]
    clips = data.unlabelled(save_folder(tmp_path / "in", one))
    assert clips.ids == ["0", "1", "2", "3"] and set(clips.features) == {"static", "watch"}
    path = tmp_path / "a.npz"
    np.savez(path, **one)
    found = data.inspect(path)
    assert found.commands == [f"keras-m3s predict RUN {path}"] and not found.problems


def test_one_example_to_predict(tmp_path):
    path = tmp_path / "walk.npz"
    np.savez(path, watch=np.ones((6, 3)), phone=np.ones((4, 2)), static=np.ones(5))
    clips = data.unlabelled(path)
    assert clips.ids == ["walk"]
    assert {name: array.shape for name, array in clips.features.items()} == {
        "phone": (1, 4, 2), "static": (1, 5), "watch": (1, 6, 3)
    }  # fmt: skip


def test_speech_beside_other_modalities_to_predict(tmp_path):
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    tokens = np.stack([np.full((4, 6), 101), np.ones((4, 6)), np.zeros((4, 6))], axis=1)
    sent = {
        "audio": rng.normal(size=(4, 6, 3)),
        "text_bert": tokens,
        "pulse": rng.normal(size=(4, 9, 1)),
    }
    np.savez(path, **sent, word_times=np.ones((99, 2)))
    clips = data.unlabelled(path)
    assert list(clips.features) == ["audio", "text_bert", "pulse"]
    np.testing.assert_array_equal(clips.sequence("pulse", 2), sent["pulse"][2].astype("float32"))
