"""A new model, method, pattern and protocol are a class or function and a card each, and nothing besides."""

import json

import keras
import pytest
from click.testing import CliRunner
from keras import ops

from keras_m3s.cli.main import main
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.meta.meta_model import MetaModel
from keras_m3s.models import BaseModel
from keras_m3s.registry import methods, models, patterns, protocols
from keras_m3s.report import write_report
from keras_m3s.study.executors import execute
from keras_m3s.study.plan import Settings, plan
from keras_m3s.study.workspace import DONE, Workspace

pytestmark = [pytest.mark.once, pytest.mark.slow]


@keras.saving.register_keras_serializable(package="tests")
class ToyModel(BaseModel):
    """Means over time, a dense layer each, their sum."""

    def __init__(self, size=4, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.dense = {m: keras.layers.Dense(size, name=m) for m in ("audio", "vision", "text")}
        self.head = keras.layers.Dense(1, name="head")

    def encode(self, inputs, training=None):
        return {m: layer(ops.mean(inputs[m], axis=1)) for m, layer in self.dense.items()}

    def fuse(self, encoded, training=None):
        return self.head(sum(encoded[m] for m in self.dense))

    def published_optimizer(self, learning_rate=None):
        return keras.optimizers.SGD(learning_rate or 0.01)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


TOY_MODEL = models.ModelCard(
    title="Toy model",
    model=f"{__name__}:ToyModel",
    dataset="cmu_mosi",
    settings={"inner_learning_rate": 0.1, "learning_rate": 0.01, "batch_size": 8, "epochs": 2},
    quick_settings={"model_arguments": {"size": 2}},
    studies=("table2", "table3"),
)


def toy_method(model, missing, experiment):
    """Meta steps on complete input: holes in testing only."""
    return MetaModel(model, experiment.inner_steps, experiment.inner_learning_rate)


TOY_METHOD = methods.MethodCard(
    title="Toy method", short_title="Toy", wrapper=f"{__name__}:toy_method", double_batches=True
)


def first_steps(request):
    """The first share of each sequence is missing."""
    masks = []
    for place in request.places:
        low, _, width = request.rates[place.column]
        rate = low + width * request.draws[:, place.column, 0]
        count = ops.floor(rate * ops.cast(place.length, "float32"))
        position = ops.cast(ops.arange(place.size) - place.offset, "float32")
        masks.append(ops.logical_and(position >= 0, position < count[:, None]))
    return masks


TOY_PATTERN = patterns.PatternCard(title="toy holes", masks=f"{__name__}:first_steps")

TOY_PROTOCOL = protocols.ProtocolCard(
    title="Toy protocol",
    about="Two rates.",
    tests={
        "none": patterns.Condition((0.0, 0.0), "toy"),
        "half": patterns.Condition((0.5, 0.5), "toy"),
    },
    trained=patterns.Condition((0.0, 0.5), "toy"),
)


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    monkeypatch.setitem(models.CARDS, "toy", TOY_MODEL)
    monkeypatch.setitem(methods.CARDS, "toy", TOY_METHOD)
    monkeypatch.setitem(patterns.CARDS, "toy", TOY_PATTERN)
    monkeypatch.setitem(protocols.CARDS, "toy", TOY_PROTOCOL)


def test_train(tmp_path):
    where = ["--runs", tmp_path / "runs", "--data-dir", tmp_path / "data", "--config", "tiny"]
    arguments = [
        "train",
        "--model",
        "toy",
        "--method",
        "toy",
        "--method",
        "m3s",
        "--epochs",
        1,
        *where,
    ]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "Toy method" in result.output


def test_a_study_and_its_report(tmp_path):
    workspace = Workspace(
        str(tmp_path / "runs"), str(tmp_path / "data"), None, keras.backend.backend()
    )
    settings = Settings({"cmu_mosi": "synthetic_msa/tiny"}, [0], methods=("toy", "m3s"))
    table = [p for p in plan("table2", settings) if p.experiment.model == "toy"]
    assert [p.experiment.method for p in table] == ["toy", "m3s"]
    protocols = [p for p in plan("protocols", settings) if p.experiment.model == "toy"]
    planned = [*table, next(p for p in protocols if p.experiment.pattern == "toy")]
    outcomes = execute(planned, workspace, jobs=1)
    assert [o.status for o in outcomes] == [DONE] * 3, outcomes
    for p in planned:
        run = RunDirectory(tmp_path / "runs" / p.experiment.key)
        assert (
            Experiment.from_dict(json.loads((run.path / "experiment.json").read_text()))
            == p.experiment
        )
    write_report(tmp_path / "runs", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(title in page for title in ("Toy model", "Toy method", "toy holes", "Toy protocol"))
