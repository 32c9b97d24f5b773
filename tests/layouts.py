"""Files as people have them: each layout that is read, and members of each kind that is not.

A function writes into a folder and returns what to look at.
"""

import gzip
import io
import pathlib
import pickle
import zipfile
from typing import Any

import h5py
import numpy as np

from tfds_builders import testing
from tfds_builders.cmu_mosi.folds import FOLDS
from tfds_builders.iemocap.iemocap_dataset_builder import COLUMNS

VIDEOS = [sorted(FOLDS[split])[0] for split in FOLDS]
SPLITS = {"train": 4, "valid": 2, "test": 3}
PIECES = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\n"
TABLE = "video_id,clip_id,text,label,mode\n"


# --- Layouts that are read ------------------------------------------------------------------------


def mmsa(folder, name="my.pkl", **options):
    return testing.write(folder / name, testing.mmsa_content(**options))


def flat(content):
    return {f"{split}/{key}": value for split, raw in content.items() for key, value in raw.items()}


def npz(folder, name="my.npz"):
    with (folder / name).open("wb") as file:
        np.savez(file, **flat(testing.mmsa_content()))
    return folder / name


def splits_called(*names):
    """MMSA's schema with other names of the splits."""

    def make(folder):
        content = testing.mmsa_content()
        return testing.write(folder / "my.pkl", dict(zip(names, content.values(), strict=True)))

    return make


def mult(folder, form=(1, 1), names=lambda split, row: f"{split}_{row}"):
    rng, content = np.random.default_rng(0), {}
    for split, size in SPLITS.items():
        ids = [[names(split, row).encode(), f"{row}.1".encode(), b"9"] for row in range(size)]
        content[split] = {
            "vision": rng.normal(size=(size, 5, 4)),
            "audio": rng.normal(size=(size, 5, 3)),
            "text": rng.normal(size=(size, 5, 2)),
            "labels": rng.uniform(-2, 2, (size, *form)),
            "id": np.array(ids, dtype=object),
        }
    return testing.write(folder / "mosi_data_noalign.pkl", content)


def mag_bert(folder, vocabulary=True):
    rng, content = np.random.default_rng(0), {}
    for split, size in zip(("train", "dev", "test"), SPLITS.values(), strict=True):
        content[split] = [
            ((["good", "film"], rng.normal(size=(2, 4)), rng.normal(size=(2, 3))), np.array([[1.4]]), f"{split}[{row}]")
            for row in range(size)
        ]  # fmt: skip
    if vocabulary:
        (folder / "vocab.txt").write_text(PIECES)
    return testing.write(folder / "mosi.pkl", content)


def lists(folder, style="misa"):
    testing.write_lists(folder, style)
    return folder


def mmsa_folder(folder, *names, above=False, table=True):
    """MMSA's own: pickles, beside label.csv or in `Processed`."""
    place = folder / "Processed" if above else folder
    place.mkdir(exist_ok=True)
    for name in names:
        mmsa(place, name)
    if table:
        (folder / "label.csv").write_text(f"{TABLE}train0,0,hi,1.0,train\n")
    return folder


def one_clip(folder, tokens=(6, 3)):
    """What `run_single` of MMSA-FET saves."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {
        "audio": rng.normal(size=(9, 4)),
        "vision": rng.normal(size=(7, 3)),
        "text": rng.normal(size=(6, 5)),
        "text_bert": np.arange(18).reshape(tokens),
    }
    return testing.write(folder / "feature.pkl", content)


def clips(folder):
    np.savez(folder / "clips.npz", id=np.array(["a", "b"]), audio=np.ones((2, 12, 4), "float32"))
    return folder / "clips.npz"


def clips_folder(folder, table="video_id,clip_id\nv,0\nv,1\n"):
    np.save(folder / "audio.npy", np.ones((2, 5, 3)))
    if table:
        (folder / "label.csv").write_text(table)
    return folder


def own(folder, table=None, modalities=("audio", "vision", "text"), spelled=str):
    """Six clips: label.csv and an array of each modality."""
    modes = ["train"] * 3 + ["valid"] + ["test"] * 2
    rows = "".join(f"v{row},{row},hi,{row / 2},{mode}\n" for row, mode in enumerate(modes))
    (folder / "label.csv").write_bytes((table or f"{TABLE}{rows}").encode())
    for name in modalities:
        np.save(folder / "array.npy", np.ones((6, 4, 3)) * np.arange(1, 7)[:, None, None])
        (folder / "array.npy").rename(folder / spelled(f"{name}.npy"))
    return folder


def recordings(folder, ending=".WAV", inside="Raw"):
    (folder / "label.csv").write_text(f"{TABLE}v,0001,hi,0.5,train\nv,0002,hi,0.5,test\n")
    place = folder / inside / "v"
    place.mkdir(parents=True)
    (place / f"0001{ending}").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    return folder


def csd(folder, ending=".csd"):
    testing.write_csd(folder, VIDEOS)
    for path in list(folder.glob("*.csd")) if ending != ".csd" else []:
        path.rename(path.with_suffix(ending))
    return folder


def csd_by_word(folder):
    """As the SDK's `align` to words leaves them: an entry a word, each modality its mean."""
    csd(folder)
    words = folder / "CMU_MOSI_TimestampedWordVectors.csd"
    with h5py.File(words) as file:
        times = {video: file[f"sequence/data/{video}/intervals"][()] for video in VIDEOS}
    for name in ("TimestampedWordVectors", "COVAREP", "Visual_Facet_42"):
        _rewrite(folder / f"CMU_MOSI_{name}.csd", times, mean=True)
    return folder


def csd_by_segment(folder):
    """And to labels: an entry a segment, of the words inside."""
    csd_by_word(folder)
    labels = folder / "CMU_MOSI_Opinion_Labels.csd"
    with h5py.File(labels) as file:
        times = {video: file[f"labels/data/{video}/intervals"][()] for video in VIDEOS}
    for path in sorted(folder.glob("*.csd")):
        _rewrite(path, times, mean=False)
    return folder


def _rewrite(path, times, mean):
    """Entries of each video cut at `times`, one after the other."""
    with h5py.File(path) as file:
        root = next(iter(file))
        old = {name: (group["intervals"][()], group["features"][()])
               for name, group in file[f"{root}/data"].items()}  # fmt: skip
    with h5py.File(path, "w") as file:
        for video, intervals in times.items():
            parts = [old[name] for name in sorted(old, key=_number) if name.split("[")[0] == video]
            starts, features = (np.concatenate(one) for one in zip(*parts, strict=True))
            for row, (start, stop) in enumerate(intervals):
                inside = (starts[:, 0] > start - 1e-6) & (starts[:, 1] < stop + 1e-6)
                group = file.create_group(f"{root}/data/{video}[{row}]")
                group["intervals"] = [[start, stop]] if mean else starts[inside]
                kept = features[inside]
                group["features"] = kept.mean(0, keepdims=True) if mean else kept


def _number(name):
    return int(name.rpartition("[")[2].rstrip("]")) if "[" in name else 0


def iemocap(folder, folds=(1,)):
    testing.write_iemocap(folder, COLUMNS, folds, steps=2)
    return folder


def sensors(seed=0):
    """Two sensors, one padded, and a vector, NaN in each; by split."""
    rng, made = np.random.default_rng(seed), {}
    for split, rows in SPLITS.items():
        one = {
            "watch": rng.normal(size=(rows, 6, 3)).astype("float16"),
            "phone": rng.normal(size=(rows, 4, 2)),
            "phone_length": rng.integers(1, 5, rows),
            "static": rng.integers(0, 99, (rows, 5)).astype("float32"),
            "label": np.arange(rows) % 2,
            "id": np.array([f"{split}{row}" for row in range(rows)]),
        }
        one["watch"][0, 2] = one["static"][1, 0] = one["phone"][1, :, 1] = np.nan
        made[split] = one
    return made


def sensors_npz(folder, labels=True):
    made = sensors()
    for one in made.values():
        one.pop("phone_length" if labels else "label")
    np.savez(folder / "sensors.npz", **flat(made))
    return folder / "sensors.npz"


def sensors_folder(folder, labels=True):
    for split, one in sensors().items():
        (folder / split).mkdir()
        for name, array in one.items():
            if labels or name != "label":
                np.save(folder / split / f"{name}.npy", array)
    return folder


def example_folder(folder):
    np.save(folder / "watch.npy", np.ones((3, 6, 3)))
    np.save(folder / "static.npy", np.ones((3, 5)))
    return folder


DESCRIPTION = """
table: {name}
id: who
time: t
split: split
label: done
modalities: {{watch: [x, y], phone: z}}
static: {{person: [age]}}
grid: {{step: 1}}
"""


def sensors_table(folder, name="rows.csv", labels=True):
    lines = ["who;t;x;y;z;age" + ";split;done" * labels]
    for number, split in enumerate(["train"] * 3 + ["valid"] + ["test"] * 2):
        for step in range(1 + number % 3):
            values = f";{step};{step}" if step else f"0,5;{number};NA"
            known = f";{split};{'ab'[number % 2]}" * labels
            lines.append(f"p{number};{step};{values};{20 + number}{known}")
    (folder / "rows.csv").write_text("\n".join(lines))
    if name.endswith(".parquet"):
        import pandas as pd

        table = pd.read_csv(folder / "rows.csv", sep=";", decimal=",")
        table.to_parquet(folder / name, index=False)
        (folder / "rows.csv").unlink()
    (folder / "rows.yaml").write_text(DESCRIPTION.format(name=name))
    return folder / "rows.yaml"


def sp_sw_har(folder):
    testing.write_sp_sw_har(folder)
    return folder


def physionet2012(folder):
    testing.write_physionet2012(folder)
    return folder


# --- Files that are something else ----------------------------------------------------------------


def zipped(name, content=b"x"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(name, content)
    return stream.getvalue()


PLAIN = pickle.dumps({"train": {}})
PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title></head></html>"
)

OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "a ZIP archive": (zipped("unaligned_50.pkl", PLAIN), "a ZIP archive of 'unaligned_50.pkl'.*unzip"),
    "a cut ZIP archive": (zipped("unaligned_50.pkl", PLAIN)[:-9], "ZIP archive that is cut off.*download it again"),
    "torch.save": (zipped("archive/data.pkl", PLAIN), "torch.save.*weights_only"),
    "a Keras model": (zipped("model.weights.h5"), "a Keras model"),
    "Excel": (zipped("xl/workbook.xml"), "an Excel workbook.*CSV"),
    "gzip": (gzip.compress(PLAIN), "a gzip archive.*gunzip"),
    "bzip2": (b"BZh91AY&SY", "a bzip2 archive"),
    "xz": (b"\xfd7zXZ\x00\x00", "an xz archive"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c\x00", "a 7-Zip archive"),
    "RAR": (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
    "tar": (b"my.pkl" + bytes(251) + b"ustar\x0000", "a tar archive"),
    "Parquet": (b"PAR1\x15\x04", "a Parquet table"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file.*loadmat"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0{\"a\":{}}", "a safetensors file"),
    "a video": (b"\0\0\0\x20ftypisom", "a video.*keras-m3s features"),
    "a web page": (PAGE, "a web page .'Google Drive - Virus scan warning'.*browser"),
    "a page with a mark": (b"\xef\xbb\xbf\r\n<html lang='en'>", "a web page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "a Git LFS pointer.*git lfs pull"),
    "a git-annex pointer": (b"/annex/objects/SHA256E-s12--4d7a.pkl\n", "a git-annex pointer"),
    "a table": (b"id,label\n1,2\n", "text, beginning with 'id,label'"),
    "another table": (b"Sr No.,Utterance,Emotion\n1,hi,joy\n", "text, beginning with 'Sr No.,Utterance"),
    "UTF-16": ("video;label\n".encode("utf-16"), "text, beginning with 'video;label'"),
    "another encoding": ("naïve,joué\n".encode("latin1"), "text, not in UTF-8"),
    "Chinese, GBK": ("文本,标签\n".encode("gbk"), "text, not in UTF-8"),
    "prose": (b"I like it. It is a file.", "text, beginning with 'I like it"),
    "JSON": (b'{"train": []}', "text .JSON."),
    "nothing": (b"", "an empty file.*download it again"),
    "zeros": (bytes(4096), "nothing but zeros.*download it again"),
    "noise": (bytes(range(1, 255)), "no kind that is known"),
}  # fmt: skip


def file(name, content):
    def make(folder: pathlib.Path) -> pathlib.Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make
