"""MISA against its published numbers, and where those do not reach, against what must hold."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_gradients, built, load_golden_weights, part, run

from keras_m3s.models.misa import MISA

STEPS, WIDTHS = 6, {"audio": 3, "vision": 4, "text": 5}


# To trace MISA takes TensorFlow longer than these few steps; `test_contract` does so.
EAGERLY = keras.backend.backend() == "tensorflow"


def small(**kwargs: Any) -> MISA:
    """A small MISA without dropout."""
    options = {"hidden_size": 4, "transformer_size": 8, "dropout": 0.0, "transformer_dropout": 0.0}
    return MISA(**{**options, **kwargs})


def batch_of(rows: int, seed: int = 0, steps: int = STEPS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    batch: dict[str, np.ndarray] = {}
    for m, width in WIDTHS.items():
        length = random.integers(1, steps + 1, rows).astype("int32")
        x = random.normal(size=(rows, steps, width)).astype("float32")
        batch[m] = x * (np.arange(steps)[None, :, None] < length[:, None, None])
        batch[f"{m}_length"] = length
    return batch


def labels(rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, 1)).astype("float32")


def everything(model: MISA, x: Any, y: Any) -> dict[str, Any]:
    """All that a training step computes, under the published names."""
    encoded = model.encode(x, training=True)
    outputs = model.fuse(encoded, training=True)
    terms = model.loss_terms(x, y, outputs)
    found = {
        "preds": outputs["prediction"],
        "loss_diff": terms["diff"],
        "loss_sim": terms["similarity"],
        "loss_recon": terms["reconstruction"],
        "loss_total": model.compute_loss(x, y, outputs, training=True),
        "loss_cls": model.compute_loss(x, y, outputs["prediction"], training=False),
    }
    for m in ("text", "vision", "audio"):
        found |= {
            f"utterance_{m[0]}": encoded[m],
            f"utt_{m[0]}_orig": outputs["original"][m],
            f"utt_{m[0]}_recon": outputs["restored"][m],
            f"utt_private_{m[0]}": outputs["private"][m],
            f"utt_shared_{m[0]}": outputs["shared"][m],
        }
    return found


def predicted(model: MISA, x: Any) -> np.ndarray:
    return np.asarray(run(lambda model, x: model(x), model, x))


def torch_array(weight: Any) -> np.ndarray:
    """A variable of a `linear`, `layer_norm` or `lstm`, laid out as PyTorch has it."""
    value = np.asarray(keras.ops.convert_to_numpy(weight.variable))
    return value.T


def published(golden: dict[str, np.ndarray]) -> tuple[MISA, dict[str, np.ndarray], np.ndarray]:
    """The model and batch of the golden file, its weights loaded."""
    given, length = part(golden, "in"), golden["in/lengths"].astype("int32")
    x = {
        "audio": given["acoustic"].transpose(1, 0, 2),
        "vision": given["visual"].transpose(1, 0, 2),
        "text": given["bert_sent"],
        "audio_length": length,
        "vision_length": length,
        "text_length": given["bert_sent_mask"].sum(1).astype("int32"),
    }
    model = built(MISA(hidden_size=8, dropout=0.0, transformer_dropout=0.0), x)
    model.compile()
    load_golden_weights(model, part(golden, "param"))
    return model, x, given["y"]


def test_published_outputs_and_losses(golden: Any) -> None:
    numbers = golden("misa")
    found = run(everything, *published(numbers))
    for name, value in found.items():
        expected = numbers[f"out/{name}"]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_published_gradients(golden: Any) -> None:
    numbers = golden("misa")
    model, x, y = published(numbers)
    assert_gradients(model, x, y, part(numbers, "grad"))


CONFIGURATIONS: list[dict[str, Any]] = [
    {"rnn": "gru", "activation": "tanh", "transformer_heads": 3},
    {"similarity": "adversarial", "reverse_grad_weight": 0.7, "text_encoder": "rnn"},
]


@pytest.mark.once  # on each backend there are the golden numbers, and the GRU's own tests
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_other_configurations_match_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from restated_misa import RestatedMISA

    torch.manual_seed(0)
    options = {"hidden_size": 6, "transformer_size": 9, "transformer_heads": 2, **options}
    x, y = batch_of(5), labels(5)
    reference = RestatedMISA(WIDTHS, **options)
    found = reference({k: torch.tensor(v) for k, v in x.items()})
    loss = (found["preds"] - torch.tensor(y)).square().mean()
    (loss + 0.8 * found["loss_sim"] + 0.5 * found["loss_recon"]).backward()

    # The difference loss does not depend on the configuration; the golden file has it.
    weights = {"diff_weight": 0.0, "sim_weight": 0.8, "recon_weight": 0.5}
    model = built(small(**options, **weights), x)
    model.compile()
    load_golden_weights(model, reference.state_dict())
    ours = run(everything, model, x, y)
    for name, value in found.items():
        value = value.detach().numpy()
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    named = reference.named_parameters()
    grads = {name: p.grad.numpy() for name, p in named if p.grad is not None}
    assert_gradients(model, x, y, grads)


@pytest.mark.once
@pytest.mark.parametrize("prefix", ["bertmodel.", "module.Model.bertmodel.model."])
def test_tokens_go_through_a_bert(prefix: str, tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    keras_hub = pytest.importorskip("keras_hub")
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    config = transformers.BertConfig(
        vocab_size=20, intermediate_size=12, max_position_embeddings=16, **sizes
    )
    reference = transformers.BertModel(config).eval()
    ids = np.array([[1, 5, 7, 2, 0, 0], [1, 9, 4, 6, 8, 2]])
    mask = (ids > 0).astype("int64")
    with torch.no_grad():
        tokens = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        states = reference(**tokens).last_hidden_state.numpy()
    expected = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)

    bert = keras_hub.models.BertBackbone(20, 2, 2, 8, 12, dropout=0.0, max_sequence_length=16)
    x = {k: v for k, v in batch_of(2).items() if "text" not in k}
    x["text_bert"] = np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype("int32")
    model = built(small(bert=bert), x)
    weights = {w.name: w for w in model.torch_weights() if not w.name.startswith("bertmodel")}
    checkpoint = {
        ("" if prefix == "bertmodel." else "module.Model.") + name: torch_array(weight)
        for name, weight in weights.items()
    }
    checkpoint |= {prefix + name: value for name, value in reference.state_dict().items()}
    checkpoint[prefix + "embeddings.position_ids"] = np.arange(16)[None]
    load_golden_weights(model, checkpoint)
    text = run(lambda model, x: model.encode(x)["text"], model, x)
    np.testing.assert_allclose(text, expected, rtol=1e-5, atol=1e-5)
    model.save(tmp_path / "misa.keras")
    loaded = keras.models.load_model(tmp_path / "misa.keras")
    np.testing.assert_allclose(predicted(loaded, x), predicted(model, x), rtol=1e-6)


@pytest.mark.once
def test_without_lengths_all_steps_count() -> None:
    x = batch_of(3)
    features = {m: x[m] for m in WIDTHS}
    full = {f"{m}_length": np.full(3, STEPS, "int32") for m in WIDTHS}
    model = built(small(), features)
    expected = predicted(model, {**features, **full})
    np.testing.assert_allclose(predicted(model, features), expected, rtol=0, atol=1e-6)
    assert np.abs(predicted(model, x) - expected).max() > 1e-4  # the true lengths do count


@pytest.mark.once
def test_length_zero_ignores_what_lies_there() -> None:
    x = batch_of(2)
    x["text_length"][0] = x["audio_length"][0] = 0
    other = {k: v.copy() for k, v in x.items()}
    other["text"][0] += 1.0
    other["audio"][0] += 1.0
    model = built(small(), x)
    np.testing.assert_array_equal(predicted(model, x), predicted(model, other))


@pytest.mark.once
def test_fit_learns_with_the_default_loss() -> None:
    x, y = batch_of(8), labels(8)
    model = small()
    model.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=EAGERLY)
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    # Prediction only: the further losses belong to training.
    evaluated = model.evaluate(x, y, batch_size=8, verbose=0)
    expected = np.mean((model.predict(x, verbose=0) - y) ** 2)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-4)


@pytest.mark.once
def test_classes_are_learned_from_logits() -> None:
    x = batch_of(4)
    model = small(outputs=3, rnn="gru", similarity="adversarial", dropout=0.5)
    model.compile(run_eagerly=EAGERLY)
    y = np.array([0, 1, 2, 1], "int32")
    assert np.isfinite(model.train_on_batch(x, y)).all()
    logits = model.predict_on_batch(x)
    assert logits.shape == (4, 3)
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        model.test_on_batch(x, y), -log_probability[np.arange(4), y].mean(), rtol=1e-4
    )


@pytest.mark.once
def test_save_and_load(tmp_path: Any) -> None:
    x = batch_of(3)
    model = built(small(rnn="gru", similarity="adversarial", activation="tanh"), x)
    model.compile(optimizer=model.published_optimizer())
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "misa.keras")
    loaded = keras.models.load_model(tmp_path / "misa.keras")
    assert loaded.get_config() == model.get_config()
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    np.testing.assert_allclose(predicted(loaded, x), predicted(model, x), rtol=1e-6)


@pytest.mark.once
def test_initial_weights_are_the_published_ones() -> None:
    hidden, inner = 128, 64
    model = built(MISA(transformer_size=inner), batch_of(2))
    found = {
        name: keras.ops.convert_to_numpy(weight.variable)
        for weight in model.torch_weights()
        for name in weight.names
    }
    for name in ("arnn1.weight_hh_l0", "vrnn2.weight_hh_l0_reverse"):
        kernel = found[name]
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(len(kernel)), atol=1e-5)
    # Uniform: the largest of many entries lies just inside the bound.
    in_projection = "transformer_encoder.layers.0.self_attn.in_proj_weight"
    bounds = {
        "project_a.project_a.weight": 12**-0.5,
        "project_a.project_a.bias": 12**-0.5,
        "vrnn2.weight_ih_l0": 4**-0.5,
        "vrnn2.bias_hh_l0": 4**-0.5,
        in_projection: (6 / (4 * hidden)) ** 0.5,
        "fusion.fusion_layer_1.weight": (6 * hidden) ** -0.5,
    }
    for name, bound in bounds.items():
        assert 0.7 * bound < np.abs(found[name]).max() <= bound, name
    assert not found[in_projection.replace("weight", "bias")].any()

    def lstm(inputs: int, units: int) -> int:
        return 2 * 4 * units * (inputs + units + 2)

    # As PyTorch counts the published network without what reaches no loss.
    rnn = sum(lstm(w, w) + lstm(2 * w, w) + 4 * w for w in (3, 4))
    project = sum((w + 1) * hidden + 2 * hidden for w in (5, 12, 16))
    dense = 7 * (hidden + 1) * hidden
    transformer = 4 * (hidden + 1) * hidden + 2 * hidden * inner + inner + hidden + 4 * hidden
    fusion = (6 * hidden + 1) * 3 * hidden + 3 * hidden + 1
    assert model.count_params() == rnn + project + dense + transformer + fusion


@pytest.mark.once
def test_an_absent_modality_is_named() -> None:
    x = batch_of(2)
    del x["vision"]
    with pytest.raises(ValueError, match="must hold 'audio' and 'vision'.*pass zeros"):
        built(small(), x)


@pytest.mark.once
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("rnn", "rnn"),
        ("similarity", "mmd"),
        ("text_encoder", "max"),
        ("hidden_size", 7),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must .* Received: {argument}="):
        MISA(**{argument: value})
