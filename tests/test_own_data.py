"""Own data: a file or a folder becomes a data set with a name, or nothing at all."""

import csv

import numpy as np
import pytest

from keras_m3s import data
from tests.layouts import zipped
from tfds_builders import testing
from tfds_builders.pickles import DataError

pytestmark = pytest.mark.once

DIMS = {"audio": 3, "vision": 2, "text": 4}


def write_folder(folder, stacked=True, label=lambda row: f"{row / 2 - 1:.1f}", extra=None):
    """Nine segments of three modes; returns modality -> list of sequences."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    modes = ["train"] * 4 + ["valid"] * 2 + ["test"] * 3
    lines = [
        {"video_id": f"{mode}{row // 2}", "clip_id": f"{row:03d}", "text": f"segment, {row}",
         "label": label(row), "mode": mode, **(extra or {})}
        for row, mode in enumerate(modes)
    ]  # fmt: skip
    write_lines(folder, lines)
    made = {}
    for name, dim in DIMS.items():
        made[name] = [rng.normal(size=(rng.integers(1, 6), dim)).astype("float32") for _ in lines]
        if stacked:
            padded = [np.pad(one, ((0, 6 - len(one)), (0, 0))) for one in made[name]]
            np.save(folder / f"{name}.npy", np.stack(padded))
            continue
        for line, one in zip(lines, made[name], strict=True):
            path = folder / name / line["video_id"] / f"{line['clip_id']}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, one)
    return made


def write_lines(folder, lines):
    with (folder / "label.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_folder_comes_back(stacked, tmp_path):
    made = write_folder(tmp_path / "in", stacked, extra={"label_T": "0.5"})
    data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    splits = data.load("mine", data_dir=tmp_path / "out")
    assert [len(split) for split in splits.values()] == [4, 2, 3]
    row = 0
    for split in splits.values():
        assert split.unimodal["text"].tolist() == [0.5] * len(split)
        for i in range(len(split)):
            assert split.ids[i] == f"{split.name}{row // 2}$_${row:03d}"
            assert split.labels[i] == np.float32(row / 2 - 1)
            for name in DIMS:
                wanted = made[name][row]
                assert split.features[f"{name}_length"][i] == len(wanted)
                np.testing.assert_array_equal(split.features[name][i, : len(wanted)], wanted)
                assert not split.features[name][i, len(wanted) :].any()
            row += 1


@pytest.mark.parametrize("ending", [".pkl", ".npz"])
def test_a_file_comes_back(ending, tmp_path):
    content = testing.mmsa_content(unimodal=True)
    path = tmp_path / f"my{ending}"
    if ending == ".pkl":
        testing.write(path, content)
    else:
        flat = {f"{s}/{k}": v for s, split in content.items() for k, v in split.items()}
        np.savez(path, **flat)
    for _ in range(2):  # made, then found
        data.prepare_own("my_data2", path, tmp_path / "out")
    splits = data.load("my_data2", data_dir=tmp_path / "out")
    for name, split in data.load(path).items():
        assert splits[name].fingerprint() == split.fingerprint()
        assert splits[name].ids == split.ids and len(split.unimodal) == 3
    with pytest.raises(ValueError, match="my_data2 has no configs"):
        data.load("my_data2", data_dir=tmp_path / "out", config="a")


def test_whole_numbers_are_classes(tmp_path):
    write_folder(tmp_path / "in", label=lambda row: row % 3)
    data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    labels = data.load("mine", data_dir=tmp_path / "out")["train"].labels
    assert labels.dtype == np.int32 and labels.tolist() == [0, 1, 2, 0]


def test_silence_is_counted(tmp_path):
    write_folder(tmp_path / "in")
    audio = np.load(tmp_path / "in" / "audio.npy")
    audio[2, 0] = -np.inf
    np.save(tmp_path / "in" / "audio.npy", audio)
    with pytest.warns(UserWarning, match="3 values of `audio` were -inf and became 0"):
        data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    assert not data.load("mine", data_dir=tmp_path / "out")["train"].features["audio"][2, 0].any()


def test_another_source_does_not_take_a_name(tmp_path):
    write_folder(tmp_path / "in")
    data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    path = testing.write(tmp_path / "a.pkl", testing.mmsa_content())
    with pytest.raises(ValueError, match="must be a new name.*Remove that folder"):
        data.prepare_own("mine", path, tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["", "Mine", "my-data", "../mine", "cmu_mosi", "a__b", "1a", "a/b"]
)
def test_names_that_cannot_be(name, tmp_path):
    with pytest.raises(ValueError, match="`name` must be lower case"):
        data.prepare_own(name, tmp_path, tmp_path / "out")


def at(row, **changes):
    def change(folder):
        with (folder / "label.csv").open() as file:
            lines = list(csv.DictReader(file))
        lines[row].update(changes)
        write_lines(folder, lines)

    return change


def saved(name, value):
    return lambda folder: np.save(folder / f"{name}.npy", value, allow_pickle=True)


def cut(folder):
    raw = (folder / "audio.npy").read_bytes()
    (folder / "audio.npy").write_bytes(raw[: len(raw) // 2])


def nan(folder):
    text = np.load(folder / "text.npy")
    text[8, 0, 0] = np.nan  # the last segment: found when all others have been written
    np.save(folder / "text.npy", text)


BROKEN = {
    "no label.csv": (lambda f: (f / "label.csv").unlink(), "must have splits and labels: arrays named as train/audio .* a folder of .npy with label.csv. Received: clips to predict"),
    "no table": (lambda f: (f / "label.csv").write_bytes(b"\xff\xfe\x00"), "table in UTF-8"),
    "no lines": (lambda f: (f / "label.csv").write_text("video_id,clip_id,label,mode\n"), "at least one line"),
    "no mode": (at(2, mode=""), "line 4: must have a value"),
    "another mode": (at(2, mode="holdout"), "line 4: mode must be one of.*'holdout'"),
    "an empty split": (lambda f: (at(4, mode="test")(f), at(5, mode="test")(f)), "None: valid"),
    "a label of words": (at(3, label="good"), "line 5: label must be a finite number.*'good'"),
    "a NaN label": (at(3, label="nan"), "line 5: label must be a finite number"),
    "an id twice": (at(1, video_id="train0", clip_id="000"), "line 3: 'train0.*must be there once"),
    "a path as id": (at(0, video_id="../.."), "ids must be names of files"),
    "no arrays": (lambda f: [path.unlink() for path in f.glob("*.npy")], "There must be .*audio.npy .* or a file audio/"),
    "a file too few": (lambda f: ((f / "audio.npy").unlink(), (f / "audio").mkdir()), "There must be .*audio.npy, or a file audio/.*Received: 9 missing"),
    "cut off": (cut, "audio.npy must be a whole file of numpy"),
    "objects": (saved("audio", np.array([None] * 9, object)), "audio.npy must be a whole file"),
    "rank 2": (saved("vision", np.ones((9, 2))), r"vision.npy must be a numeric array \(N, steps"),
    "strings": (saved("vision", np.full((9, 2, 2), "1")), "must be a numeric array"),
    "complex": (saved("vision", np.ones((9, 2, 2), complex)), "numbers or strings"),
    "other N": (saved("vision", np.ones((8, 2, 2))), "each of 9 lines.*Received: 8"),
    "NaN": (nan, "`text` must be finite"),
    "lengths beyond": (saved("audio_lengths", np.full(9, 7)), r"in 0..6, the steps of audio.npy"),
    "lengths of floats": (saved("audio_lengths", np.ones(9)), "must hold 9 whole numbers"),
    "tokens of rank 2": (saved("text_bert", np.ones((9, 3), int)), r"\(9, 3, steps\)"),
    "a mask of 2": (saved("text_bert", np.full((9, 3, 4), 2)), "a mask of 0 and 1"),
}  # fmt: skip


HEADER = ["video_id", "clip_id", "text", "label", "label_T", "mode"]
ROWS = [
    ["v0", "0", "hi, all", "-0.5", "0.25", "train"],
    ["v1", "1", "yes", "1.5", "", "valid"],
    ["v2", "2", "no", "2.0", "1", "test"],
]


def table(separator=",", decimal=".", header=HEADER, rows=ROWS, quote=True, end="\n"):
    """The same three lines as one program or another saves them."""

    def cell(value, column):
        if column.startswith("label"):
            value = value.replace(".", decimal)
        return f'"{value}"' if quote and (separator in value or decimal == separator) else value

    lines = [separator.join(header)]
    lines += [separator.join(map(cell, row, HEADER)) for row in rows]
    return end.join(lines) + end


def put(column, value):
    """The rows with something else in a column."""
    at = HEADER.index(column)
    return [[*row[:at], value(row[at]), *row[at + 1 :]] for row in ROWS]


TABLES = {
    "commas": table(),
    "a byte order mark": "\ufeff" + table(),
    "lines as on Windows": table(end="\r\n"),
    "lines as on old Macs": table(end="\r"),
    "semicolons": table(";"),
    "semicolons, decimal commas": table(";", ","),
    "tabs, decimal commas": table("\t", ","),
    "commas, decimal commas in quotes": table(",", ","),
    "bars": table("|"),
    "Excel's first line": "sep=;\n" + table(";", ","),
    "blanks": table(", ", header=HEADER, quote=True).replace(",,", ", ,"),
    "blanks around": table(" ; "),
    "quoted names": table(header=[f'"{name}"' for name in HEADER]),
    "names in capitals": table(header=[name.upper() for name in HEADER]),
    "names with blanks": table(header=["Video ID", "Clip-ID", "Text", "Label", "Label T", "Mode"]),
    "split for mode": table(header=[*HEADER[:-1], "Split"]),
    "modes in capitals": table(rows=put("mode", str.title)),
    "other words for modes": table(rows=put("mode", {"train": "training", "valid": "DEV", "test": "Testing"}.get)),
    "empty lines": table().replace("\n", "\n\n"),
    "lines of separators": table(";") + ";;;;;\n",
    "empty columns behind": table(";").replace("\n", ";;\n"),
    "another column": table(header=[*HEADER, "speaker, or so"][:6]).replace("mode\n", "mode,speaker\n"),
    "a minus of typesetters": table(rows=put("label", lambda value: value.replace("-", "\N{MINUS SIGN}"))),
}  # fmt: skip


def three_clips(folder, raw):
    folder.mkdir(exist_ok=True)
    (folder / "label.csv").write_bytes(raw)
    np.save(folder / "audio.npy", np.ones((3, 2, 2)))


@pytest.mark.filterwarnings("ignore:.*has no `vision`")
@pytest.mark.parametrize("name", [*TABLES, "UTF-16", "UTF-16, big endian"])
def test_tables_however_they_were_saved(name, tmp_path):
    text = TABLES.get(name, "\ufeff" + table("\t"))
    coding = {"UTF-16": "utf-16-le", "UTF-16, big endian": "utf-16-be"}.get(name, "utf-8")
    three_clips(tmp_path / "in", text.encode(coding))
    data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    splits = data.load("mine", data_dir=tmp_path / "out")
    assert [split.labels.tolist() for split in splits.values()] == [[-0.5], [1.5], [2.0]]
    assert [split.ids for split in splits.values()] == [["v0$_$0"], ["v1$_$1"], ["v2$_$2"]]
    lone = [split.unimodal["text"][0] for split in splits.values()]
    np.testing.assert_array_equal(lone, np.float32([0.25, np.nan, 1]))
    assert data.label_lines(tmp_path / "in")[0]["text"] == "hi, all"
    assert data.unlabelled(tmp_path / "in").ids == ["v0$_$0", "v1$_$1", "v2$_$2"]


MELD = "Sr No.,Utterance,Emotion\n1,hi,joy\n"
NO_TABLES = {
    "MELD's": (MELD, r"the columns video_id, clip_id, label, mode. Received: 'Sr No.', 'Utterance', 'Emotion', separated by commas. Missing: video_id, clip_id, label, mode"),
    "semicolons": (MELD.replace(",", ";"), "'Utterance', 'Emotion', separated by semicolons"),
    "tabs": (MELD.replace(",", "\t"), "'Utterance', 'Emotion', separated by tabs"),
    "one column too few": (table().replace("mode", "fold"), "'label_T', 'fold', separated by commas. Missing: mode"),
    "a name twice": (table(header=[*HEADER[:2], "label", *HEADER[3:]]), r"each column once. Received: .'label'. twice"),
    "no names": ("v0,0,hi,0.5,train\n", r"Received: 'v0', '0', 'hi', '0.5', 'train', separated by commas"),
    "decimal commas that part columns": (table(decimal=",", quote=False), "line 2: must have a value for each of 6 columns.*must stand in quotes"),
    "thousands": (table(rows=put("label", lambda _: "1,000")), r"line 2: label must be a finite number. Received: '1,000'"),
    "labels of words": (table(rows=put("label", lambda _: "joy")), r"line 2: label must be a finite number. Received: 'joy'. Number classes from 0 on"),
    "no label": (table(rows=put("label", lambda _: "")), r"line 2: must have a value in each of .* none in ..label... Leave out clips"),
    "a label of NaN": (table(rows=put("label", lambda _: "nan")), "line 2: label must be a finite number. Received: 'nan'"),
    "labels of a modality in words": (table(rows=put("label_T", lambda _: "good")), "line 2: label_T must be a finite number"),
    "another mode": (table(rows=put("mode", lambda _: "Holdout")), "line 2: mode must be one of .*Received: 'Holdout'"),
    "Latin 1": (table(rows=put("text", lambda _: "naïve")).encode("latin1"), "line 2 in another encoding.*Save it as CSV UTF-8"),
    "GBK": (table(rows=put("text", lambda _: "你好")).encode("gbk"), "another encoding"),
    "Excel": (zipped("xl/workbook.xml"), "a table in UTF-8. Received: an Excel workbook. Save the table as CSV"),
    "a web page": (b"<html><title>Sign in</title>", "a table in UTF-8. Received: a web page"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_TABLES)
def test_tables_that_leave_doubt_say_what_was_found(name, tmp_path):
    text, match = NO_TABLES[name]
    three_clips(tmp_path / "in", text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"^in/label.csv.*" + match):
        data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*has no `")
@pytest.mark.parametrize("stacked", [True, False])
def test_endings_in_capitals(stacked, tmp_path):
    made = write_folder(tmp_path / "in", stacked)
    for path in [*tmp_path.rglob("*.npy"), tmp_path / "in" / "label.csv"]:
        path.rename(path.with_suffix(path.suffix.upper()))
    (tmp_path / "in" / "label.CSV").rename(tmp_path / "in" / "LABEL.CSV")
    data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    row = made["audio"][0]
    audio = data.load("mine", data_dir=tmp_path / "out")["train"].features["audio"]
    np.testing.assert_array_equal(audio[0, : len(row)], row)


def test_what_features_writes_is_prepared(tmp_path):
    """Its folder, with a modality that had no extractor and tokens of each clip."""
    from keras_m3s import features

    write_lines(tmp_path, [{"video_id": f"v{row}", "clip_id": "1", "text": "hi", "label": "0.5",
                            "label_T": "" if row else "1", "mode": mode}
                           for row, mode in enumerate(("train", "valid", "test"))])  # fmt: skip

    class Words:
        name = "words"

        def __call__(self, clip):
            return np.ones((len(clip.text), 2))

        def tokens(self, clip):
            return np.ones((3, 4), int)

    report = features.extract(tmp_path, tmp_path / "features", {"text": Words()})
    for name, source in (("one", report.file), ("two", report.file.parent)):
        data.prepare_own(name, source, tmp_path / "out")
        for split in data.load(name, data_dir=tmp_path / "out").values():
            assert split.features["audio"].shape == (1, 1, 1)
            assert split.features["text"].tolist() == [[[1, 1], [1, 1]]]
            assert split.features["text_bert"].shape == (1, 3, 4)
            assert split.unimodal.keys() == {"text"}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folder_is_one_clear_error_and_nothing_is_left(name, tmp_path):
    write_folder(tmp_path / "in")
    change, match = BROKEN[name]
    change(tmp_path / "in")
    with pytest.raises((DataError, FileNotFoundError), match=match):
        data.prepare_own("mine", tmp_path / "in", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not (tmp_path / "out" / "mine").exists()
