"""What a file is, by its content; `inspect` and preparation agree on it, for each layout there is."""

import functools
import pickle
import re
import shlex
import warnings

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data
from keras_m3s.cli.main import main
from tests import layouts
from tfds_builders import formats, testing
from tfds_builders.limits import DataError

pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore::UserWarning")]

PREPARE = "keras-m3s prepare "
OWN = "keras-m3s prepare --from "
LISTS = "prepare cmu_mosi --config word_lists --manual-dir"
CSD = "prepare cmu_mosi --config csd_aligned --manual-dir"


def part(make, name):
    """A file or folder of a layout, in place of the whole."""
    return lambda folder: (make(folder), folder / name)[1]


def renamed(make, name):
    return lambda folder: (path := make(folder)).rename(path.with_name(name))


def inside(name, make):
    """The same in a folder of some name."""

    def made(folder):
        (folder / name).mkdir()
        return make(folder / name)

    return made


mmsa = layouts.mmsa
partial = functools.partial

# What is read: how it is made, what `inspect` calls it, the commands that it names.
WHOLE = {
    "MMSA": (mmsa, "schema of MMSA", [OWN]),
    "MMSA, no ending": (renamed(mmsa, "features"), "schema of MMSA", [OWN]),
    "MMSA, .PKL": (renamed(mmsa, "MY.PKL"), "schema of MMSA", [OWN]),
    "MMSA, .npz": (layouts.npz, "schema of MMSA", [OWN]),
    ".npz called .pkl": (partial(layouts.npz, name="my.pkl"), "schema of MMSA", [OWN]),
    "a pickle called .npz": (renamed(mmsa, "my.npz"), "schema of MMSA", [OWN]),
    "a pickle called .h5": (renamed(mmsa, "my.h5"), "schema of MMSA", [OWN]),
    "splits val": (layouts.splits_called("train", "val", "test"), "schema of MMSA", [OWN]),
    "splits Train, Dev": (layouts.splits_called("Train", "Dev", "Test"), "schema of MMSA", [OWN]),
    "MulT": (layouts.mult, "layout of MulT", [PREPARE]),
    "MulT, names twice": (partial(layouts.mult, names=lambda split, row: split), "layout of MulT", [PREPARE]),
    "MAG-BERT": (layouts.mag_bert, "layout of MAG-BERT", [LISTS]),
    "MAG-BERT's folder": (lambda f: (layouts.mag_bert(f), f)[1], "folder of feature files", [LISTS]),
    "MISA": (layouts.lists, "lists of segments", [LISTS]),
    "MISA, one of three": (part(layouts.lists, "dev.pkl"), "list of 2 segments", [LISTS]),
    "MMSA's folder": (inside("MOSI", lambda f: layouts.mmsa_folder(f, "a.pkl")), "folder of feature files", ["prepare cmu_mosi --manual-dir"]),
    "MMSA's folder, label.csv": (inside("MOSI", lambda f: layouts.mmsa_folder(f, "a.pkl") / "label.csv"), "folder of feature files", ["prepare cmu_mosi --manual-dir"]),
    "MMSA's two pickles": (lambda f: layouts.mmsa_folder(f, "aligned_50.pkl", "unaligned_50.pkl"), "folder of feature files", [OWN, OWN]),
    "MMSA's folder above": (inside("MOSI", lambda f: layouts.mmsa_folder(f, "a.pkl", above=True)), "folder of feature files", ["prepare cmu_mosi --manual-dir .*Processed"]),
    "CH-SIMS": (partial(mmsa, bound=1, unimodal=True), "schema of MMSA", ["prepare ch_sims --manual-dir"]),
    "CH-SIMS without labels of one": (inside("SIMS", partial(mmsa, bound=1)), "schema of MMSA", ["prepare ch_sims --manual-dir"]),
    "one clip": (layouts.one_clip, "clips to predict", ["predict RUN"]),
    "one clip, tokens (3, steps)": (partial(layouts.one_clip, tokens=(3, 6)), "clips to predict", ["predict RUN"]),
    "clips": (layouts.clips, "clips to predict", ["predict RUN"]),
    "a folder of clips": (layouts.clips_folder, "clips to predict", ["predict RUN"]),
    "a folder of clips, no table": (partial(layouts.clips_folder, table=None), "clips to predict", ["predict RUN"]),
    "own data": (layouts.own, "arrays with label.csv", [OWN]),
    "own data, label.csv": (part(layouts.own, "label.csv"), "arrays with label.csv", [OWN]),
    "own data, audio.npy": (part(layouts.own, "audio.npy"), "arrays with label.csv", [OWN]),
    "own data, capitals": (partial(layouts.own, spelled=str.upper), "arrays with label.csv", [OWN]),
    "own data, text alone": (partial(layouts.own, modalities=("text",)), "arrays with label.csv", [OWN]),
    "recordings": (layouts.recordings, "recordings with label.csv", ["keras-m3s features"]),
    "recordings, no Raw": (partial(layouts.recordings, ending=".mp4", inside=""), "recordings with label.csv", ["keras-m3s features"]),
    "the SDK's": (layouts.csd, "CMU-MultimodalSDK", [CSD, "csd_unaligned"]),
    "the SDK's, as .h5": (partial(layouts.csd, ending=".h5"), "CMU-MultimodalSDK", [CSD, "csd_unaligned"]),
    "the SDK's, one": (part(layouts.csd, "CMU_MOSI_COVAREP.csd"), "a computational sequence", [CSD, "csd_unaligned"]),
    "the SDK's, by word": (layouts.csd_by_word, "CMU-MultimodalSDK", [CSD, "csd_unaligned"]),
    "the SDK's, by segment": (part(layouts.csd_by_segment, "CMU_MOSI_COVAREP.csd"), "MultimodalSDK, aligned", [CSD, "csd_unaligned"]),
    "sensors, .npz": (layouts.sensors_npz, "arrays with splits", [OWN]),
    "sensors, a folder": (layouts.sensors_folder, "arrays with splits", [OWN]),
    "sensors, CSV": (layouts.sensors_table, "arrays with splits", [OWN]),
    "sensors, Parquet": (partial(layouts.sensors_table, name="rows.parquet"), "arrays with splits", [OWN]),
    "sensors, the table": (part(layouts.sensors_table, "rows.csv"), "arrays with splits", [OWN]),
    "sensors to predict, .npy": (layouts.example_folder, "clips to predict", ["keras-m3s predict"]),
    "sensors to predict, CSV": (partial(layouts.sensors_table, labels=False), "clips to predict", ["keras-m3s predict"]),
    "SP-SW-HAR": (layouts.sp_sw_har, "a smartphone and a smartwatch", ["prepare sp_sw_har --manual-dir"]),
    "SP-SW-HAR, DATA": (part(layouts.sp_sw_har, "DATA"), "a smartphone and a smartwatch", ["prepare sp_sw_har --manual-dir"]),
    "PhysioNet 2012": (layouts.physionet2012, "PhysioNet challenge 2012", ["prepare physionet2012 --manual-dir"]),
    "IEMOCAP": (layouts.iemocap, "MMIN's authors", ["prepare iemocap --manual-dir"]),
    "IEMOCAP, fold 3 alone": (partial(layouts.iemocap, folds=(3,)), "MMIN's authors", ["prepare iemocap --config fold3"]),
    "IEMOCAP, a file": (part(layouts.iemocap, "V/denseface.h5"), "an array for each utterance", ["prepare iemocap"]),
}  # fmt: skip


def run_named(command, tmp_path):
    """Does what the command would, without a trained run or extractors."""
    words = shlex.split(command)
    if words[1] == "predict":
        clips = data.unlabelled(words[3])
        assert all(clips.sequence(m, 0).ndim in (1, 2) for m in clips.features if m != "text_bert")
    elif words[1] == "features":
        assert data.label_lines(words[2])
    else:
        arguments = ["mine" if word == "NAME" else word for word in words[1:]]
        result = CliRunner().invoke(main, [*arguments, "--data-dir", str(tmp_path / "data")])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", WHOLE)
def test_what_inspect_names_works(name, tmp_path):
    make, kind, commands = WHOLE[name]
    if "MAG-BERT" in name:
        pytest.importorskip("keras_hub")
    (tmp_path / "in put").mkdir()  # a blank, which the shell must not part
    found = data.inspect(make(tmp_path / "in put"))
    assert not found.problems and kind in found.kind and found.holds
    assert len(found.commands) == len(commands)
    for command, wanted in zip(found.commands, commands, strict=True):
        assert re.search(wanted, command), command
    run_named(found.commands[0], tmp_path)


def changed(change, make=mmsa):
    """A layout whose pickle is changed."""

    def made(folder):
        path = make(folder)
        content = pickle.loads(path.read_bytes())
        change(content)
        return testing.write(path, content)

    return made


def without(make, *names):
    def made(folder):
        path = make(folder)
        for name in names:
            (folder / name).unlink()
        return path

    return made


def hdf5(folder, name="mine.h5"):
    with h5py.File(folder / name, "w") as file:
        file.create_group("train")["audio"] = np.ones((2, 3, 4))
        file.create_group("test")
    return folder / name


# What is not read: how it is made, what it is called, what is wrong.
BROKEN = {
    **{f"{name}: as .pkl": (layouts.file("my.pkl", content), "", match) for name, (content, match) in layouts.OTHER_FILES.items()},
    **{f"{name}: as .npz": (layouts.file("my.npz", content), "", match) for name, (content, match) in list(layouts.OTHER_FILES.items())[::3]},
    **{f"{name}: as .csd": (layouts.file("my.csd", content), "", match) for name, (content, match) in list(layouts.OTHER_FILES.items())[1::3]},
    **{f"{name}: as .dat": (layouts.file("my.dat", content), "", match) for name, (content, match) in list(layouts.OTHER_FILES.items())[2::3]},
    "HDF5 called .pkl": (partial(hdf5, name="my.pkl"), "HDF5", r"an HDF5 file. It has .'test', 'train'..*numpy.savez"),
    "MMSA without a split": (changed(lambda c: c.pop("valid")), "schema of MMSA", r"Missing: .'valid'"),
    "a split of rows": (changed(lambda c: c.update(test=[1, 2])), "schema of MMSA", "test: a split must be a dict of arrays. Received: list of 2 int, the first 1"),
    "no modality": (changed(lambda c: [[raw.pop(m) for m in ("audio", "vision", "text", "text_bert")] for raw in c.values()]), "schema of MMSA", "one of"),
    "audio by another name": (changed(lambda c: [raw.update(acoustic=raw.pop("audio")) for raw in c.values()]), "schema of MMSA", "Missing: .'audio'.*If `acoustic` is `audio`, call it so"),
    "another dict": (lambda f: testing.write(f / "a.pkl", {"a": 3}), "a pickle", r"dict with keys .'a'.*dict of the splits train, valid and test"),
    "a number": (lambda f: testing.write(f / "a.pkl", 3), "a pickle", "Received: a pickle, int 3"),
    "MulT's IEMOCAP": (partial(layouts.mult, form=(4, 2)), "layout of MulT", r"one number a segment, shape .N,.. Received: array .4, 4, 2."),
    "MAG-BERT alone": (partial(layouts.mag_bert, vocabulary=False), "layout of MAG-BERT", "Missing: vocab.txt of bert-base-uncased for the words of mosi.pkl"),
    "MISA, one file alone": (without(part(layouts.lists, "dev.pkl"), "train.pkl"), "list of 2 segments", "Missing: train.pkl"),
    "MISA without words": (without(layouts.lists, "embeddings.npy"), "lists of segments", "Missing: vocab.txt of bert-base-uncased, or a table embeddings.npy"),
    "MISA, another name": (lambda f: (layouts.lists(f) / "dev.pkl").rename(f / "other.pkl"), "list of 2 segments", "Missing: dev.pkl"),
    "the SDK's, labels alone": (without(part(layouts.csd, "CMU_MOSI_Opinion_Labels.csd"), "CMU_MOSI_COVAREP.csd"), "a computational sequence", "one .csd file each of word vectors, COVAREP"),
    "recordings, a clip without a label": (lambda f: (layouts.recordings(f), (f / "label.csv").write_text(f"{layouts.TABLE}v,0001,hi,,train\n"), f)[2], "recordings", "line 2: must have a value.*none in .'label'"),
    "an empty folder": (lambda f: f, "a folder", "a folder with ..[.]"),
    "a folder of other things": (lambda f: ((f / "notes.txt").write_text("hi"), f)[1], "a folder", "a folder with .'notes.txt'"),
    "a folder with label.csv": (lambda f: ((f / "label.csv").write_text(f"{layouts.TABLE}v,1,hi,0.5,train\n"), f)[1], "arrays with label.csv", "There must be .*audio.npy"),
    "IEMOCAP without text": (without(layouts.iemocap, "L/bert_large.h5"), "MMIN's authors", "Missing: .'L/bert_large.h5'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_inspect_refuses_preparation_refuses_alike(name, tmp_path):
    make, kind, match = BROKEN[name]
    path = make(tmp_path)
    found = data.inspect(path)
    assert kind in found.kind and not found.commands
    assert re.search(match, found.problems[0]), found.problems[0]
    with pytest.raises((DataError, FileNotFoundError)) as error:
        data.prepare_own("mine", path, tmp_path / "data")
    assert str(error.value) == found.problems[0]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["MISA", "the SDK's", "IEMOCAP", "clips", "recordings"])
def test_own_data_of_another_layout_is_told_the_command(name, tmp_path):
    make, _, _ = WHOLE[name]
    path = make(tmp_path)
    wanted = data.inspect(path).commands[0]
    with pytest.raises(DataError) as error:
        data.prepare_own("mine", path, tmp_path / "data")
    assert f"`{wanted}`" in str(error.value)


def test_what_is_wrong_is_said_all_at_once(tmp_path):
    def change(content):
        content["train"]["text"][0, 0, 0] = np.nan
        content["valid"]["audio_lengths"][0] = 99
        content["valid"]["regression_labels"] = ["0.5", "-2.82"]
        content["test"]["vision"] = content["test"]["vision"][:-1]

    problems = data.inspect(changed(change)(tmp_path)).problems
    assert len(problems) == 4
    for key, problem in zip(
        ("text", "regression", "audio_lengths", "vision"), problems, strict=False
    ):
        assert f"`{key}" in problem or key in problem


def test_of_many_problems_the_first_are_listed(tmp_path):
    lines = "".join(f"v,{row},hi,good,train\n" for row in range(50))
    (tmp_path / "label.csv").write_text(layouts.TABLE + lines.replace(",train", ",holdout"))
    problems = data.inspect(tmp_path).problems
    assert len(problems) == 21 and problems[-1] == "and 30 more of the kind."


# --- The formats themselves -----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("content", [{"a": [1.5, "x"]}, [], "words.", 3, (np.ones(2), b"y")])
def test_pickles_of_every_protocol_are_pickles(protocol, content, tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol))
    assert formats.sniff(tmp_path / "a").name == formats.PICKLE


@pytest.mark.parametrize("name", layouts.OTHER_FILES)
def test_what_to_do_is_one_sentence(name, tmp_path):
    content, match = layouts.OTHER_FILES[name]
    (tmp_path / "a").write_bytes(content)
    known = formats.sniff(tmp_path / "a")
    assert known.name not in (formats.PICKLE, formats.NPZ, formats.HDF5)
    assert re.search(match, f"{known.title}. {known.advice}")
    with pytest.raises(DataError, match="must be a whole pickle file. Received: "):
        formats.check(tmp_path / "a", formats.PICKLE, "a whole pickle file")


def test_a_file_is_called_by_its_folder(tmp_path):
    """Two releases have files of one name."""
    (tmp_path / "first").mkdir()
    path = testing.write(tmp_path / "first" / "train.pkl", testing.mmsa_content())
    path.write_bytes(path.read_bytes()[:-9])
    assert "first/train.pkl must be a whole pickle" in data.inspect(path).problems[0]


# --- Layouts --------------------------------------------------------------------------------------


def test_mult_brings_back_what_was_written(tmp_path):
    path = layouts.mult(tmp_path)
    written = pickle.loads(path.read_bytes())
    for split, found in data.load(path).items():
        np.testing.assert_array_equal(found.labels, written[split]["labels"].ravel().astype("f4"))
        assert found.ids == [row[0].decode() for row in written[split]["id"]]
        np.testing.assert_array_equal(found.features["text"], written[split]["text"].astype("f4"))
    path = layouts.mult(tmp_path, names=lambda split, row: split)
    assert data.load(path)["valid"].ids == ["valid$_$0.1", "valid$_$1.1"]


def test_mag_bert_brings_back_what_was_written(tmp_path):
    pytest.importorskip("keras_hub")
    written = pickle.loads(layouts.mag_bert(tmp_path).read_bytes())
    splits = data.load("cmu_mosi", tmp_path / "data", tmp_path, "word_lists")
    for split, key in (("train", "train"), ("valid", "dev"), ("test", "test")):
        found = splits[split]
        assert found.ids == [f"{key}$_${row}" for row in range(len(written[key]))]
        for row, ((_, vision, audio), label, _) in enumerate(written[key]):
            np.testing.assert_array_equal(found.features["vision"][row], vision.astype("f4"))
            np.testing.assert_array_equal(found.features["audio"][row], audio.astype("f4"))
            assert found.labels[row] == np.float32(label[0, 0])
        assert found.features["text_bert"][0, 0, :4].tolist() == [
            2,
            5,
            1,
            3,
        ]  # [CLS] good [UNK] [SEP]


@pytest.mark.parametrize("make", [layouts.csd_by_word, layouts.csd_by_segment])
def test_the_sdk_before_and_after_its_alignment(make, tmp_path):
    for name, write in (("before", layouts.csd), ("after", make)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    before, after = (
        data.load("cmu_mosi", tmp_path / "data" / name, tmp_path / name, "csd_aligned")
        for name in ("before", "after")
    )
    for split, wanted in before.items():
        found = after[split]
        assert found.ids == wanted.ids
        np.testing.assert_array_equal(found.labels, wanted.labels)
        for key, array in wanted.features.items():
            np.testing.assert_allclose(found.features[key], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [(6, 3), (3, 6)])
def test_one_clip_of_mmsa_fet(tokens, tmp_path):
    path = layouts.one_clip(tmp_path, tokens)
    written = pickle.loads(path.read_bytes())
    clips = data.unlabelled(path)
    assert clips.ids == ["feature"] and clips.features["text_bert"].shape == (1, 3, 6)
    for name in ("audio", "vision", "text"):
        np.testing.assert_array_equal(clips.sequence(name, 0), written[name].astype("f4"))


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"audio": np.ones((2, 12))}, r"`array\[:, None\]`; .*one clip alone are `array\[None\]`"),
        ({"audio": np.ones((4, 3)), "text": np.ones((4, 5))}, r"one step, `array\[:, None\]`"),
        ({"audio": np.ones((4, 3)), "text": np.ones((4, 5)), "id": np.array(list("abcd"))}, r"\[:, None\]"),
    ],
)  # fmt: skip
def test_rows_that_may_be_clips_or_steps_are_not_guessed(arrays, match, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=match):
        data.unlabelled(tmp_path / "a.npz")


def test_which_of_both_pickles_an_option_chooses(tmp_path):
    (tmp_path / "MOSI").mkdir()
    layouts.mmsa_folder(tmp_path / "MOSI", "aligned_50.pkl", "unaligned_50.pkl", above=True)
    with pytest.raises(FileNotFoundError, match="--config unaligned_50.* or .*--config aligned_50"):
        data.prepare("cmu_mosi", tmp_path / "data", tmp_path / "MOSI" / "Processed")
    with pytest.raises(FileNotFoundError, match=r"--manual-dir \S+/Processed`.*--config unaligned"):
        data.prepare("cmu_mosi", tmp_path / "data", tmp_path / "MOSI")
    (tmp_path / "MOSI" / "Processed" / "aligned_50.pkl").rename(
        tmp_path / "MOSI" / "Processed" / "mine.pkl"
    )
    with pytest.raises(FileNotFoundError, match=r"For mine.pkl: `keras-m3s prepare --from"):
        data.prepare("cmu_mosi", tmp_path / "data", tmp_path / "MOSI" / "Processed")


def test_an_archive_in_the_manual_directory_is_named(tmp_path):
    (tmp_path / "Processed.zip").write_bytes(layouts.zipped("unaligned_50.pkl"))
    with pytest.raises(FileNotFoundError, match=r"Processed.zip is a ZIP archive.*unzip"):
        data.prepare("cmu_mosi", tmp_path / "data", tmp_path)


def test_a_path_in_place_of_a_name(tmp_path):
    path = layouts.mmsa(tmp_path)
    result = CliRunner().invoke(main, ["prepare", str(path)])
    assert result.exit_code == 2 and f"prepare --from {path} --name NAME" in result.output


def test_inspect_warns_of_nothing_itself(tmp_path):
    """All-NaN columns made numpy warn."""
    change = changed(lambda c: c["train"].update(regression_labels_T=np.full(4, np.nan)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.inspect(change(tmp_path))
