"""CMU-MOSI from dummy data, as TFDS tests its own data sets."""

import pytest
import tensorflow_datasets.public_api as tfds

from ..testing import SHAPES, SIZES
from .cmu_mosi_dataset_builder import CmuMosi, MosiConfig

pytestmark = pytest.mark.once


class CmuMosiTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CmuMosi
    SPLITS = SIZES
    BUILDER_CONFIG_NAMES_TO_TEST = [
        "from_file",
        MosiConfig(name="small", file="dummy.pkl", shapes=SHAPES, sizes=SIZES),
    ]


if __name__ == "__main__":
    tfds.testing.test_main()
