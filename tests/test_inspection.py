"""`inspect` says what is wrong with every kind of file there is a builder for; see `test_readers`."""

import h5py
import numpy as np
import pytest
from test_own_data import write_folder

from keras_m3s import data
from tests import layouts
from tfds_builders import testing

pytestmark = pytest.mark.once

VIDEO = layouts.VIDEOS[0]


def sims(folder):
    return layouts.mmsa(folder, "a.pkl", bound=1, unimodal=True)


def csd(folder):
    return layouts.csd(folder) / "CMU_MOSI_COVAREP.csd"


def features(folder):
    return layouts.iemocap(folder) / "V" / "denseface.h5"


def nan_list(folder):
    rows = testing.write_lists(folder)["dev.pkl"]
    (ids, vision, audio, words), label, name = rows[0]
    rows[0] = ((ids, vision * np.nan, audio, words), label, name)
    return testing.write(folder / "dev.pkl", rows)


def broken_list(folder):
    rows = testing.write_lists(folder)["dev.pkl"]
    return testing.write(folder / "dev.pkl", [rows[0], rows[0]])


def unequal_csd(folder):
    path = csd(folder)
    with h5py.File(path, "a") as file:
        del file[f"sequence/data/{VIDEO}/features"]
        file[f"sequence/data/{VIDEO}/features"] = np.ones((3, 3))
    return path


def linked_csd(folder):
    path = csd(folder)
    with h5py.File(path, "a") as file:
        del file["sequence"]
        file["sequence"] = h5py.ExternalLink("/etc/hostname", "/")
    return path


def broken_features(folder):
    """Two utterances that the fold has, one that it has not."""
    path = features(folder)
    with h5py.File(path, "a") as file:
        first, second = sorted(file)[:2]
        file[first][...] = np.nan
        del file[second]
        file[second] = np.ones((2, 9))
        file["more"] = np.full((2, 9), np.nan)
    return path


def nan_features(folder):
    path = features(folder)
    with h5py.File(path, "a") as file:
        for name in sorted(file)[:2]:
            file[name][...] = np.nan
    return path


def cut(folder):
    path = sims(folder)
    path.write_bytes(path.read_bytes()[:-20])
    return path


def no_label(folder):
    write_folder(folder)
    np.save(folder / "text.npy", np.full((9, 6, 4), np.inf))
    return folder


def number(folder):
    return testing.write(folder / "a.pkl", {"a": 3})


BROKEN = {
    "a list with a name twice": (broken_list, "names of segments must be unique"),
    "unequal csd": (
        unequal_csd,
        f"{VIDEO}: must have one interval a row. Received: 60 intervals, 3 rows",
    ),
    "a csd that is a link": (linked_csd, "Received: ExternalLink"),
    "features with NaN": (
        nan_features,
        "V/denseface.h5, Ses01F_impro01_F000: `vision` must be finite",
    ),
    "each of them": (nan_features, "V/denseface.h5, Ses01F_impro01_F001: `vision` must be finite"),
    "features of other columns": (
        broken_features,
        "`Ses01F_impro01_F001` must be of shape (steps, 342)",
    ),
    "cut off": (cut, "must be a whole pickle file"),
    "inf in own data": (no_label, "`text` must be finite"),
    "something else": (number, "dict of the splits train, valid and test"),
    "an empty folder": (lambda folder: folder, "a folder with []"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(name, tmp_path):
    make, match = BROKEN[name]
    assert match in "\n".join(data.inspect(make(tmp_path)).problems)


def test_what_no_fold_has_is_not_looked_at(tmp_path):
    assert "more" not in "".join(data.inspect(broken_features(tmp_path)).problems)


def test_what_would_be_repaired_is_a_note(tmp_path):
    found = data.inspect(nan_list(tmp_path))
    assert not found.problems and "of `vision` were not finite" in found.notes[0]
