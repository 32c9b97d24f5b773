"""Batches by length, and from disk: the same rows as from memory, in the same order."""

import keras
import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.data import streaming
from keras_m3s.data.batches import LEVELS, Batches, as_tf_dataset
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.utils.backend import set_random_seed

once = pytest.mark.once
NAME = "train=50,valid=3,test=3,text=40x2,audio=64x3,vision=50x2"


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return {"data_dir": tmp_path_factory.mktemp("data"), "config": NAME}


@pytest.fixture(scope="module")
def split(where):
    return data.load("synthetic_msa", **where)["train"]


@pytest.fixture(scope="module")
def on_disk(where):
    return streaming.load_streamed("synthetic_msa", **where)["train"]


def assert_same(one, other):
    for (x, y), (other_x, other_y) in zip(one, other, strict=True):
        assert x.keys() == other_x.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], other_x[key])
            assert x[key].dtype == other_x[key].dtype, key
        np.testing.assert_array_equal(y, other_y)


@once
@pytest.mark.parametrize("options", [{}, {"double": True}, {"double": True, "buckets": True}])
def test_the_same_batches_from_disk(options, split, on_disk):
    settings = {"batch_size": 8, "shuffle": True, "seed": 3, **options}
    assert_same(Batches(split, **settings), Batches(on_disk, **settings))
    np.testing.assert_array_equal(split.labels, on_disk.labels)
    assert split.ids == on_disk.ids and len(on_disk) == 50


@once
def test_a_streamed_split_holds_no_features(on_disk):
    held = [v for v in vars(on_disk).values() if isinstance(v, np.ndarray)]
    held += [*on_disk.lengths.values(), *on_disk.unimodal.values()]
    assert sum(array.nbytes for array in held) < 50 * 100
    assert on_disk.fingerprint() == on_disk.fingerprint() and len(on_disk.fingerprint()) == 64


@once
@pytest.mark.parametrize("double", [False, True])
def test_buckets_hold_every_row_once_with_less_padding(double, split):
    batches = Batches(split, 8, shuffle=True, seed=1, double=double, buckets=True)
    whole = Batches(split, 8, shuffle=True, seed=1, double=double)
    rows, steps, shapes = [], 0, set()
    for x, y in batches:
        index = x["index"]
        rows += index.tolist()
        steps += x["audio"].size
        shapes.add(tuple(x[m].shape[1] for m in ("audio", "vision", "text")))
        np.testing.assert_array_equal(y[:, 0], split.labels[index])
        for m in ("audio", "vision", "text"):
            kept = x[m].shape[1]
            assert x[f"{m}_length"].max() <= kept
            np.testing.assert_array_equal(x[m], split.features[m][index, :kept])
            assert not split.features[m][index, kept:].any()
    assert sorted(rows) == sorted([*range(50)] * (2 if double else 1))
    assert steps < 0.8 * sum(x["audio"].size for x, _ in whole)
    assert len(shapes) <= LEVELS
    first = [x["index"].tolist() for x, _ in batches]
    batches.epoch = 1
    assert [x["index"].tolist() for x, _ in batches] != first
    batches.epoch = 0
    assert [x["index"].tolist() for x, _ in batches] == first


@once
def test_buckets_cut_tokens_with_text():
    mask = np.arange(32) < np.array([3, 9, 12, 5])[:, None]
    tokens = np.stack([mask * 7, mask, mask * 0], axis=1).astype("int32")
    features = {"text_bert": tokens, "text_length": mask.sum(1).astype("int32")}
    split = data.Split("train", features, np.zeros(4, "float32"), list("abcd"))
    ((x, _),) = Batches(split, 4, buckets=True)
    assert x["text_bert"].shape == (4, 3, 12)


@once
def test_buckets_need_lengths():
    split = data.Split("train", {"audio": np.ones((4, 2, 1))}, np.zeros(4), list("abcd"))
    with pytest.raises(ValueError, match="`buckets=True` must go with data that has lengths"):
        Batches(split, 2, buckets=True)


@pytest.mark.parametrize("options", [{}, {"double": True}, {"double": True, "buckets": True}])
def test_tf_data_gives_the_same_batches(options, split):
    settings = {"batch_size": 8, "shuffle": True, "seed": 3, **options}
    dataset = as_tf_dataset(Batches(split, **settings))
    assert_same(dataset.as_numpy_iterator(), Batches(split, **settings))


def test_a_model_learns_from_disk_as_from_memory(split, on_disk):
    """Also with buckets, where the length of a batch changes from step to step."""
    for buckets in (False, True):
        weights = []
        for source in (split, on_disk):
            set_random_seed(1)
            inputs = {"audio": keras.Input((None, 3), name="audio")}
            pooled = keras.ops.sum(inputs["audio"], axis=1)
            model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
            model.compile(keras.optimizers.SGD(1e-3), loss="mse")
            batches = Only(Batches(source, 16, shuffle=True, buckets=buckets))
            model.fit(batches, shuffle=False, epochs=2, verbose=0)
            weights.append(np.concatenate([w.reshape(-1) for w in model.get_weights()]))
        np.testing.assert_array_equal(*weights)


@once
def test_a_run_from_disk_ends_as_one_from_memory(tmp_path):
    where = {"data_dir": tmp_path / "data", "config": "tiny"}
    experiment = Experiment.of(
        "synthetic_msa/tiny", "misa", "m3s", epochs=2, batch_size=8,
        model_arguments={"hidden_size": 4, "transformer_size": 8},
    )  # fmt: skip
    metrics = []
    for name, load in (("memory", data.load), ("disk", data.load_streamed)):
        run = RunDirectory(tmp_path / name)
        metrics.append(run_experiment(experiment, run, load("synthetic_msa", **where)))
    assert metrics[0] == metrics[1]


class Only(keras.utils.PyDataset):
    """The audio of batches."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        x, y = self.batches[index]
        return {"audio": x["audio"]}, y

    def on_epoch_end(self):
        self.batches.on_epoch_end()
