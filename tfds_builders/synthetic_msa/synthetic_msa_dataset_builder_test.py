"""The generated data set, as TFDS tests its own, and that it is what its README says."""

import numpy as np
import pytest
import tensorflow_datasets.public_api as tfds

from .generate import Recipe, segment
from .synthetic_msa_dataset_builder import SyntheticMsa

pytestmark = pytest.mark.once

RECIPE = SyntheticMsa.BUILDER_CONFIGS[0].recipe
NAMES = tuple(RECIPE.shapes)
TINY = SyntheticMsa.BUILDER_CONFIGS[2].recipe


class SyntheticMsaTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = SyntheticMsa
    SPLITS = TINY.sizes
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]


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
