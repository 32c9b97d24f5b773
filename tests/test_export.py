"""Exported models predict what the run predicts, or nothing is left."""

import functools

import keras
import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import RunModel, predictions
from keras_m3s.inference import clips as clip_inputs
from keras_m3s.inference import export as exporting
from keras_m3s.inference.formats import EXPORT_FORMATS
from tests import untrained_runs

BACKEND = keras.backend.backend()
FORM = {"torch": "onnx", "tensorflow": "saved_model"}.get(BACKEND)

needs_a_format = pytest.mark.skipif(FORM is None, reason="no format is made on this backend")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return functools.cache(lambda name: untrained_runs.make(folder, name)[0])


def runner(path):
    """What runs an exported model, without anything of ours."""
    if FORM == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        names = [one.name for one in session.get_inputs()]
        return lambda x: session.run(None, {name: x[name] for name in names})[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda x: loaded.serve({name: tf.constant(value) for name, value in x.items()}).numpy()


@needs_a_format
@pytest.mark.parametrize("name", untrained_runs.SMALL)
def test_every_model(made, name):
    if FORM == "onnx":
        pytest.importorskip("onnxruntime")
    run = made(name)
    path = exporting.export(run, FORM)
    assert path.parent == run.path / "export"
    model = RunModel(run)
    x = exporting.random_inputs(model, 7, seed=9)
    x["audio"][:3] = 0
    expected = keras.ops.convert_to_numpy(model.model(x))
    np.testing.assert_allclose(runner(path)(x), expected, atol=1e-5)
    with pytest.raises(ValueError, match="must not exist"):
        exporting.export(run, FORM)


@pytest.mark.once
@needs_a_format
def test_a_model_of_data_without_a_modality(made, tmp_path):
    if FORM == "onnx":
        pytest.importorskip("onnxruntime")
    splits = untrained_runs.without(data.load("synthetic_msa", tmp_path, config="tiny"), ["vision"])
    run, _ = untrained_runs.of(tmp_path, "misa", splits)
    path = exporting.export(run, FORM)
    model, x = RunModel(run), splits["test"].features
    x = {key: x[key] for key in model.shapes if key != "index"}
    np.testing.assert_allclose(runner(path)(x), model.predict(x), atol=1e-5)


@pytest.mark.once
@pytest.mark.slow
@needs_a_format
def test_on_real_mosi(mosi_dir, tmp_path):
    """All test segments: what ONNX Runtime gives is what `predict` writes."""
    pytest.importorskip("onnxruntime")
    path = mosi_dir / "unaligned_50.pkl"
    run, _ = untrained_runs.of(tmp_path, "misa", data.load(path))
    exported = runner(exporting.export(run, FORM))
    model, clips = RunModel(run), data.unlabelled(path, "test")
    rows = [row["prediction"] for row in predictions.rows(model, clips)]
    x, _ = clip_inputs.inputs(model.shapes, clips, range(len(clips)))
    del x["index"]
    assert len(rows) == 686 and np.ptp(rows) > 1e-3
    np.testing.assert_allclose(exported(x)[:, 0], rows, atol=1e-5)


@needs_a_format
def test_what_disagrees_is_not_kept(made, tmp_path, monkeypatch):
    if FORM == "onnx":
        pytest.importorskip("onnxruntime")
    exact = RunModel.predict
    monkeypatch.setattr(RunModel, "predict", lambda self, x: exact(self, x) + 1e-3)
    with pytest.raises(ValueError, match="must predict what the run predicts.*Nothing was kept"):
        exporting.export(made("mmin"), FORM, tmp_path / "deep" / "er" / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_backend_must_fit(tmp_path):
    run = RunDirectory(tmp_path / "run")
    for form in set(EXPORT_FORMATS) - {FORM}:
        with pytest.raises(ValueError, match="must be exported on the Keras backend.*Received:"):
            exporting.export(run, form, tmp_path / "model")
    with pytest.raises(ValueError, match="`format` must be one of"):
        exporting.export(run, "tflite")
