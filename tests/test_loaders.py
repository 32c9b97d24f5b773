"""Properties of the loaders: what was written comes back, the same from every form of file."""

import csv
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_m3s import data
from keras_m3s.modalities import MODALITIES
from tfds_builders import npy_folder, testing

pytestmark = pytest.mark.once

common = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

contents = st.builds(
    testing.mmsa_content,
    shapes=st.fixed_dictionaries({m: st.tuples(st.integers(1, 7), st.integers(1, 5)) for m in MODALITIES}),
    sizes=st.fixed_dictionaries({split: st.integers(1, 5) for split in data.SPLITS}),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip


def in_lists(content):
    return {split: {k: v.tolist() if isinstance(v, np.ndarray) and v.ndim == 1 else v for k, v in raw.items()} for split, raw in content.items()}  # fmt: skip


def flat(content):
    return {f"{split}/{key}": value for split, raw in content.items() for key, value in raw.items()}


def check(splits, content):
    for name, raw in content.items():
        split = splits[name]
        assert split.ids == list(raw["id"]) and len(split) == len(raw["id"])
        np.testing.assert_array_equal(split.labels, raw["regression_labels"])
        for m in MODALITIES:
            got = split.features[m]
            assert got.dtype == np.float32 and got.shape == raw[m].shape
            np.testing.assert_array_equal(got, raw[m].astype("float32"))
            past = np.arange(got.shape[1]) >= split.features[f"{m}_length"][:, None]
            assert not got[past].any(), "a true step is past the length"
        for m in ("audio", "vision"):
            assert split.features[f"{m}_length"].tolist() == list(raw[f"{m}_lengths"])
        np.testing.assert_array_equal(split.features["text_bert"], raw["text_bert"])


@common
@given(content=contents, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), lists=st.booleans())
def test_pickle_and_archive_bring_back_what_was_written(tmp_path, content, protocol, lists):
    written = in_lists(content) if lists else content
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(written, protocol))
    np.savez(tmp_path / "a.npz", **flat(content))
    pickled, archived = data.load(tmp_path / "a.pkl"), data.load(tmp_path / "a.npz")
    check(pickled, content)
    check(archived, content)
    for name in data.SPLITS:
        assert pickled[name].fingerprint() == archived[name].fingerprint()


@common
@given(content=contents)
def test_a_folder_brings_back_what_was_written(tmp_path, content):
    rows = [(split, row) for split in data.SPLITS for row in range(len(content[split]["id"]))]
    with (tmp_path / "label.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "clip_id", "text", "label", "mode"])
        for split, row in rows:
            label = content[split]["regression_labels"][row] + 0.05  # no class
            table.writerow([f"{split}{row}", row, "words", f"{label:.2f}", split])
    for m in MODALITIES:
        np.save(tmp_path / f"{m}.npy", np.concatenate([content[split][m] for split in data.SPLITS]))
    for m in ("audio", "vision"):
        lengths = [n for split in data.SPLITS for n in content[split][f"{m}_lengths"]]
        np.save(tmp_path / f"{m}_lengths.npy", np.array(lengths))
    found = npy_folder.read(tmp_path)
    for split, raw in content.items():
        segments = found[split]
        assert segments.ids == [f"{split}{row}$_${row}" for row in range(len(raw["id"]))]
        for m in MODALITIES:
            for row, sequence in enumerate(raw[m]):
                got = np.asarray(segments.features[m][row])
                np.testing.assert_array_equal(got, sequence[: len(got)].astype("float32"))
                assert not sequence[len(got) :].any()


@common
@given(content=contents, order=st.randoms(use_true_random=False))
def test_the_order_of_keys_and_splits_plays_no_part(tmp_path, content, order):
    def shuffled(mapping):
        keys = list(mapping)
        order.shuffle(keys)
        return {key: mapping[key] for key in keys}

    testing.write(tmp_path / "a.pkl", content)
    testing.write(tmp_path / "b.pkl", shuffled({k: shuffled(v) for k, v in content.items()}))
    a, b = data.load(tmp_path / "a.pkl"), data.load(tmp_path / "b.pkl")
    assert [a[s].fingerprint() for s in data.SPLITS] == [b[s].fingerprint() for s in data.SPLITS]
