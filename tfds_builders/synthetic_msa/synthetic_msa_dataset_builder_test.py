"""The generated data set, as TFDS tests its own, and that it is what its README says."""

from typing import Any

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from keras_m3s import data

from .generate import Recipe, segment
from .synthetic_msa_dataset_builder import SyntheticMsa

pytestmark = pytest.mark.once

RECIPE = SyntheticMsa.BUILDER_CONFIGS[0].recipe
NAMES = tuple(RECIPE.shapes)
PINNED: dict[str, Any] = {
    "label": 0.2,
    "features": {"text": (13, -9.784694), "audio": (15, -4.141175), "vision": (16, -3.034847)},
}
TINY = SyntheticMsa.BUILDER_CONFIGS[2].recipe


class SyntheticMsaTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = SyntheticMsa
    SPLITS = TINY.sizes
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny", "tiny_classes"]


def test_segments_depend_on_seed_split_and_row_only() -> None:
    again = Recipe(TINY.shapes, {"train": 1, "valid": 1, "test": 1})
    for name, array in segment(TINY, "train", 7).features.items():
        np.testing.assert_array_equal(array, segment(again, "train", 7).features[name])
        assert not np.array_equal(array, segment(TINY, "test", 7).features[name])
        assert not np.array_equal(array, segment(TINY, "train", 8).features[name])


def test_sequences_are_zero_past_unequal_lengths() -> None:
    made = [segment(RECIPE, "train", row) for row in range(50)]
    for name in RECIPE.shapes:
        assert len({one.lengths[name] for one in made}) > 10
        for one in made:
            assert not one.features[name][one.lengths[name] :].any()
            assert one.features[name][: one.lengths[name]].any(axis=1).all()
    assert any(len(set(one.lengths.values())) > 1 for one in made)


def test_labels_are_those_of_mosi() -> None:
    labels = np.array([segment(RECIPE, "train", row).label for row in range(500)])
    assert np.abs(labels).max() <= 3
    assert 1.3 < labels.std() < 1.7
    np.testing.assert_allclose(labels * 5, np.round(labels * 5), atol=1e-9)


def test_holes_hurt_and_the_other_modalities_make_good() -> None:
    """Ridge on means over time: correlation on rows held out."""
    made = [segment(RECIPE, "train", row) for row in range(900)]
    label = np.array([one.label for one in made])
    rng = np.random.default_rng(0)
    whole = {name: np.stack([one.features[name].mean(axis=0) for one in made]) for name in NAMES}
    holed = {
        name: np.stack([_holed(rng, one.features[name], one.lengths[name]) for one in made])
        for name in NAMES
    }
    text, text_holed = _correlation([whole["text"]], label), _correlation([holed["text"]], label)
    all_holed = _correlation([holed[name] for name in NAMES], label)
    assert 0.6 < text < 0.9
    assert text_holed < text - 0.05
    assert all_holed > text_holed + 0.03
    for name in ("audio", "vision"):
        assert 0.25 < _correlation([whole[name]], label) < text


def _holed(rng: np.random.Generator, sequence: np.ndarray, length: int) -> np.ndarray:
    """Mean over time with a run of half of the true steps set to 0."""
    sequence, count = sequence.copy(), length // 2
    start = rng.integers(0, length - count + 1)
    sequence[start : start + count] = 0
    return sequence.mean(axis=0)


def _correlation(features: list[np.ndarray], label: np.ndarray) -> float:
    x = np.column_stack([*features, np.ones(len(label))])
    x, test_x = x[:600], x[600:]
    weights = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ label[:600])
    return float(np.corrcoef(test_x @ weights, label[600:])[0, 1])


def test_what_mosi_was_it_stays() -> None:
    """Numbers that are published (README, docs) were measured on this very data."""
    one = segment(RECIPE, "train", 0)
    assert one.label == PINNED["label"]
    for name, (length, total) in PINNED["features"].items():
        assert one.lengths[name] == length
        np.testing.assert_allclose(one.features[name].sum(dtype="float64"), total, rtol=1e-5)


def test_aligned_sequences_have_one_length() -> None:
    recipe = Recipe(dict.fromkeys(NAMES, (20, 3)), TINY.sizes, aligned=True)
    made = [segment(recipe, "train", row) for row in range(20)]
    assert all(len(set(one.lengths.values())) == 1 for one in made)
    assert len({one.lengths["text"] for one in made}) > 5


def test_classes_show_in_every_modality_and_best_together() -> None:
    recipe = Recipe(RECIPE.shapes, RECIPE.sizes, classes=4)
    made = [segment(recipe, "train", row) for row in range(1200)]
    label = np.array([one.label for one in made])
    assert set(label) == {0, 1, 2, 3} and np.bincount(label).min() > 240
    means = {name: np.stack([one.features[name].mean(axis=0) for one in made]) for name in NAMES}
    alone = {name: _accuracy([means[name]], label) for name in NAMES}
    assert min(alone.values()) > 0.32
    assert _accuracy(list(means.values()), label) > max(alone.values()) > 0.5


def _accuracy(features: list[np.ndarray], label: np.ndarray) -> float:
    """Ridge on one-hot classes, on rows held out."""
    x = np.column_stack([*features, np.ones(len(label))])
    x, test_x = x[:800], x[800:]
    one_hot = np.eye(4)[label[:800]]
    weights = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ one_hot)
    return float(((test_x @ weights).argmax(axis=1) == label[800:]).mean())


def test_any_size_by_name(tmp_path: Any) -> None:
    name = "train=5,valid=3,test=2,text=4x2,audio=4x3,vision=4x5,classes=3,aligned,seed=7"
    splits = data.load("synthetic_msa", data_dir=tmp_path, config=name)
    assert [len(split) for split in splits.values()] == [5, 3, 2]
    features = splits["train"].features
    assert features["vision"].shape == (5, 4, 5) and splits["train"].labels.dtype == np.int32
    np.testing.assert_array_equal(features["text_length"], features["audio_length"])
    again = data.load("synthetic_msa", data_dir=tmp_path, config=name)
    assert again["test"].fingerprint() == splits["test"].fingerprint()


@pytest.mark.parametrize(
    "name, match",
    [
        ("huge", "or a recipe such as.*Received: 'huge'"),
        ("train=0", "Sizes, steps and dims must be >= 1"),
        ("train=-1", "Received: 'train=-1'"),
        ("text=5", "Received: 'text=5'"),
        ("classes=1", "classes 0 or >= 2"),
        ("text=5x2,aligned", "must have the same steps"),
    ],
)
def test_wrong_names_are_refused(name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SyntheticMsa.config_named(name)
