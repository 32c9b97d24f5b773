"""From clips to features: real speech made by espeak-ng, faces drawn by hand, a run that went on."""

import csv
import importlib.util
import pickle
import re
import shutil
import sys
import wave

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data
from keras_m3s import features as library
from keras_m3s.cli.main import main
from keras_m3s.features import Clip, extract
from keras_m3s.modalities import MODALITIES
from tests.speech import speak

pytestmark = pytest.mark.once

SPOKEN = [
    ("train", "this film is very good", "2.0"), ("train", "this film is very bad", "-2.0"),
    ("train", "i like it", "1.0"), ("train", "i do not like it at all", "-1.4"),
    ("valid", "it is good", "1.2"), ("valid", "it is bad", "-1.2"),
    ("test", "very very good indeed", "2.4"), ("test", "what a bad film", "-2.0"),
]  # fmt: skip


def write_labels(folder, rows=SPOKEN):
    folder.mkdir(exist_ok=True)
    with (folder / "label.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "clip_id", "text", "label", "mode"])
        for row, (mode, text, label) in enumerate(rows):
            writer.writerow([f"{mode}_talk", f"{row}", text, label, mode])


def tone(path, seconds=0.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    sound = (8000 * np.sin(2 * np.pi * 220 * time)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())


class Means:
    """Ten-step energies of a wave: quick, and it counts how often it is asked."""

    name = "energy"

    def __init__(self):
        self.calls = []

    def __call__(self, clip):
        self.calls.append(clip.id)
        with wave.open(str(clip.file)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        return np.abs(sound[: len(sound) // 10 * 10].reshape(10, -1)).mean(1, keepdims=True)


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    write_labels(folder)
    for row, (mode, _, _) in enumerate(SPOKEN):
        tone(folder / f"{mode}_talk" / f"{row}.wav", 0.2 + row / 10)
    return folder


def test_a_failed_clip_is_left_out_and_a_second_run_goes_on(clips, tmp_path):
    broken, absent = clips / "train_talk" / "1.wav", clips / "test_talk" / "7.wav"
    whole = absent.read_bytes()
    broken.write_text("no sound")
    absent.unlink()
    seen = []
    means = Means()
    report = extract(clips, tmp_path / "out", {"audio": means}, lambda *one: seen.append(one))
    assert report.done == report.computed == 6 and len(seen) == 8
    assert sorted(report.failed) == ["test_talk$_$7", "train_talk$_$1"]
    assert "There must be a file test_talk/7" in report.failed["test_talk$_$7"]
    failures = (tmp_path / "out" / "failed.csv").read_text().splitlines()
    assert len(failures) == 3 and failures[1].startswith("train_talk$_$1,")
    assert re.search(r"test_features\.py, line \d+: Error: ", failures[1])
    assert [len(split) for split in data.load(report.file).values()] == [3, 2, 1]

    absent.write_bytes(whole)
    means.calls.clear()
    report = extract(clips, tmp_path / "out", {"audio": means})
    assert means.calls == ["train_talk$_$1", "test_talk$_$7"]  # only what was not there yet
    assert report.done == 7 and report.computed == 1
    splits = data.load(report.file)
    assert [len(split) for split in splits.values()] == [3, 2, 2]
    got = splits["test"].features["audio"][1]
    np.testing.assert_allclose(got, means(Clip("", "", "", "", absent)), rtol=1e-5)
    assert not list((tmp_path / "out").rglob(".*.npy*"))


def test_an_interrupted_run_leaves_whole_files_only(clips, tmp_path):
    class Interrupted(Means):
        def __call__(self, clip):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(clip)

    with pytest.raises(KeyboardInterrupt):
        extract(clips, tmp_path / "out", {"audio": Interrupted()})
    assert len(list((tmp_path / "out" / "audio").rglob("*.npy"))) == 3
    means = Means()
    assert extract(clips, tmp_path / "out", {"audio": means}).computed == len(means.calls) == 5


def test_changed_clips_are_computed_anew(clips, tmp_path):
    class Words:
        name = "lengths of words"

        def __call__(self, clip):
            return [[float(len(word))] for word in clip.text.split()]

    means = Means()
    both = {"audio": means, "text": Words()}
    extract(clips, tmp_path / "out", both)
    tone(clips / "valid_talk" / "4.wav", 0.9)
    rows = [*SPOKEN[:7], ("test", "a short one", "-2.0")]
    write_labels(clips, rows)
    (clips / "train_talk" / "0.wav").unlink()
    with (tmp_path / "out" / "made_from.csv").open("a") as file:
        file.write("audio,valid_talk$")  # where an earlier run was cut off
    means.calls.clear()
    report = extract(clips, tmp_path / "out", both)
    assert means.calls == ["train_talk$_$0", "valid_talk$_$4"] and report.computed == 2
    assert sorted(report.failed) == [
        "train_talk$_$0"
    ]  # what it had given is of a clip that is gone
    test = data.load(report.file)["test"]
    assert test.features["text"][1, :, 0].tolist()[:4] == [1, 5, 3, 0]
    assert extract(clips, tmp_path / "out", both).computed == 0


def test_two_kinds_of_features_do_not_mix(clips, tmp_path):
    extract(clips, tmp_path / "out", {"audio": Means()})
    other = Means()
    other.name = "loudness"
    with pytest.raises(ValueError, match="made by the same extractors.*energy.*loudness"):
        extract(clips, tmp_path / "out", {"audio": other})


def test_a_split_without_clips_gives_no_file(clips, tmp_path):
    shutil.rmtree(clips / "valid_talk")
    report = extract(clips, tmp_path / "out", {"audio": Means()})
    assert report.file is None and not (tmp_path / "out" / "features.pkl").exists()


def test_output_is_mmsas_schema_and_own_data(clips, tmp_path):
    report = extract(clips, tmp_path / "out", {"audio": Means()})
    with report.file.open("rb") as file:
        train = pickle.load(file)["train"]
    assert train["audio"].shape == (4, 10, 1) and train["audio_lengths"] == [10] * 4
    assert train["vision"].shape == (4, 1, 1) and not train["vision"].any()
    assert train["vision_lengths"] == [0] * 4
    assert train["raw_text"][0] == SPOKEN[0][1] and train["id"][3] == "train_talk$_$3"
    np.testing.assert_array_equal(train["regression_labels"], np.float32([2, -2, 1, -1.4]))


@pytest.mark.parametrize("modalities", [["audio"], ["audio", "text"]])
def test_what_is_written_can_be_prepared(modalities, clips, tmp_path):
    """The folder and its file alike, with a step of zeros for a modality without extractor."""
    summary = extract(clips, tmp_path / "out", dict.fromkeys(modalities, Means()))
    prepared = {}
    for name, source in (("folder", tmp_path / "out"), ("file", summary.file)):
        data.prepare_own(name, source, tmp_path / "data")
        prepared[name] = data.load(name, tmp_path / "data")
    for split, from_file in prepared["file"].items():
        assert prepared["folder"][split].fingerprint() == from_file.fingerprint()
        for modality in MODALITIES:
            there = modality in modalities
            assert from_file.features[modality].shape[1:] == ((10, 1) if there else (1, 1))
            assert (from_file.features[f"{modality}_length"] == (10 if there else 0)).all()


NO_HOOKS = {
    "nowhere:Thing": r"no module 'nowhere' in .*, nor is one installed",
    "os.nowhere:Thing": r"no module 'os.nowhere' in",
    "os:nothing": r"'os' \(.*os.py\) has no 'nothing'",
    "sys:nothing": r"'sys' \(built in\) has no 'nothing'",
    "os": r"Run the command with 'os:NAME'",
    "os:": r"with 'os:NAME'",
    "./mine.py": r"Received: './mine.py'. Run the command with 'mine:NAME'",
    "./mine.py:Face": r"with 'mine:Face'",
    "mine.py:Face": r"with 'mine:Face'",
    "deep/er/mine.py:Face": r"Run the command in the folder deep/er with 'mine:Face'",
    "os:sep": r"callable with a clip and have a `name`.*'os:sep', str",
    "keras_m3s.data:load": r"callable with a clip and have a `name`",
}


@pytest.mark.parametrize("path", NO_HOOKS)
def test_what_is_no_hook(path):
    with pytest.raises(ValueError, match="A hook must be") as caught:
        library.load_hook(path)
    assert re.search(NO_HOOKS[path], str(caught.value))


@pytest.fixture
def current_folder(tmp_path, monkeypatch):
    """The current folder, which is not among those of modules, as for an installed command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(tmp_path) in repr(sys.modules[name]):
            del sys.modules[name]


MINE = """class Face:
    name = 'mine'
    def __call__(self, clip):
        return [[1.0]]
"""


@pytest.mark.parametrize("path", ["my_hook:Face", "folder.my_hook:Face", "my_hook:face"])
def test_a_hook_in_the_current_folder(path, current_folder):
    (current_folder / "folder").mkdir()
    for folder in (current_folder, current_folder / "folder"):
        (folder / "my_hook.py").write_text(f"{MINE}face = Face()\n")
    assert library.load_hook(path).name == "mine"


# Source of a hook -> the line of it, and what it raised.
FAILING_HOOKS = {
    "syntax": ("\ndef f(:\n", "line 2: SyntaxError: "),
    "division": ("import math\nx = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
    "absent_module": ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
    "exit": ("import sys\nsys.exit('usage: ...')\n", "line 2: SystemExit: usage: ..."),
    "library": ("import json\n\nx = json.loads('{')\n", "line 3: JSONDecodeError: Expecting"),
    "construction": ("class Face:\n    def __init__(self):\n        self.x = {}['a']\n", "line 3: KeyError: 'a'"),
    "lines": ("raise ValueError('one\\ntwo')\n", "line 1: ValueError: one two"),
    "nothing_said": ("assert False\n", "line 1: AssertionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING_HOOKS)
def test_errors_in_a_hook_are_the_users(name, current_folder):
    source, expected = FAILING_HOOKS[name]
    (current_folder / f"hook_{name}.py").write_text(source)
    write_labels(current_folder / "clips")
    arguments = [
        "features",
        "clips",
        "--output",
        "out",
        "--no-audio",
        "--vision",
        f"hook_{name}:Face",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    file = current_folder / f"hook_{name}.py"
    assert line.startswith(f"Error: The hook 'hook_{name}:Face' failed: {file}, {expected}"), line


def test_a_class_that_takes_arguments_is_no_hook(current_folder):
    (current_folder / "with_arguments.py").write_text(
        "class Face:\n    def __init__(self, a): ...\n"
    )
    with pytest.raises(library.HookError, match="failed: TypeError: .*argument: 'a'"):
        library.load_hook("with_arguments:Face")


def test_errors_of_a_hook_at_a_clip_name_its_line(clips, current_folder):
    (current_folder / "fails_later.py").write_text(
        "import json\n\nclass Face:\n    name = 'mine'\n"
        "    def __call__(self, clip):\n        return json.loads(clip.text)\n"
    )
    summary = extract(clips, "out", {"vision": library.load_hook("fails_later:Face")})
    file = current_folder / "fails_later.py"
    assert {*summary.failed.values()} == {f"{file}, line 6: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"}  # fmt: skip


@pytest.mark.parametrize("returned", [[1.0], [[]], [[np.nan]], [["a"]]])
def test_features_of_the_wrong_kind(returned, clips, tmp_path):
    class Wrong(Means):
        def __call__(self, clip):
            return returned

    summary = extract(clips, tmp_path / "out", {"audio": Wrong()})
    assert len(summary.failed) == len(SPOKEN)
    assert re.search(
        r"must return finite numbers|could not convert", summary.failed["train_talk$_$0"]
    )


@pytest.mark.parametrize(
    ("there", "used"),
    [
        (["0.WAV"], "0.WAV"),
        (["0.Mp4"], "0.Mp4"),
        (["0.wav", "0.MP4"], "0.MP4"),
        (["0.JPG", "0.FLAC"], "0.FLAC"),
        (["0.5.MOV", "0.MOV"], "0.MOV"),
        (["00.wav", "0.txt"], None),
    ],
)
def test_endings_in_any_case(there, used, tmp_path):
    write_labels(tmp_path, [("train", "a", "1.0")])
    for folder in ("train_talk", "Raw/train_talk"):
        shutil.rmtree(tmp_path / "train_talk", ignore_errors=True)
        for name in there:
            tone(tmp_path / folder / name)
        ((clip,), _) = library.read_clips(tmp_path)
        assert clip.path == (used and tmp_path / folder / used)


def test_names_of_clips_may_hold_full_stops(tmp_path):
    tone(tmp_path / "v" / "0.5.WAV")
    (tmp_path / "label.csv").write_text("video_id,clip_id,text,label,mode\nv,0.5,a,1.0,train\n")
    ((clip,), _) = library.read_clips(tmp_path)
    assert clip.file == tmp_path / "v" / "0.5.WAV"


def test_compare_has_mmins_columns_and_averages(tmp_path):
    if importlib.util.find_spec("opensmile") is None:
        pytest.skip("opensmile is not installed")
    tone(tmp_path / "a.wav", 1.0)
    clip = Clip("", "", "", "", tmp_path / "a.wav")
    by_frame, extractor = library.ComParE(average=1), library.ComParE()
    frames, steps = by_frame(clip), extractor(clip)
    assert frames.shape[1] == steps.shape[1] == 130
    assert len(steps) == -(-len(frames) // 10) and 90 < len(frames) < 100  # 1 s, 10 ms a frame
    np.testing.assert_allclose(steps[1], frames[10:20].mean(0), rtol=1e-4, atol=1e-4)
    rest = frames[(len(steps) - 1) * 10 :]
    np.testing.assert_allclose(steps[-1], rest.mean(0), rtol=1e-4, atol=1e-4)
    assert np.median(frames[:, 0]) == pytest.approx(220, rel=0.02)  # F0final_sma, in Hz

    (tmp_path / "b.wav").write_text("no sound")
    with pytest.raises(ValueError, match="openSMILE cannot read b.wav"):
        extractor(Clip("", "", "", "", tmp_path / "b.wav"))
    extractor._process.kill()
    extractor._process.wait()
    np.testing.assert_array_equal(extractor(clip), steps)  # another process goes on
    for one in (by_frame, extractor):
        one.close()


def test_hog_sees_where_edges_run():
    pytest.importorskip("cv2")
    try:
        hog = library.FaceHOG()
    except ImportError:
        pytest.skip("OpenCV 4 is needed")
    stripes = np.tile(np.repeat([0, 255], 8), (64, 4)).astype("uint8")
    upright, lying = hog.of_face(stripes), hog.of_face(stripes.T)
    assert upright.shape == (hog.dim,) == (576,)
    energy = [one.reshape(-1, 9).sum(0) for one in (upright, lying)]
    assert energy[0].argmax() != energy[1].argmax()
    assert not hog.of_frame(np.zeros((80, 80, 3), "uint8")).any()


def test_vision_reads_video(tmp_path):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "HOGDescriptor"):
        pytest.skip("OpenCV 4 is needed")
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 64))
    for _ in range(20):
        writer.write(np.zeros((64, 64, 3), "uint8"))
    writer.release()
    hog = library.FaceHOG(rate=5)
    assert hog(Clip("", "", "", "", path)).shape == (5, 576)
    path.write_text("no video")
    with pytest.raises(ValueError, match="a.avi must have video frames"):
        hog(Clip("", "", "", "", path))


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A BERT of two layers with a vocabulary of its own, as keras-hub saves it."""
    hub = pytest.importorskip("keras_hub")
    words = sorted({word for _, text, _ in SPOKEN for word in text.split()} - {"indeed"})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder = str(tmp_path_factory.mktemp("preset"))
    hub.models.BertBackbone(len(pieces), 1, 2, 8, 16, max_sequence_length=50).save_to_preset(folder)
    hub.models.BertTokenizer(vocabulary=pieces, lowercase=True).save_to_preset(folder)
    return folder, pieces


def test_bert_states_and_tokens(preset, tmp_path):
    folder, pieces = preset
    bert = library.BertText(folder, steps=12)
    clip = Clip("", "", "", "very good indeed", None)
    tokens = bert.tokens(clip)
    wanted = [pieces.index(p) for p in ("[CLS]", "very", "good", "[UNK]", "[SEP]")]
    assert tokens.shape == (3, 12) and tokens.dtype == np.int32
    assert tokens[0].tolist() == wanted + [0] * 7 and tokens[1].sum() == 5
    states = bert(clip)
    assert states.shape == (5, 8)
    np.testing.assert_allclose(states.mean(1), 0, atol=1e-5)  # layer norm comes last
    assert library.BertText(folder, steps=12).name == bert.name
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "more.json").write_text("{}")
    assert library.BertText(str(other), steps=12).name != bert.name
    with pytest.raises(ValueError, match="`steps` must be at most 50"):
        library.BertText(folder, steps=51)


@pytest.mark.slow
def test_speech_to_a_training_run(preset, tmp_path):
    if importlib.util.find_spec("opensmile") is None:
        pytest.skip("opensmile is not installed")
    folder, out = tmp_path / "clips", tmp_path / "out"
    write_labels(folder)
    for row, (mode, text, _) in enumerate(SPOKEN):
        path = folder / "Raw" / f"{mode}_talk" / f"{row}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        speak(text, path)

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "8 clips, 0 left out; 16 sequences computed now" in run(
        "features", folder, "--output", out, "--bert", preset[0]
    )
    # The option's name in version 0.1.0.
    assert "0 sequences computed now" in run("features", folder, "--out", out, "--bert", preset[0])
    train = data.load(out / "features.pkl")["train"]
    assert train.features["audio"].shape[2] == 130 and train.features["text_bert"].shape[1:] == (
        3,
        50,
    )
    # "this film is very good" takes less than 3 s: ten frames of 10 ms are a step.
    assert 5 < train.features["audio_length"][0] < 30

    where = ["--data-dir", tmp_path / "data"]
    run("prepare", "--from", out / "features.pkl", "--name", "spoken", *where)
    table = run(
        "train",
        "--dataset",
        "spoken",
        "--method",
        "m3s",
        "--epochs",
        1,
        "--runs",
        tmp_path / "runs",
        *where,
    )
    assert "MAE" in table
