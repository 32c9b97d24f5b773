"""SP-SW-HAR from dummy data, as TFDS tests its own; its windows against hand work."""

import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data

from ..limits import DataError
from ..testing import write_sp_sw_har
from .sp_sw_har_dataset_builder import SUBJECTS, SpSwHar, SpSwHarConfig

pytestmark = pytest.mark.once

HEADER = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"


class SpSwHarTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = SpSwHar
    SPLITS = {"train": 2, "valid": 2, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST = ["windows", SpSwHarConfig(name="small")]


def record(folder: Any, name: str, device: str, times: Any, values: Any, labels: Any) -> None:
    """Samples whose x_acc are `values`, y_acc twice as much, and so on."""
    place = folder / "DATA" / name[:3]
    place.mkdir(parents=True, exist_ok=True)
    lines = [
        ",".join([*(str(axis * value) for axis in range(1, 7)), str(time), label])
        for time, value, label in zip(times, values, labels, strict=True)
    ]
    (place / f"{name}_{device}.csv").write_text("\n".join([HEADER, *lines]))


def load(folder: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.load("sp_sw_har", folder / "out", folder)


def test_one_clock_windows_and_the_class_of_most(tmp_path: Any) -> None:
    write_sp_sw_har(tmp_path)
    times = np.arange(0, 4001, 40)
    labels = np.where(times < 1900, "TURNING", "SITTING_DOWN")
    record(tmp_path, "s01_01", "sp", 5000 + times, times / 1000, labels)
    # The watch starts later and ends earlier: its clock is the one.
    record(tmp_path, "s01_01", "sw", 5410 + times[:80], times[:80] / 100, labels[:80])
    train = load(tmp_path)["train"]
    assert train.ids == ["s01_01$_$0", "s01_01$_$1"] and train.task == "classification"
    assert train.modalities == ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
    clock = 0.41 + 0.02 * np.arange(150)
    for row in range(2):
        ticks = clock[50 * row : 50 * row + 100]
        phone = train.features["phone_gyro"][row]
        np.testing.assert_allclose(phone, ticks[:, None] * [4, 5, 6], rtol=1e-5)
        watch = train.features["watch_acc"][row]
        np.testing.assert_allclose(watch, (ticks[:, None] - 0.41) * [10, 20, 30], atol=1e-5)
    # Ticks from 0.41 to 2.39: until 1.88 they turn, which is most; from 1.41 on they sit down.
    assert train.labels.tolist() == [3, 4]


def test_of_two_classes_with_as_many_ticks_the_earlier_counts(tmp_path: Any) -> None:
    write_sp_sw_har(tmp_path)
    times = np.arange(0, 2001, 20)
    labels = np.where(times < 1000, "WALKING", "STANDING_UP")
    for device in ("sp", "sw"):
        record(tmp_path, "s01_01", device, times, times, labels)
    assert load(tmp_path)["train"].labels.tolist() == [2]


def test_nobody_is_in_two_splits() -> None:
    for config in SpSwHar.builder_configs.values():
        listed = [name for names in config.subjects.values() for name in names]
        assert len(listed) == len(set(listed)) == (23 if config.name == "windows_all" else 20)
    assert [len(names) for names in SUBJECTS.values()] == [13, 3, 4]


def test_absent_subjects_and_other_sizes_are_warnings(tmp_path: Any) -> None:
    write_sp_sw_har(tmp_path)
    with pytest.warns(UserWarning, match="Missing: s03, s04") as caught:
        data.load("sp_sw_har", tmp_path / "out", tmp_path)
    said = " ".join(str(one.message) for one in caught)
    assert "Received: {'train': 2," in said


def no_watch(path: Any) -> None:
    (path.parent / "s01_01_sw.csv").unlink()


def replaced(old: str, new: str) -> Any:
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (no_watch, FileNotFoundError, "only one device of"),
        (replaced("SEATED", "FLYING"), DataError, "`label` must be one of.*'FLYING'"),
        (replaced("165753397", "965753397"), DataError, "`timestamp` must be in order"),
        (replaced("x_acc", "acc_x"), DataError, "Missing: x_acc"),
        (replaced("\n", "\nnan,0,0,0,0,0,1657533977000,SEATED\n"), DataError, "finite numbers"),
        (replaced("\n", "\nhigh,0,0,0,0,0,1657533977000,SEATED\n"), DataError, "must hold numbers"),
    ],
)
def test_recordings_that_cannot_be(change: Any, error: Any, message: str, tmp_path: Any) -> None:
    write_sp_sw_har(tmp_path)
    change(tmp_path / "DATA" / "s01" / "s01_01_sp.csv")
    with pytest.raises(error, match=message):
        load(tmp_path)
