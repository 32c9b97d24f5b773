"""The command `tfds build`, as TFDS's users run it: in the folder of a data set, with its dummy data."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_m3s import data

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
MMSA = {"text": (6, 4), "audio": (9, 3), "vision": (7, 2)}
# Data set: its config, segments a split, shapes.
CASES = {
    "cmu_mosi": ("from_file", [4, 2, 3], MMSA),
    "ch_sims": ("v2", [4, 2, 3], MMSA),
    "iemocap": ("fold3", [4, 2, 3], {"text": (2, 1024), "audio": (2, 130), "vision": (2, 342)}),
    "sp_sw_har": (
        "windows",
        [2, 2, 2],
        dict.fromkeys(("phone_acc", "phone_gyro", "watch_acc", "watch_gyro"), (100, 3)),
    ),
    "physionet2012": (
        "split3",
        [14, 2, 4],
        {"circulation": (48, 8), "neuro_renal": (48, 2), "static": (5,)},
    ),
    "synthetic_msa": ("tiny", [24, 8, 9], {"text": (8, 6), "audio": (12, 3), "vision": (10, 4)}),
}
# What `tfds` runs for `build`: its entry point imports Apache Beam and ML Croissant for its other
# commands. Importing takes most of the time, so one process builds all, each as if it were alone.
BUILD = """
import json, os, sys
from tensorflow_datasets.scripts.cli import build, cli_utils
parse = cli_utils.make_flags_parser(build.Args, description="build")
path = list(sys.path)
for folder, arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    parse(["build", *arguments]).execute()
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("tfds_builders")]:
        del sys.modules[name]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    runs = []
    for name, (config, *_) in CASES.items():
        arguments = [f"--config={config}", f"--data_dir={folder}", "--manual_dir=dummy_data"]
        runs.append((str(ROOT / "tfds_builders" / name), arguments))
    command = [sys.executable, "-c", BUILD, json.dumps(runs)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_built_in_its_folder_and_loaded_by_name(name, built):
    config, sizes, shapes = CASES[name]
    (place,) = (built / name / config).iterdir()
    builder = tfds.builder_from_directory(place)
    assert builder.info.citation.startswith("@") and builder.info.description
    splits = data.load(name, data_dir=built, config=config)
    assert [len(split) for split in splits.values()] == sizes
    for split in splits.values():
        for modality, shape in shapes.items():
            features = split.features[modality]
            assert features.shape == (len(split), *shape) and features.dtype == np.float32
        scores = name in ("cmu_mosi", "ch_sims", "synthetic_msa")
        assert split.labels.dtype == (np.float32 if scores else np.int32)
    ids = [one for split in splits.values() for one in split.ids]
    assert len(set(ids)) == len(ids) == sum(sizes)
