"""IEMOCAP from dummy data, as TFDS tests its own, and that it is what MMIN reads."""

from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data
from keras_m3s.data import mmin_conditions

from ..pickles import DataError
from ..testing import SIZES, write_iemocap
from .iemocap_dataset_builder import COLUMNS, Iemocap, IemocapConfig

pytestmark = pytest.mark.once

SMALL = {"audio": 4, "vision": 3, "text": 5}


class IemocapTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Iemocap
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = [
        IemocapConfig(name="small", fold=10, utterances=sum(SIZES.values())),
    ]


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    return tmp_path / "in"


def read(folder: Any, tmp_path: Any, columns: Any = SMALL) -> Any:
    """Splits of fold 1 with few columns."""
    config = IemocapConfig("small", columns=columns, utterances=sum(SIZES.values()))
    builder = Iemocap(data_dir=tmp_path / "out", config=config)
    data.loading._write(builder, str(folder))
    return {split: data.decoding.read_split(builder, split) for split in data.SPLITS}


def test_features_lengths_classes_and_scale(folder: Any, tmp_path: Any) -> None:
    made = write_iemocap(folder, SMALL)
    splits = read(folder, tmp_path)
    names = list(made["audio"])
    train = np.concatenate([made["audio"][name] for name in names[: SIZES["train"]]])
    mean, std = train.mean(axis=0), train.std(axis=0)
    assert [name for split in splits.values() for name in split.ids] == names
    for split in splits.values():
        assert split.labels.dtype == np.int32
        assert split.labels.tolist() == [row % 4 for row in range(len(split))]
        for row, name in enumerate(split.ids):
            for modality in SMALL:
                wanted = made[modality][name]
                if modality == "audio":
                    wanted = (wanted - mean) / std
                length = split.features[f"{modality}_length"][row]
                assert length == len(wanted)
                got = split.features[modality][row]
                np.testing.assert_allclose(got[:length], wanted, rtol=1e-4, atol=1e-5)
                assert not got[length:].any()
    shapes = {split.features["audio"].shape[1:] for split in splits.values()}
    assert shapes == {(max(map(len, made["audio"].values())), 4)}


def test_given_means_are_used_and_a_deviation_of_0_is_1(folder: Any, tmp_path: Any) -> None:
    made = write_iemocap(folder, SMALL)
    with h5py.File(folder / "A" / "comparE_mean_std.h5", "w") as file:
        file["1/mean"] = np.full(4, 2.0)
        file["1/std"] = np.array([1.0, 2.0, 0.0, 4.0])
    split = read(folder, tmp_path)["test"]
    wanted = (made["audio"][split.ids[0]] - 2) / np.array([1, 2, 1, 4])
    np.testing.assert_allclose(split.features["audio"][0, : len(wanted)], wanted, rtol=1e-5)


def test_another_number_of_utterances_is_a_warning(folder: Any, tmp_path: Any) -> None:
    write_iemocap(folder, COLUMNS)
    with pytest.warns(UserWarning, match="has 5531 utterances in four classes. Received: 9 in"):
        splits = data.load("iemocap", data_dir=tmp_path / "out", manual_dir=folder)
    assert [len(split) for split in splits.values()] == list(SIZES.values())
    assert len(Iemocap.builder_configs) == 10


def test_six_conditions_make_table_1(folder: Any, tmp_path: Any) -> None:
    write_iemocap(folder, SMALL)
    split = read(folder, tmp_path)["valid"]
    six = mmin_conditions.whole_modality(split)
    assert len(six) == 6 * len(split)
    for item, (name, there) in enumerate(list(mmin_conditions.CONDITIONS.items()) * len(split)):
        assert six.ids[item] == f"{split.ids[item // 6]}/{name}"
        assert six.labels[item] == split.labels[item // 6]
        assert six.features["missing_index"][item].tolist() == list(there)
        for column, modality in enumerate(("audio", "vision", "text")):
            wanted = split.features[modality][item // 6] * there[column]
            np.testing.assert_array_equal(six.features[modality][item], wanted)
    table_1 = mmin_conditions.counted({"train": 4446, "valid": 557, "test": 528})
    assert table_1 == {"train": 4446, "valid": 3342, "test": 3168}
    assert 4446 + 557 + 528 == 5531


def labels(folder: Any, split: Any, value: Any) -> Any:
    np.save(folder / "target" / "1" / f"{split}_label.npy", value)


def names(folder: Any, split: Any, value: Any) -> Any:
    path = folder / "target" / "1" / f"{split}_int2name.npy"
    np.save(path, value, allow_pickle=True)


def feature(folder: Any, value: Any, **options: Any) -> Any:
    with h5py.File(folder / "V" / "denseface.h5", "a") as file:
        del file["Ses01F_impro01_F002"]
        if value is not None:
            file.create_dataset("Ses01F_impro01_F002", data=value, **options)


def link(folder: Any) -> Any:
    with h5py.File(folder / "V" / "denseface.h5", "a") as file:
        del file["Ses01F_impro01_F002"]
        file["Ses01F_impro01_F002"] = h5py.ExternalLink("/etc/hostname", "/")


def one_array(folder: Any) -> None:
    """Under the names of all utterances: each is harmless, all together are not."""
    with h5py.File(folder / "V" / "denseface.h5", "a") as file:
        names = list(file)
        for name in names:
            del file[name]
        shape = (10**6, 3)
        file.create_dataset(names[0], data=np.zeros(shape, "f4"), compression="gzip", chunks=shape)
        for name in names[1:]:
            file[name] = file[names[0]]


BROKEN = {
    "one array under many names": (one_array, "V/denseface.h5 must unfold to at most 200 times"),
    "absent utterance": (lambda f: feature(f, None), "must be in the file. Received: nothing"),
    "other columns": (lambda f: feature(f, np.ones((3, 9))), r"\(steps, 3\). Received: \(3, 9\)"),
    "rank 1": (lambda f: feature(f, np.ones(3)), r"\(steps, 3\). Received: \(3,\)"),
    "NaN": (lambda f: feature(f, np.full((2, 3), np.nan)), "`vision` must be finite"),
    "strings": (lambda f: feature(f, np.full((2, 3), b"a")), "must be a numeric array"),
    "a link elsewhere": (link, "Received: ExternalLink"),
    "a bomb": (
        lambda f: feature(f, np.zeros((10**7, 3), "f4"), compression="gzip", chunks=(10**6, 3)),
        "must unfold to at most 200 times",
    ),
    "cut off": (
        lambda f: (f / "V" / "denseface.h5").write_bytes((f / "V" / "denseface.h5").read_bytes()[:900]),
        "must be a whole HDF5 file",
    ),
    "no HDF5": (lambda f: (f / "L" / "bert_large.h5").write_text("x"), "must be a whole HDF5 file"),
    "soft labels": (lambda f: labels(f, "trn", np.full((4, 4), 0.25)), "one-hot"),
    "three classes": (lambda f: labels(f, "val", np.eye(3)[:2]), r"\(2, 4\).*Received: \(2, 3\)"),
    "unequal labels": (lambda f: labels(f, "tst", np.eye(4)), r"\(3, 4\).*Received: \(4, 4\)"),
    "a pickle": (lambda f: names(f, "tst", np.array([["a"]] * 3, object)), "without objects"),
    "numbers as names": (lambda f: names(f, "tst", np.arange(3)), "one name a row"),
    "empty": (lambda f: names(f, "val", np.zeros((0, 1), "S3")), "at least one"),
    "a name twice": (lambda f: names(f, "val", np.array([[b"a"], [b"a"]])), "name each utterance"),
    "in two splits": (
        lambda f: names(f, "val", np.array([[b"Ses01F_impro01_F000"], [b"Ses01F_impro01_F004"]])),
        "splits must share no utterance",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_clear_error_and_nothing_is_written(
    name: Any, folder: Any, tmp_path: Any
) -> None:
    write_iemocap(folder, SMALL)
    change, match = BROKEN[name]
    change(folder)
    with pytest.raises(DataError, match=match):
        read(folder, tmp_path)
    assert not list((tmp_path / "out").rglob("*record*"))
    assert not list((tmp_path / "out").rglob("*incomplete*"))


def test_missing_files_are_named(folder: Any, tmp_path: Any) -> None:
    folder.mkdir()
    (folder / "A").mkdir()
    with pytest.raises(FileNotFoundError, match=r"target/1/trn_int2name.npy.*AIM3-RUC/MMIN"):
        data.load("iemocap", data_dir=tmp_path / "out", manual_dir=folder)
