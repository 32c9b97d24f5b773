"""`TextStates`: features as they are, tokens through a BERT, and what is said where neither fits."""

import re

import keras
import numpy as np
import pytest

from keras_m3s.layers.text_states import BERT_NO_DECAY_PATHS, BERT_PATHS, TextStates

FEATURES = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


def numpy(tensors):
    return [keras.ops.convert_to_numpy(t) for t in tensors]


def tokens(lengths=(5, 3, 1), steps=6):
    ids = np.random.default_rng(1).integers(1, 20, (len(lengths), steps))
    mask = np.arange(steps) < np.array(lengths)[:, None]
    return np.stack([ids * mask, mask, np.zeros_like(ids)], axis=1).astype("int32")


@pytest.fixture
def bert():
    keras_hub = pytest.importorskip("keras_hub")
    return keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        max_sequence_length=64,
    )


def test_features_pass_and_their_lengths_become_a_mask():
    lengths = np.array([5, 2, 0], "int32")
    states, mask = numpy(TextStates()({"text": FEATURES, "text_length": lengths}))
    np.testing.assert_array_equal(states, FEATURES)
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])


def test_without_lengths_every_step_counts():
    _, mask = numpy(TextStates()({"text": FEATURES}))
    np.testing.assert_array_equal(mask, np.ones((3, 5)))
    assert mask.dtype == np.float32


def test_tokens_go_through_the_bert(bert):
    text_bert = tokens()
    states, mask = numpy(TextStates(bert)({"text_bert": text_bert}))
    np.testing.assert_array_equal(mask, text_bert[:, 1])
    expected = bert(
        {
            "token_ids": text_bert[:, 0],
            "padding_mask": text_bert[:, 1],
            "segment_ids": text_bert[:, 2],
        }
    )
    np.testing.assert_allclose(states, numpy([expected["sequence_output"]])[0], atol=1e-6)


def test_given_both_a_bert_reads_the_tokens_and_no_bert_the_features(bert):
    batch = {"text": FEATURES, "text_bert": tokens(steps=5)}
    assert numpy(TextStates(bert)(batch))[0].shape == (3, 5, 8)
    np.testing.assert_array_equal(numpy(TextStates()(batch))[0], FEATURES)


def test_padding_does_not_matter(bert):
    layer, text_bert = TextStates(bert), tokens()
    padded = np.pad(text_bert, ((0, 0), (0, 0), (0, 50)))
    states, mask = numpy(layer({"text_bert": text_bert}))
    longer, _ = numpy(layer({"text_bert": padded}))
    mask = mask[..., None]
    np.testing.assert_allclose(longer[:, :6] * mask, states * mask, atol=1e-5)


def test_dropout_in_training_only(bert):
    layer, batch = TextStates(bert), {"text_bert": tokens()}
    still, again = (numpy(layer(batch, training=False))[0] for _ in range(2))
    one, two = (numpy(layer(batch, training=True))[0] for _ in range(2))
    np.testing.assert_array_equal(still, again)
    assert np.abs(one - two).max() > 1e-2


def test_an_empty_text_gives_finite_states(bert):
    states, mask = numpy(TextStates(bert)({"text_bert": tokens((0, 2))}))
    assert np.isfinite(states).all()
    assert mask[0].sum() == 0


def test_gradients_reach_every_weight_but_the_pooler(bert):
    layer = TextStates(bert)
    trainable = {v.path for v in layer.trainable_variables}
    frozen = {v.path for v in layer.variables} - trainable
    assert {path.split("/")[0] for path in frozen if "seed" not in path} == {"pooled_dense"}
    assert all(re.search(BERT_PATHS, path) for path in trainable)
    no_decay = {path for path in trainable if re.search(BERT_NO_DECAY_PATHS, path)}
    assert len(no_decay) == 2 + 2 * (4 + 2 + 2 + 2)
    assert all(path.endswith(("bias", "gamma", "beta")) for path in no_decay)


def test_a_saved_model_holds_its_bert(bert, tmp_path):
    inputs = {"text_bert": keras.Input((3, None), dtype="int32", name="text_bert")}
    states, mask = TextStates(bert)(inputs)
    model = keras.Model(inputs, {"states": states, "mask": mask})
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    batch = {"text_bert": tokens()}
    np.testing.assert_allclose(
        again.predict(batch, verbose=0)["states"],
        model.predict(batch, verbose=0)["states"],
        atol=1e-6,
    )
    (layer,) = (layer for layer in again.layers if isinstance(layer, TextStates))
    assert layer.bert is not bert
    assert len(layer.trainable_variables) == len(bert.trainable_variables)
    assert all(re.search(BERT_PATHS, v.path) for v in layer.trainable_variables)


def test_symbolic_features():
    text = keras.Input((None, 4), name="text")
    states, mask = TextStates()({"text": text})
    assert (states.shape, mask.shape) == ((None, None, 4), (None, None))
    model = keras.Model({"text": text}, states * mask[..., None])
    np.testing.assert_array_equal(model.predict({"text": FEATURES}, verbose=0), FEATURES)


def test_a_local_folder_is_a_bert(bert, tmp_path):
    bert.save_to_preset(str(tmp_path / "bert"))
    batch = {"text_bert": tokens()}
    by_path, given = TextStates(str(tmp_path / "bert")), TextStates(bert)
    np.testing.assert_allclose(numpy(by_path(batch))[0], numpy(given(batch))[0], atol=1e-6)
    half = TextStates(str(tmp_path / "bert"), dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(half(batch)[0].dtype) == "bfloat16"


def test_any_model_can_be_the_bert():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    segments = keras.Input((None,), dtype="int32", name="segment_ids")
    vectors = keras.layers.Embedding(20, 4)(ids) + keras.layers.Embedding(2, 4)(segments + 0 * mask)
    inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
    layer = TextStates(keras.Model(inputs, vectors))
    batch = {"text_bert": tokens()}
    states = numpy(layer(batch))[0]
    assert states.shape == (3, 6, 4)
    again = TextStates.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(batch))[0], states)


def test_tokens_without_a_bert_are_an_error():
    with pytest.raises(ValueError, match="only a BERT can read.*`bert=`"):
        TextStates()({"text_bert": tokens()})


def test_neither_is_an_error():
    with pytest.raises(ValueError, match=r"must hold 'text'.*Received keys: \('audio',\)"):
        TextStates()({"audio": FEATURES})


@pytest.mark.parametrize("wrong", [tokens().astype("float32"), tokens()[:, :2], tokens()[:, 0]])
def test_misshapen_tokens_are_an_error(bert, wrong):
    with pytest.raises(ValueError, match=r"int of shape \(batch, 3, steps\)"):
        TextStates(bert)({"text_bert": wrong})


@pytest.mark.once
def test_a_missing_keras_hub_is_named(monkeypatch):
    import importlib

    def fail(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"pip install keras-m3s\[text\]"):
        TextStates("bert_tiny_en_uncased")
