"""`inspect` on every kind of file there is a builder for: whole, then with something wrong."""

import h5py
import numpy as np
import pytest
from test_own_data import write_folder

from keras_m3s import data
from tfds_builders import testing
from tfds_builders.cmu_mosi.folds import FOLDS

pytestmark = pytest.mark.once

VIDEO = sorted(FOLDS["train"])[0]
COLUMNS = {"audio": 4, "vision": 3, "text": 5}


def sims(folder):
    return testing.write(folder / "a.pkl", testing.mmsa_content(bound=1, unimodal=True))


def lists(folder):
    testing.write_lists(folder)
    return folder / "dev.pkl"


def csd(folder):
    testing.write_csd(folder, [VIDEO])
    return folder / "CMU_MOSI_COVAREP.csd"


def features(folder):
    testing.write_iemocap(folder, COLUMNS)
    return folder / "V" / "denseface.h5"


def iemocap(folder):
    testing.write_iemocap(folder, COLUMNS)
    return folder


def own(folder):
    write_folder(folder)
    return folder


def npz(folder):
    content = testing.mmsa_content()
    flat = {f"{s}/{key}": value for s, split in content.items() for key, value in split.items()}
    np.savez(folder / "a.npz", **flat)
    return folder / "a.npz"


WHOLE = {
    "sims": (sims, "schema of MMSA", "prepare ch_sims"),
    "npz": (npz, "schema of MMSA", "prepare --from"),
    "lists": (lists, "list of 2 segments", "--config word_lists"),
    "csd": (csd, "CMU-MultimodalSDK", "--config csd_aligned"),
    "features": (features, "array for each utterance", "prepare iemocap"),
    "iemocap": (iemocap, "MMIN's authors", "prepare iemocap"),
    "own": (own, "arrays with label.csv", "prepare --from"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files(name, tmp_path):
    make, kind, reader = WHOLE[name]
    found = data.inspect(make(tmp_path))
    assert kind in found.kind and reader in found.reader
    assert found.holds and not found.problems


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
    path = features(folder)
    with h5py.File(path, "a") as file:
        file["more"] = np.full((2, 9), np.nan)
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
    "unequal csd": (unequal_csd, f"{VIDEO}: 60 intervals for 3 rows"),
    "a csd that is a link": (linked_csd, "Received: ExternalLink"),
    "features with NaN": (broken_features, "`more` has values of NaN or inf"),
    "features of unequal columns": (broken_features, "Utterances differ in their columns"),
    "cut off": (cut, "must be a whole pickle file"),
    "inf in own data": (no_label, "`text` must be finite"),
    "something else": (number, "It must be a dict of"),
    "an empty folder": (lambda folder: folder, "There is no label.csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(name, tmp_path):
    make, match = BROKEN[name]
    assert match in "\n".join(data.inspect(make(tmp_path)).problems)


def test_what_would_be_repaired_is_a_note(tmp_path):
    found = data.inspect(nan_list(tmp_path))
    assert not found.problems and "of `vision` were not finite" in found.notes[0]
