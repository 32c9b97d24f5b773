"""Experiments: the paper's settings, their names, and what is refused."""

import json

import pytest

from keras_m3s.experiments.config import Experiment
from keras_m3s.layers.text_states import BERT_PATHS
from keras_m3s.registry import methods, models

pytestmark = pytest.mark.once


def test_the_papers_settings():
    """Section 4.4: {alpha, beta, batch_size} and epochs."""
    given = {
        "mmin": (2e-4, 1e-4, 256, 60),
        "mmim": ({"/mi_": 0.0, "": 1e-3}, 1e-3, 32, 40),
        "misa": (1e-4, 1e-4, 128, 500),
    }
    for model, expected in given.items():
        e = Experiment.of("cmu_mosi", model, "m3s")
        assert (e.inner_learning_rate, e.learning_rate, e.batch_size, e.epochs) == expected
        assert e.missing_rate == e.test_missing_rate == (0.4, 0.6)
    rates = Experiment.of("ch_sims", "self_mm", "m3s").inner_learning_rate
    assert [rates[f"{m}_encoder/"] for m in ("audio", "vision")] == [5e-3, 5e-3]
    with_bert = Experiment.of("ch_sims", "self_mm", "m3s", model_arguments={"bert": "folder"})
    assert list(with_bert.inner_learning_rate.items()) == [(BERT_PATHS, 5e-5), *rates.items()]
    own = Experiment.of(
        "d", "self_mm", "m3s", inner_learning_rate=0.1, model_arguments={"bert": "f"}
    )
    assert own.inner_learning_rate == 0.1


@pytest.mark.parametrize("model", models.CARDS)
@pytest.mark.parametrize("method", methods.CARDS)
def test_json_round_trip_keeps_value_and_key(model, method):
    e = Experiment.of("synthetic_msa", model, method, (0.2, 0.4), seed=3, patience=5)
    copy = Experiment.from_dict(json.loads(json.dumps(e.to_dict())))
    assert copy == e and copy.key == e.key


def test_every_value_is_in_the_key():
    e = Experiment.of("synthetic_msa", "misa", "m3s")
    changes = {
        "seed": 1, "missing_rate": (0.1, 0.2), "test_missing_rate": (0.6, 0.8), "epochs": 3,
        "first_order": False, "inner_steps": 2, "batch_size": 5, "model_arguments": {"dropout": 0.1},
    }  # fmt: skip
    keys = {e.key} | {e.replace(**{k: v}).key for k, v in changes.items()}
    assert len(keys) == len(changes) + 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "bert"}, "`model` must be one of"),
        ({"method": "maml"}, "`method` must be one of"),
        ({"missing_rate": (0.8, 0.2)}, r"`missing_rate` must be a range .* Received: missing_rate=\(0.8, 0.2\)"),
        ({"test_missing_rate": (0.1, 1.2)}, "`test_missing_rate` must be a range"),
        ({"site": "middle"}, "`site` must be one of"),
        ({"missing_rate": (0.1, 0.2, 0.3)}, "`missing_rate` must be a range"),
        ({"missing_rate": "ab"}, "`missing_rate` must be a range"),
        ({"epochs": 0}, "`epochs` must be a whole number >= 1. Received: epochs=0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"seed": True}, "`seed` must be a whole number"),
        ({"patience": "8"}, "`patience` must be a whole number >= 1, or None"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        ({"inner_learning_rate": {"": -1}}, "`inner_learning_rate` must be .* or a mapping"),
        ({"first_order": 1}, "`first_order` must be True or False"),
        ({"model_arguments": [1]}, "`model_arguments` must be a mapping"),
        ({"dataset": 3}, "`dataset` must be a name"),
    ],
)  # fmt: skip
def test_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Experiment.of(**{"dataset": "d", "model": "misa", "method": "orig", **values})


def test_unknown_fields_are_named():
    values = Experiment.of("d", "misa", "orig").to_dict()
    del values["seed"]
    with pytest.raises(ValueError, match=r"without \['seed'\], and with unknown \['sead'\]"):
        Experiment.from_dict({**values, "sead": 1})
