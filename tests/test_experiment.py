"""Experiments: the paper's settings, their names, and what is refused."""

import dataclasses
import json

import pytest

from keras_m3s.experiments import config
from keras_m3s.experiments.config import REQUIRED, Experiment
from keras_m3s.layers.text_states import BERT_PATHS
from keras_m3s.meta import arguments
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
        ({"site": ["raw"]}, "`site` must be a name"),
    ],
)  # fmt: skip
def test_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Experiment.of(**{"dataset": "d", "model": "misa", "method": "orig", **values})


def test_sites_are_those_of_the_wrapper():
    """Stated twice, since the command's help does without Keras."""
    assert config.SITES == arguments.SITES


def test_none_is_a_value():
    """Only what is not passed has a default: MISA's patience is 30."""
    assert Experiment.of("d", "misa", "orig").patience == 30
    e = Experiment.of("d", "misa", "orig", patience=None)
    assert e.patience is None and Experiment.from_dict(e.to_dict()) == e
    with pytest.raises(ValueError, match="`epochs` must be a whole number >= 1. Received: epochs=None"):  # fmt: skip
        Experiment.of("d", "misa", "orig", epochs=None)


def test_fields_of_another_version():
    e = Experiment.of("d", "misa", "orig", (0.2, 0.3))
    values = e.to_dict()
    for name in set(values) - set(REQUIRED):
        assert Experiment.from_dict({k: v for k, v in values.items() if k != name}) == e
    assert Experiment.from_dict({name: values[name] for name in REQUIRED}) == e
    with pytest.raises(ValueError, match=r"must have the fields .* Received: none of \['method'\]"):
        Experiment.from_dict({k: v for k, v in values.items() if k != "method"})
    with pytest.raises(ValueError, match=r"Received: \['margin'\]. It was made by a newer version"):
        Experiment.from_dict({**values, "margin": 0.1})
    with pytest.raises(ValueError, match="`model` must be a name"):
        Experiment.from_dict({**values, "model": ["misa"]})


@dataclasses.dataclass(frozen=True)
class Later(Experiment):
    """An experiment as a later version may have it."""

    margin: float


def test_a_later_field_counts_where_it_is_not_the_default(monkeypatch):
    """So finished runs of older versions are found under their names."""
    old = Experiment.of("d", "misa", "orig", seed=3)
    values, key = old.to_dict(), old.key
    monkeypatch.setitem(config.DEFAULTS, "margin", 0.5)
    new = Later.from_dict(values)
    assert new == Later.of("d", "misa", "orig", seed=3) and new.margin == 0.5 and new.key == key
    other = new.replace(margin=0.25)
    assert other.key != key and other.key.startswith("d-misa-orig-seed3-")
    assert Later.from_dict(other.to_dict()) == other


def test_a_file_goes_by_its_absolute_path(tmp_path, monkeypatch):
    """From any folder the same run; named after the file, while its path counts in the digest."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    near = Experiment.of("one/my.pkl", "misa", "orig")
    monkeypatch.chdir(tmp_path / "two")
    paths = ("../one/my.pkl", tmp_path / "one" / "my.pkl", "../link/my.pkl")
    for path in (*paths, *map(str, paths)):
        assert Experiment.of(path, "misa", "orig") == near
    assert near.dataset == str(tmp_path / "one" / "my.pkl")
    assert near.key.startswith("my-misa-orig-seed0-")
    assert Experiment.of("my.pkl", "misa", "orig").key != near.key
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Experiment.of("~/one/my.pkl", "misa", "orig") == near


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unaligned_50.pkl", "unaligned_50"),
        ("-rf.pkl", "rf"),
        ("my features (new).NPZ", "my_features__new_"),
        ("--.pkl", "file"),
        ("特征.pkl", "特征"),
        (f"{'多模态' * 30}.pkl", "多模态" * 6 + "多模"),
        ("bad\udcff\n.pkl", "bad__"),
    ],
)
def test_a_file_names_its_run(file, name, tmp_path):
    key = Experiment.of(tmp_path / file, "misa", "orig").key
    assert key.startswith(f"{name}-misa-orig-seed0-") and len(key.encode()) <= 100
