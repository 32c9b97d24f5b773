"""CH-SIMS from dummy data, as TFDS tests its own data sets, and what makes it CH-SIMS."""

from typing import Any

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data
from keras_m3s.metrics import regression_metrics

from ..pickles import DataError
from ..testing import SHAPES, SIZES, mmsa_content, write
from .ch_sims_dataset_builder import ChSims, SimsConfig

pytestmark = pytest.mark.once


class ChSimsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = ChSims
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = [
        "from_file",
        "v2",
        SimsConfig(name="small", file="dummy.pkl", shapes=SHAPES, sizes=SIZES),
    ]


def test_labels_of_each_modality_come_back(tmp_path: Any) -> None:
    content = mmsa_content(bound=1, unimodal=True)
    path = write(tmp_path / "sims.pkl", content)
    splits = data.load("ch_sims", data_dir=tmp_path / "out", manual_dir=tmp_path)
    for name, split in splits.items():
        raw = content[name]
        np.testing.assert_array_equal(split.labels, raw["regression_labels"])
        assert split.unimodal.keys() == {"text", "audio", "vision"}
        for modality, letter in (("text", "T"), ("audio", "A"), ("vision", "V")):
            wanted = raw[f"regression_labels_{letter}"]
            np.testing.assert_array_equal(split.unimodal[modality], wanted)
        assert split.fingerprint() == data.load(path)[name].fingerprint()
        assert not any("label" in key for key in split.features)


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda split: split["regression_labels_T"].__setitem__(0, np.inf), "_T` must be finite"),
        (
            lambda split: split.update(regression_labels=np.arange(len(split["id"]))),
            r"lie in -1..1",
        ),
        (lambda split: split["regression_labels_V"].__setitem__(0, 2), r"lie in -1..1.*2"),
        (lambda split: split.update(regression_labels_T=np.zeros(1)), "1 in `regression_labels_T`"),
    ],
)
def test_wrong_labels_are_refused(change: Any, match: Any, tmp_path: Any) -> None:
    content = mmsa_content(bound=1, unimodal=True)
    for split in content.values():
        change(split)
    write(tmp_path / "sims.pkl", content)
    with pytest.raises(DataError, match=match):
        data.load("ch_sims", data_dir=tmp_path / "out", manual_dir=tmp_path)


def test_published_sizes_shapes_and_metrics() -> None:
    config = ChSims.builder_configs["unaligned_39"]
    assert list(config.sizes.values()) == [1368, 456, 457]
    assert config.shapes == {"text": (39, 768), "audio": (400, 33), "vision": (55, 709)}
    assert "acc3" in regression_metrics(np.zeros(3), np.zeros(3), dataset="ch_sims/v2")
