"""PhysioNet 2012 from dummy data, as TFDS tests its own; its hours against hand work."""

import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data

from ..limits import DataError
from ..testing import write_physionet2012
from . import records
from .physionet2012_dataset_builder import Physionet2012, Physionet2012Config

pytestmark = pytest.mark.once

SIZES = {"train": 14, "valid": 2, "test": 4}


class Physionet2012Test(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Physionet2012
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = ["split1", Physionet2012Config(name="small", sizes=SIZES)]


def load(folder: Any, config: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.load("physionet2012", folder / "out", folder, config)


def find(splits: Any, name: str) -> tuple[Any, int]:
    return next((one, one.ids.index(name)) for one in splits.values() if name in one.ids)


def test_the_last_value_of_each_hour_and_nan_where_there_is_none(tmp_path: Any) -> None:
    write_physionet2012(tmp_path)
    lines = ["Time,Parameter,Value", "00:00,RecordID,132503", "00:00,Age,54", "00:00,Gender,1",
             "00:00,Height,-1", "00:00,ICUType,2", "00:00,Weight,80", "00:07,HR,73", "00:59,HR,77",
             "01:00,HR,60", "01:30,Weight,82", "47:59,Urine,10", "48:00,Urine,20", "48:01,HR,5",
             "05:00,pH,735", "05:00,Unknown,1"]  # fmt: skip
    (tmp_path / "set-a" / "132503.txt").write_text("\n".join(lines))
    split, row = find(load(tmp_path), "132503")
    expected: dict[str, Any] = {
        name: np.full((48, len(columns)), np.nan) for name, columns in records.GROUPS.items()
    }
    expected["static"] = np.full(5, np.nan)
    expected["circulation"][:2, 0] = 77, 60
    expected["neuro_renal"][47, 1] = 20
    expected["respiration"][5, 5] = 735
    expected["static"][[0, 1, 3, 4]] = 54, 1, 2, 80
    assert set(split.modalities) == set(expected) and split.task == "classification"
    for name, values in expected.items():
        np.testing.assert_array_equal(split.features[name][row], values.astype("float32"))
    assert split.labels[row] == 132503 % 3 // 2


def test_a_division_is_of_all_and_depends_on_the_seed() -> None:
    ids = [str(number) for number in range(4000)]
    parts = [records.divided(ids, seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    for part in parts:
        assert [len(names) for names in part.values()] == [2800, 400, 800]
        assert sorted(name for names in part.values() for name in names) == sorted(ids)


def test_there_are_36_measurements() -> None:
    assert sum(map(len, records.GROUPS.values())) == 36


def replaced(name: str, old: str, new: str) -> Any:
    def change(folder: Any) -> None:
        path = folder / name
        path.write_text(path.read_text().replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda folder: (folder / "Outcomes-a.txt").unlink(), FileNotFoundError, "Outcomes-a.txt"),
        (replaced("Outcomes-a.txt", "132504", "999999"), DataError, "Missing: .'132504'"),
        (replaced("Outcomes-a.txt", ",-1,0", ",-1,2"), DataError, "must be 0 or 1"),
        (replaced("set-a/132500.txt", "Age,", "Age,old"), DataError, "`Value` must be a finite"),
        (replaced("set-a/132500.txt", "00:00,Age", "noon,Age"), DataError, "`Time` must be hours"),
    ],
)
def test_records_that_cannot_be(change: Any, error: Any, message: str, tmp_path: Any) -> None:
    write_physionet2012(tmp_path)
    change(tmp_path)
    with pytest.raises(error, match=message):
        load(tmp_path)
