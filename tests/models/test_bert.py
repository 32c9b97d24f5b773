"""A keras-hub BERT with weights from HuggingFace's names gives HuggingFace's numbers."""

import keras
import numpy as np
import pytest

from keras_m3s.layers.text_states import TextStates
from keras_m3s.models.torch_import.bert import BERT_UNUSED, bert_weights
from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint

SIZES = {"hidden_dim": 12, "intermediate_dim": 20, "num_heads": 3, "num_layers": 2}


class Reader(keras.Model):
    """The smallest model with a BERT: a text's states."""

    torch_unused = BERT_UNUSED

    def __init__(self, bert, prefix="text_model.model"):
        super().__init__()
        self.text_states = TextStates(bert)
        self.prefix = prefix

    def call(self, inputs, training=None):
        return self.text_states(inputs, training=training)[0]

    def torch_weights(self):
        yield from bert_weights(self.prefix, self.text_states.bert)


def backbone(vocabulary=30, length=16, sizes=SIZES):
    keras_hub = pytest.importorskip("keras_hub")  # here: it imports TensorFlow, too
    return keras_hub.models.BertBackbone(
        vocabulary_size=vocabulary, max_sequence_length=length, **sizes
    )


def tokens(batch=3, steps=7, vocabulary=30):
    rng = np.random.default_rng(0)
    ids = rng.integers(1, vocabulary, (batch, steps))
    lengths = np.array([steps, 4, 2])[:batch, None]
    mask = np.arange(steps) < lengths
    segments = np.arange(steps) >= lengths // 2
    return np.stack([ids * mask, mask, segments * mask], axis=1).astype("int32")


@pytest.fixture(scope="module")
def bert_in_torch():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def state_dict(bert, prefix):
    state = {f"{prefix}{name}": p.detach().numpy() for name, p in bert.named_parameters()}
    return {**state, f"{prefix}embeddings.position_ids": np.arange(16)[None]}


@pytest.mark.once
@pytest.mark.parametrize("prefix", ["text_model.model", ""])
def test_states_are_those_of_huggingface(bert_in_torch, prefix):
    torch = pytest.importorskip("torch")
    reader, text_bert = Reader(backbone(), prefix), tokens()
    reader({"text_bert": text_bert})
    load_torch_checkpoint(reader, state_dict(bert_in_torch, f"{prefix}." if prefix else ""))
    actual = keras.ops.convert_to_numpy(reader({"text_bert": text_bert}))
    ids, mask, segments = (torch.tensor(text_bert[:, i]).long() for i in range(3))
    with torch.no_grad():
        expected = bert_in_torch(ids, attention_mask=mask, token_type_ids=segments)
    np.testing.assert_allclose(actual, expected.last_hidden_state.numpy(), atol=1e-5)
    assert float(np.abs(actual).max()) > 1


@pytest.mark.once
def test_every_weight_is_named_once_and_the_pooler_with_them(bert_in_torch):
    bert = backbone()
    weights = list(bert_weights("", bert))
    assert {w.name for w in weights} == {name for name, _ in bert_in_torch.named_parameters()}
    assert {id(w.variable) for w in weights} == {id(v) for v in bert.weights}
    assert len(weights) == len(bert.weights)


@pytest.mark.once
def test_two_models_in_one_process_keep_their_own_variables():
    first, second = backbone(), backbone()
    ours = {id(v) for v in second.weights}
    assert {id(w.variable) for w in bert_weights("", second)} == ours
    assert not ours & {id(w.variable) for w in bert_weights("", first)}


def test_states_are_those_of_self_mm(golden):
    """The published class with a BERT of two layers, two heads: `mid/bert_last_hidden`."""
    reference, prefix = golden("self_mm"), "text_model.model"
    params = {k.removeprefix("param/"): v for k, v in reference.items() if k.startswith("param/")}
    params = {k: v for k, v in params.items() if k.startswith(prefix)}
    sizes = {"hidden_dim": 16, "intermediate_dim": 32, "num_layers": 2, "num_heads": 2}
    reader = Reader(backbone(40, 32, sizes), prefix)
    text_bert = reference["in/text"].astype("int32")
    reader({"text_bert": text_bert})
    load_torch_checkpoint(reader, params)
    states = keras.ops.convert_to_numpy(reader({"text_bert": text_bert}))
    np.testing.assert_allclose(states, reference["mid/bert_last_hidden"], atol=1e-5)
