"""Prediction of clips with anything missing: against the model itself, and shares worked out by hand."""

import csv
import io
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data
from keras_m3s.cli.main import main
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import RunModel, predictions
from keras_m3s.inference import clips as clip_inputs
from keras_m3s.inference import export as exporting
from keras_m3s.modalities import MODALITIES
from tests import untrained_runs
from tests.small import classes, small
from tfds_builders import testing

# Where building a model takes long, the one that gives classes will do.
MODELS = untrained_runs.SMALL if keras.backend.backend() == "torch" else ("mmin",)


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    run, splits = untrained_runs.make(tmp_path_factory.mktemp("runs"), request.param)
    return RunModel(run), splits["test"]


@pytest.fixture(scope="module")
def misa(tmp_path_factory):
    return untrained_runs.make(tmp_path_factory.mktemp("runs"), "misa")


def arrays(split, keys=MODALITIES):
    lengths = {f"{m}_lengths": split.features[f"{m}_length"] for m in keys}
    return {"id": np.array(split.ids), **{m: split.features[m] for m in keys}, **lengths}


def saved(path, **content):
    np.savez(path, **content)
    return path


def predicted(model, path, **options):
    return list(predictions.rows(model, data.unlabelled(path), **options))


def test_whole_clips_are_predicted_as_by_the_model(made, tmp_path):
    model, split = made
    found = predicted(model, saved(tmp_path / "a.npz", **arrays(split)), batch_size=4)
    outputs = model.model.predict(split.features, verbose=0)
    expected = outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(-1)
    assert [row["id"] for row in found] == split.ids
    np.testing.assert_allclose([row["prediction"] for row in found], expected, atol=1e-6)
    assert all(row[f"missing_{m}"] == 0 for row in found for m in MODALITIES)


@pytest.mark.parametrize("absent", MODALITIES)
def test_an_absent_modality_is_a_hole_over_all_of_it(made, absent, tmp_path):
    model, split = made
    rest = [m for m in MODALITIES if m != absent]
    found = predicted(model, saved(tmp_path / "a.npz", **arrays(split, rest)))
    assert all(row[f"missing_{absent}"] == 1 for row in found)
    assert all(row[f"missing_{m}"] == 0 for row in found for m in rest)
    zeros = arrays(split)
    zeros[absent] = np.zeros_like(zeros[absent])
    del zeros[f"{absent}_lengths"]
    again = predicted(model, saved(tmp_path / "b.npz", **zeros))
    assert again == found
    assert np.isfinite([row["prediction"] for row in found]).all()


LACKING = [("misa", ("audio",)), ("misa", ("audio", "vision")), ("misa", ("text",)),
           ("mmim", ("vision",)), ("self_mm", ("audio",)), ("mmin", ("vision", "audio"))]  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize(("name", "absent"), LACKING)
def test_a_modality_that_training_lacked_stays_as_in_training(name, absent, tmp_path):
    """Clips without it, and clips with the stand-in that data sets have for it."""
    whole = data.load("synthetic_msa", tmp_path / "data", config="tiny")
    run, splits = untrained_runs.of(tmp_path, name, untrained_runs.without(whole, absent))
    model, split = RunModel(run), splits["test"]
    outputs = model.model.predict(split.features, verbose=0)
    expected = outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(-1)
    rest = [m for m in MODALITIES if m not in absent]
    for keys in (rest, MODALITIES):
        found = predicted(model, saved(tmp_path / "a.npz", **arrays(split, keys)))
        np.testing.assert_allclose([row["prediction"] for row in found], expected, atol=1e-6)
        for row in found:
            assert {m: row[f"missing_{m}"] for m in MODALITIES} == {
                m: m in absent for m in MODALITIES
            }


@pytest.mark.once
@pytest.mark.parametrize("present", [("text",), ("audio", "text")])
def test_data_without_a_modality_from_file_to_predictions(present, tmp_path):
    content = testing.mmsa_content(unimodal=False)
    flat = {
        f"{name}/{key}": value
        for name, split in content.items()
        for key, value in split.items()
        if key.partition("_lengths")[0] in (*present, "id", "regression_labels")
    }
    source, clips = saved(tmp_path / "own.npz", **flat), tmp_path / "clips.npz"
    saved(clips, **{m: content["test"][m] for m in present}, id=content["test"]["id"])
    where = ["--data-dir", tmp_path / "prepared"]
    train = ["--method", "m3s", "--epochs", 1, "--batch-size", 2, "--runs", tmp_path / "runs"]
    for arguments in (
        ["prepare", "--from", source, "--name", "own", *where],
        ["train", "--dataset", "own", *train, *where],
    ):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    result = CliRunner().invoke(main, ["predict", str(run), str(clips)])
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    split = data.load("own", tmp_path / "prepared")["test"]
    expected = RunModel(RunDirectory(run)).model.predict(split.features, verbose=0)[:, 0]
    np.testing.assert_allclose([float(row["prediction"]) for row in table], expected, atol=1e-6)
    absent = {m: "1.0" if m not in present else "0.0" for m in MODALITIES}
    assert all({m: row[f"missing_{m}"] for m in MODALITIES} == absent for row in table)


@pytest.mark.once
def test_a_trained_mmin_predicts_without_a_modality(tmp_path):
    """Its teacher is built before the model sees a batch; the steps of the data count even so."""
    splits = data.load("synthetic_msa", tmp_path / "data", config="tiny")
    splits = classes(untrained_runs.without(splits, ("vision",)))
    experiment, run = small("mmin", "orig", epochs=1), RunDirectory(tmp_path / "run")
    run_experiment(experiment, run, splits)
    model, test = RunModel(run), splits["test"]
    assert {m: model.shapes[m] for m in MODALITIES} == {
        m: test.features[m].shape[1:] for m in MODALITIES
    }
    found = predicted(model, saved(tmp_path / "a.npz", **arrays(test, ("audio", "text"))))
    expected = model.model.predict(test.features, verbose=0).argmax(-1)
    assert [row["prediction"] for row in found] == expected.tolist()
    # As a run of version 0.1.0, which kept no number of steps.
    model.shapes = {
        key: (None, *shape[1:]) if key in MODALITIES else shape
        for key, shape in model.shapes.items()
    }
    again = predicted(model, tmp_path / "a.npz")
    assert [row["prediction"] for row in again] == expected.tolist()
    with pytest.raises(ValueError, match="must tell the number of steps .* a run of mmin"):
        exporting.random_inputs(model, 1, seed=0)


@pytest.mark.once
def test_the_share_that_is_missing(misa, tmp_path):
    """Of 10 true steps: 3 of zeros, 1 with a NaN; a length of 0 is all missing."""
    run, splits = misa
    content = {m: np.ones_like(splits["test"].features[m][:2]) for m in MODALITIES}
    content["audio"][0, 2:5] = 0
    content["audio"][0, 7, 1] = np.nan
    content["audio"][:, 10:] = 0
    content["vision"][1] = 0
    content["vision_lengths"] = np.array([10, 0])
    first, second = predicted(
        RunModel(run), saved(tmp_path / "a.npz", **content, audio_lengths=[10, 10])
    )
    assert [first[f"missing_{m}"] for m in MODALITIES] == [0.4, 0, 0]
    assert [second[f"missing_{m}"] for m in MODALITIES] == [0, 1, 0]


@pytest.mark.once
def test_words_that_are_unknown_are_missing():
    ids = [[101, 7, 100, 8, 100, 102, 0], [101, 102, 0, 0, 0, 0, 0]]
    mask = [[1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0]]
    tokens = np.stack([np.array(ids), np.array(mask), np.zeros((2, 7), int)], axis=1)
    assert clip_inputs._share_of_unknown_words(tokens).tolist() == [0.5, 1.0]


@pytest.mark.once
def test_the_kinds_of_input_give_the_same(misa, tmp_path):
    run, splits = misa
    model, split = RunModel(run), splits["test"]
    content = arrays(split)
    found = predicted(model, saved(tmp_path / "a.npz", **content))
    assert found == predicted(model, testing.write(tmp_path / "a.pkl", content))
    parts = {f"test/{key}": value for key, value in content.items()}
    assert found == predicted(model, saved(tmp_path / "b.npz", **parts))
    folder = tmp_path / "folder"
    for i, name in enumerate(split.ids):
        video, clip = name.split("$_$")
        for m in MODALITIES:
            if (m, i) == ("vision", 1):
                continue  # this clip has none
            (folder / m / video).mkdir(parents=True, exist_ok=True)
            length = split.features[f"{m}_length"][i]
            np.save(folder / m / video / f"{clip}.npy", split.features[m][i, :length])
    lines = [",".join(name.split("$_$")) for name in split.ids]
    (folder / "label.csv").write_text("\n".join(["video_id,clip_id", *lines]) + "\n")
    ragged = predicted(model, folder, batch_size=2)
    assert ragged[1]["missing_vision"] == 1 and found[1]["missing_vision"] == 0
    for a, b in zip(found, ragged, strict=True):
        if a["id"] != split.ids[1]:
            assert a["prediction"] == pytest.approx(b["prediction"], abs=1e-6)


@pytest.mark.once
def test_the_command(misa, tmp_path):
    run, splits = misa
    path = saved(tmp_path / "a.npz", **arrays(splits["test"], ["audio"]))

    def call(*options):
        return CliRunner().invoke(main, ["predict", str(run.path), str(path), *map(str, options)])

    result = call()
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    lines = [json.loads(line) for line in call("--format", "jsonl").stdout.splitlines()]
    assert [row["id"] for row in table] == [row["id"] for row in lines] == splits["test"].ids
    assert [float(row["prediction"]) for row in table] == [row["prediction"] for row in lines]
    assert table[0]["missing_text"] == "1.0"

    out = tmp_path / "out.csv"
    assert call("--output", out).exit_code == 0
    assert out.read_text() == result.stdout
    wrong = arrays(splits["test"], ["audio"])
    wrong["audio"][-1, 0, 0] = np.inf  # after most has been written
    saved(path, **wrong)
    failed = call("--output", out, "--batch-size", 2)
    assert failed.exit_code == 1 and "infinite values" in failed.stderr
    assert out.read_text() == result.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "out.csv"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"audio": np.ones((2, 12, 5))}, "`audio` must have 3 columns.*Received: 5.*leave `audio`"),
        ({"text_bert": np.ones((2, 3, 8), int)}, "must hold at least one of.*which the model reads"),
        ({"other": np.ones(3)}, "must hold at least one of"),
        ({"audio": np.ones((2, 12, 3)), "vision": np.ones((3, 10, 4))}, "the same number of clips"),
        ({"audio": np.ones((2, 12))}, "must be one numeric array"),
        ({"audio": np.ones((2, 12, 3)), "audio_lengths": np.array([12, 5])}, "must cover all steps"),
        ({"audio": np.ones((2, 12, 3)), "audio_lengths": np.array([12])}, "2 whole numbers"),
        ({"audio": np.ones((2, 12, 3)), "id": np.array(["a"])}, "must name each clip"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted(misa, tmp_path, content, message):
    model = RunModel(misa[0])
    with pytest.raises(ValueError, match=message):
        predicted(model, saved(tmp_path / "a.npz", **content))


@pytest.mark.once
def test_what_is_no_run_or_no_input(misa, tmp_path):
    run, _ = misa
    for arguments, message in (
        ((tmp_path, tmp_path), "must hold experiment.json"),
        ((run.path, tmp_path / "no.npz"), "There must be a file or a folder"),
        ((run.path, run.path / "experiment.json"), "must be a .pkl, a .npz or a folder"),
    ):
        result = CliRunner().invoke(main, ["predict", *map(str, arguments)])
        assert result.exit_code == 1 and message in result.stderr, result.output
