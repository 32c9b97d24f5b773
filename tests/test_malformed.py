"""More than a hundred malformed files: a clear error or a counted repair, nothing run, nothing left.

The files go through the builders, as a user's would. What is wrong with content alone is in the
tables of `test_data`, `test_pickles` and `test_own_data`; here these and damaged containers meet the
writing of data sets.
"""

import io
import pathlib
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import pytest
from test_data import BROKEN as BROKEN_CONTENT
from test_own_data import write_folder
from test_pickles import attacks

from keras_m3s import data
from tfds_builders import testing
from tfds_builders.cmu_mosi.folds import FOLDS
from tfds_builders.pickles import DataError

pytestmark = pytest.mark.once

MARK = pathlib.Path("was_here")
SHARES = (0.0, 0.001, 0.3, 0.9, 0.999)
VIDEOS = [sorted(FOLDS[split])[0] for split in FOLDS]
COVAREP = "CMU_MOSI_COVAREP.csd"


def own(source):
    """Reads `source` as own data."""
    return lambda folder: data.prepare_own("mine", folder / source, folder.parent / "out")


def mosi(config):
    """Reads the folder as a form of CMU-MOSI."""
    return lambda folder: data.prepare("cmu_mosi", folder.parent / "out", folder, config)


def pickled(change):
    def make(folder):
        content = testing.mmsa_content()
        change(content)
        testing.write(folder / "my.pkl", content)

    return make


def attack(name, file, before=lambda folder: None):
    def make(folder):
        before(folder)
        content = attacks(folder / MARK)[name]
        raw = content if isinstance(content, bytes) else pickle.dumps(content, 4)
        (folder / file).write_bytes(raw)

    return make


def cut(file, share, before):
    def make(folder):
        before(folder)
        raw = (folder / file).read_bytes()
        (folder / file).write_bytes(raw[: int(len(raw) * share)])

    return make


def archive(folder, **changes):
    """my.npz, with some arrays put in, or with `None` left out."""
    content = testing.mmsa_content()
    flat = {f"{split}/{key}": value for split, raw in content.items() for key, value in raw.items()}
    flat |= {key.replace("_in_", "/", 1): value for key, value in changes.items()}
    arrays = {key: value for key, value in flat.items() if value is not None}
    np.savez(folder / "my.npz", **arrays)


def zipped(folder, name, raw, **options):
    archive(folder)
    with zipfile.ZipFile(folder / "my.npz", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, raw, **options)


def header(shape, dtype="<f4", version=(1, 0)):
    stream = io.BytesIO()
    said = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, said)
    raw = bytearray(stream.getvalue())
    raw[6:8] = version
    return bytes(raw)


def npz(**changes):
    return lambda folder: archive(folder, **changes)


def csd(change, file=COVAREP):
    def make(folder):
        testing.write_csd(folder, VIDEOS)
        with h5py.File(folder / file, "a") as opened:
            change(opened[next(iter(opened))], folder)

    return make


def sequence(key, value, **options):
    """Puts another array in place of one of a video's."""

    def change(root, folder):
        group = root["data"][VIDEOS[0]]
        del group[key]
        if callable(value):
            value(group, key, folder)
        else:
            group.create_dataset(key, data=value, **options)

    return csd(change)


def virtual(group, key, folder):
    layout = h5py.VirtualLayout((60, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (60, 3))
    group.create_virtual_dataset(key, layout)


def outside(group, key, folder):
    (folder / "raw").write_bytes(bytes(720))
    group.create_dataset(key, (60, 3), "f4", external=[(str(folder / "raw"), 0, 720)])


def objects(group, key, folder):
    group.create_dataset(key, data=["a"] * 60, dtype=h5py.string_dtype())


def replaced(key, link):
    return csd(
        lambda root, folder: (
            root["data"].pop(VIDEOS[0]),
            root["data"].__setitem__(VIDEOS[0], link),
        )
    )


def many_names(root, folder):
    """Arrays of 12 MB in 20 kB, each harmless alone."""
    data = root["data"]
    group = data.create_group("more")
    options = {"compression": "gzip", "chunks": (10**6, 3), "dtype": "f4"}
    group.create_dataset("features", data=np.zeros((10**6, 3)), **options)
    options["chunks"] = (10**6, 2)
    group.create_dataset("intervals", data=np.zeros((10**6, 2)), **options)
    for name in "abc":
        data[name] = group


def npy(file, raw):
    def make(folder):
        write_folder(folder)
        (folder / file).write_bytes(raw)

    return make


CASES = {
    # What is wrong with the content, in own data.
    **{f"content: {name}": (pickled(change), own("my.pkl"), match) for name, (change, match) in BROKEN_CONTENT.items()},
    # Malicious pickles, wherever a pickle may be.
    **{f"attack: {name}": (attack(name, "my.pkl"), own("my.pkl"), "my.pkl") for name in attacks(MARK)},
    **{f"attack in a list: {name}": (attack(name, "dev.pkl", testing.write_lists), mosi("word_lists"), "dev.pkl")
       for name in list(attacks(MARK))[::2]},
    "attack as MOSI": (attack("os.system", "my.pkl"), mosi("from_file"), "refused without running it"),
    # Cut off.
    **{f"pickle cut at {share}": (cut("my.pkl", share, pickled(len)), own("my.pkl"), "a whole pickle") for share in SHARES},
    **{f"list cut at {share}": (cut("test.pkl", share, testing.write_lists), mosi("word_lists"), "a whole pickle") for share in SHARES},
    **{f"npz cut at {share}": (cut("my.npz", share, archive), own("my.npz"), "a whole file of numpy") for share in SHARES},
    **{f"npy cut at {share}": (cut("vision.npy", share, write_folder), own("."), "vision.npy must be a whole") for share in SHARES},
    **{f"csd cut at {share}": (cut(COVAREP, share, csd(lambda *_: None)), mosi("csd_aligned"), "a whole HDF5 file") for share in SHARES},
    # Archives of numpy.
    "npz: no zip": (lambda f: (f / "my.npz").write_text("x"), own("my.npz"), "a whole file of numpy"),
    "npz: objects": (npz(train_in_audio=np.array([None] * 4)), own("my.npz"), "without objects"),
    "npz: complex": (npz(train_in_audio=np.ones((4, 9, 3), complex)), own("my.npz"), "numbers or strings"),
    "npz: no key": (npz(test_in_vision=None), own("my.npz"), r"Missing: \['vision'\]"),
    "npz: no split": (lambda f: np.savez(f / "my.npz", a=np.ones(3)), own("my.npz"), "a dict of the splits train, valid and test"),
    "npz: other N": (npz(valid_in_audio=np.ones((9, 9, 3))), own("my.npz"), "2 in `id`, 9 in `audio`"),
    "npz: NaN": (npz(valid_in_text=np.full((2, 6, 4), np.nan)), own("my.npz"), "`text` must be finite"),
    "npz: a lying shape": (lambda f: zipped(f, "x.npy", header((10**12,)) + bytes(8)), own("my.npz"), "as many bytes as its shape"),
    "npz: a negative shape": (lambda f: zipped(f, "x.npy", header((-1,)) + bytes(8)), own("my.npz"), "my.npz"),
    "npz: a name twice": (lambda f: (zipped(f, "x.npy", header((2,)) + bytes(8)), zipped_again(f)), own("my.npz"), "names must be unique"),
    "npz: version 9": (lambda f: zipped(f, "x.npy", header((2,), version=(9, 9)) + bytes(8)), own("my.npz"), "my.npz"),
    "npz: a pickle inside": (lambda f: zipped(f, "x.npy", pickle.dumps([1])), own("my.npz"), "a whole file of numpy"),
    "npz: code in a header": (lambda f: zipped(f, "x.npy", header((2,)).replace(b"'<f4'", b"foo()") + bytes(8)), own("my.npz"), "my.npz"),
    "npz: a bomb": (lambda f: zipped(f, "x.npy", header((2**23,)) + bytes(2**25)), own("my.npz"), "unfold to at most 200 times"),
    # Arrays of numpy.
    "npy: no array": (npy("audio.npy", b"hello"), own("."), "audio.npy must be a whole file"),
    "npy: a pickle": (npy("audio.npy", pickle.dumps([1])), own("."), "audio.npy must be a whole file"),
    "npy: more than there is": (npy("audio.npy", header((9, 10**9, 3)) + bytes(99)), own("."), "audio.npy must be a whole file"),
    "npy: a huge shape": (npy("audio.npy", header((9, 2**62, 2**62)) + bytes(99)), own("."), "audio.npy"),
    "npy: an empty file": (npy("label.csv", b""), own("."), "label.csv must have"),
    # Computational sequences.
    "csd: no HDF5": (lambda f: (testing.write_csd(f, VIDEOS), (f / COVAREP).write_text("x")), mosi("csd_aligned"), "a whole HDF5 file"),
    "csd: no data": (csd(lambda root, _: root.pop("data")), mosi("csd_aligned"), "`data` must be in the file"),
    "csd: data is an array": (csd(lambda root, _: (root.pop("data"), root.__setitem__("data", [1.0]))), mosi("csd_aligned"), "COVAREP"),
    "csd: two groups": (csd(lambda root, _: root.file.create_group("more")), mosi("csd_aligned"), "one computational sequence"),
    "csd: no features": (csd(lambda root, _: root["data"][VIDEOS[0]].pop("features")), mosi("csd_unaligned"), "`features` must be in the file"),
    "csd: unequal": (sequence("features", np.ones((3, 3))), mosi("csd_aligned"), "60 intervals, 3 rows"),
    "csd: rank 1": (sequence("features", np.ones(60)), mosi("csd_aligned"), "a numeric array"),
    "csd: other columns": (sequence("features", np.ones((60, 9))), mosi("csd_aligned"), "one number of columns"),
    "csd: strings": (sequence("features", np.full((60, 3), b"a")), mosi("csd_aligned"), "a numeric array"),
    "csd: objects": (sequence("features", objects), mosi("csd_aligned"), "must hold numbers"),
    "csd: NaN intervals": (sequence("intervals", np.full((60, 2), np.nan)), mosi("csd_aligned"), "start first"),
    "csd: reversed intervals": (sequence("intervals", np.tile([2.0, 1.0], (60, 1))), mosi("csd_aligned"), "start first"),
    "csd: three columns of intervals": (sequence("intervals", np.ones((60, 3))), mosi("csd_aligned"), r"shape \(steps, 2\)"),
    "csd: a bomb": (sequence("features", np.zeros((6 * 10**6, 3), "f4"), compression="gzip"), mosi("csd_aligned"), "unfold to at most 200 times"),
    "csd: unwritten space": (sequence("features", lambda g, k, f: g.create_dataset(k, (10**12, 3), "f4", chunks=(9, 3))), mosi("csd_aligned"), "unfold to at most 200 times"),
    "csd: one array under many names": (csd(many_names), mosi("csd_aligned"), "COVAREP.csd must unfold to at most 200 times"),
    "csd: virtual": (sequence("features", virtual), mosi("csd_aligned"), "a reference to others"),
    "csd: stored outside": (sequence("features", outside), mosi("csd_aligned"), "a reference to others"),
    "csd: a link to a file": (replaced("data", h5py.ExternalLink("/etc/hostname", "/")), mosi("csd_aligned"), "Received: ExternalLink"),
    "csd: a soft link": (replaced("data", h5py.SoftLink("/nowhere")), mosi("csd_aligned"), "Received: SoftLink"),
    "csd: NaN labels": (csd(lambda root, _: root["data"][VIDEOS[1]]["features"].__setitem__(0, np.nan), "CMU_MOSI_Opinion_Labels.csd"), mosi("csd_aligned"), "`labels` must be finite"),
    "csd: labels of another scale": (csd(lambda root, _: root["data"][VIDEOS[1]]["features"].__setitem__(0, 70), "CMU_MOSI_Opinion_Labels.csd"), mosi("csd_aligned"), "labels must lie in -3..3"),
}  # fmt: skip


def zipped_again(folder):
    with zipfile.ZipFile(folder / "my.npz", "a") as file, pytest.warns(UserWarning, match="Dupl"):
        file.writestr("x.npy", header((2,)) + bytes(8))


def test_there_are_a_hundred():
    assert len(CASES) > 100 and sum("attack" in name for name in CASES) > 10


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_malformed(name, tmp_path):
    make, read, match = CASES[name]
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises((DataError, FileNotFoundError), match=match):
        read(folder)
    assert sorted(folder.rglob("*")) == before, "something was run, or written beside the input"
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} <= {".config"}
    assert not list((tmp_path / "out").rglob("*incomplete*"))


def silent(folder, ending):
    content = testing.mmsa_content()
    content["train"]["audio"][0, :2, 0] = -np.inf
    if ending == ".npz":
        archive(folder, train_in_audio=content["train"]["audio"])
    else:
        testing.write(folder / "my.pkl", content)


REPAIRED = {
    "-inf in a pickle": (lambda f: silent(f, ".pkl"), own("my.pkl"), "2 values of `audio` were -inf"),
    "-inf in a npz": (lambda f: silent(f, ".npz"), own("my.npz"), "2 values of `audio` were -inf"),
    "NaN in a csd": (sequence("features", np.full((60, 3), np.nan)), mosi("csd_aligned"), "180 values of `audio` were not finite"),
    "+-inf in a csd": (sequence("features", np.tile([np.inf, -np.inf, 0], (60, 1))), mosi("csd_aligned"), "120 values of `audio`"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRED)
def test_repaired_and_counted(name, tmp_path):
    make, read, match = REPAIRED[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    with pytest.warns(UserWarning, match=match):
        builder = read(tmp_path / "in")
    for split in data.SPLITS:
        assert all(
            np.isfinite(a).all() for a in data.decoding.read_split(builder, split).features.values()
        )


def test_a_full_disk_or_a_bug_is_not_called_a_damaged_file(tmp_path, monkeypatch):
    """Only what a damaged stream can raise becomes a `DataError`."""
    path = testing.write(tmp_path / "a.pkl", testing.mmsa_content())

    def breaks(*args):
        raise OSError("input/output error")

    monkeypatch.setattr("tfds_builders.pickles._PlainUnpickler.load", breaks, raising=False)
    with pytest.raises(OSError, match="input/output error") as error:
        data.load(path)
    assert not isinstance(error.value, DataError)
    shutil.rmtree(tmp_path)
