"""Labels that are classes: from a data set's file to metrics, and models that cannot."""

import pytest

from keras_m3s import data
from keras_m3s.experiments.build import build
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory

SMALL = {
    "misa": {"hidden_size": 4, "transformer_size": 8},
    "mmin": {
        "audio_size": 4,
        "vision_size": 4,
        "text_size": 4,
        "text_channels": 4,
        "classifier_layers": [4],
        "autoencoder_layers": [8, 4],
        "n_blocks": 2,
    },
}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    where = tmp_path_factory.mktemp("data")
    return data.load("synthetic_msa", data_dir=where, config="tiny_classes")


@pytest.mark.once
@pytest.mark.parametrize("model", SMALL)
def test_a_run_on_classes(model, splits, tmp_path):
    experiment = Experiment.of(
        "synthetic_msa/tiny_classes", model, "m3s", epochs=1, batch_size=8,
        model_arguments=SMALL[model],
    )  # fmt: skip
    metrics = run_experiment(experiment, RunDirectory(tmp_path / "run"), splits)
    assert metrics.keys() >= {"acc", "uar", "f1"} and 0 <= metrics["uar"] <= 1
    header = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[0]
    assert header.endswith("logit_0,logit_1,logit_2,logit_3")


@pytest.mark.parametrize("model", ["mmim", "self_mm"])
def test_models_of_a_score_say_so(model, splits):
    experiment = Experiment.of("synthetic_msa/tiny_classes", model, "orig")
    with pytest.raises(ValueError, match="predicts a score.*int32. For classes.*MMIN or MISA"):
        build(experiment, splits["train"])
