"""LNLN: the published numbers, other configurations, holes and their complement, its training."""

import copy
import inspect
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.layers.centred_norm import CentredNorm
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality
from keras_m3s.models import LNLN, load_torch_checkpoint
from keras_m3s.models.lnln.attention import attend
from keras_m3s.models.lnln.complete_input import complete_features, complete_tokens
from keras_m3s.models.lnln.training import DecoupledAdam, WarmupCosine
from tests.models import parity

ORDER = ("text", "audio", "vision")
WIDTHS = {"text": 5, "audio": 3, "vision": 4}
STEPS = {"text": 6, "audio": 9, "vision": 8}
TERMS = ("completeness", "adversarial", "reconstruction")

# To trace LNLN takes TensorFlow longer than these few steps; `test_contract` does so.
EAGERLY = keras.backend.backend() == "tensorflow"

SMALL = {"hidden_size": 6, "tokens": 2, "depth": 1, "heads": 2, "head_size": 4}


def small(**options: Any) -> LNLN:
    return LNLN(**{**SMALL, **options})


def batch_of(
    rows: int = 4, seed: int = 0, rate: float = 0.4, steps: Any = STEPS
) -> tuple[dict[str, Any], np.ndarray]:
    """Holed sequences of unequal lengths with `complement`, and labels."""
    rng = np.random.default_rng(seed)
    x: dict[str, Any] = {"complement": {}}
    for m, width in WIDTHS.items():
        length = rng.integers(2, steps[m] + 1, rows).astype("int32")
        true = np.arange(steps[m]) < length[:, None]
        whole = rng.normal(size=(rows, steps[m], width)).astype("float32") * true[..., None]
        gone = (rng.random((rows, steps[m])) < rate)[..., None]
        x[m], x["complement"][m], x[f"{m}_length"] = whole * ~gone, whole * gone, length
    return x, rng.normal(size=(rows, 1)).astype("float32")


def complete(x: dict[str, Any]) -> dict[str, Any]:
    return {m: x[m] + x["complement"][m] for m in WIDTHS}


def built(model: LNLN, x: dict[str, Any]) -> LNLN:
    return parity.built(model, {k: v for k, v in x.items() if k != "complement"})


def trained_on(model: LNLN, x: Any, y: Any) -> dict[str, Any]:
    """All that a training step computes."""
    outputs = model(x, training=True)
    loss = model.compute_loss(x, y, outputs, training=True)
    return {
        **outputs,
        **{f"l_{k}": v for k, v in model.loss_terms(x, y, outputs).items()},
        "l": loss,
    }


def compiled(model: LNLN) -> LNLN:
    model.compile()
    return model


def numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


class OneDict:
    """A model whose batches lie flat, `complement/audio` and so on, as `parity` takes them."""

    def __init__(self, model: LNLN) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @staticmethod
    def nested(flat: dict[str, Any]) -> dict[str, Any]:
        x: dict[str, Any] = {k: v for k, v in flat.items() if "/" not in k}
        return {**x, "complement": {k.split("/")[1]: v for k, v in flat.items() if "/" in k}}

    @staticmethod
    def flat(x: dict[str, Any]) -> dict[str, Any]:
        plain = {k: v for k, v in x.items() if k != "complement"}
        return plain | {f"complement/{k}": v for k, v in x["complement"].items()}

    def __call__(self, x: Any, training: bool) -> Any:
        return self.model(self.nested(x), training=training)

    def compute_loss(self, x: Any = None, **arguments: Any) -> Any:
        return self.model.compute_loss(x=self.nested(x), **arguments)


# The published numbers

PUBLISHED = {
    "hidden_size": 8,
    "heads": 2,
    "depth": {"completeness": 1, "reconstructor": 1},
    "discriminator_size": 4,
}
BERT = r"bertmodel\..*"


@pytest.fixture(scope="module")
def numbers(golden: Any) -> dict[str, np.ndarray]:
    return golden("lnln")


def published(numbers: dict[str, np.ndarray]) -> tuple[LNLN, dict[str, Any], np.ndarray]:
    """The model behind its BERT, and the batch."""
    given, out = parity.part(numbers, "in"), parity.part(numbers, "out")
    x = {
        **{m: given[f"{m}_m"] for m in ("audio", "vision")},
        "text": out["bert_m"],
        "text_missing_rate": given["labels_missing_rate_l"],
        # What was removed and what is complete are told apart where they differ: both will do.
        "complement": {
            "audio": given["audio"] - given["audio_m"],
            "vision": given["vision"],
            "text": out["bert_c"],
        },
    }
    model = built(LNLN(**PUBLISHED), x)
    load_torch_checkpoint(model, parity.part(numbers, "param"), ignore=[BERT])
    return compiled(model), x, given["labels_M"]


def test_published_outputs_and_losses(numbers: dict[str, np.ndarray]) -> None:
    model, x, y = published(numbers)
    found = parity.run(trained_on, model, x, y)
    order = ("audio", "vision", "text")
    ours = {
        "sentiment_preds": found["prediction"],
        "w": found["completeness"],
        "rec_feats": np.concatenate([found["restored"][m] for m in order], axis=1),
        "complete_feats": np.concatenate([found["complete"][m] for m in order], axis=1),
        "effectiveness_discriminator_out": np.concatenate(
            [found["domain"][part].reshape(-1, 2) for part in ("dominant", "complete")]
        ),
        "l_cc": found["l_completeness"],
        "l_adv": found["l_adversarial"],
        "l_rec": found["l_reconstruction"],
        "loss": found["l"],
    }

    def inside(model: LNLN, x: Any) -> dict[str, Any]:
        encoded = model.encode(x, training=False)
        h = {m: model._as_tokens(encoded[m]) for m in ORDER}
        h_d, _ = model.dominant(h["text"], h["audio"], h["vision"])
        states = {f"h_d_{i}": s for i, s in enumerate(model.multimodal.language(h_d))}
        tokens = {"h_1_l": h["text"], "h_1_a": h["audio"], "h_1_v": h["vision"]}
        return {**tokens, "h_1_d": h_d, **states, "eval_mode_preds": model(x, training=False)}

    ours |= parity.run(inside, model, x)
    for name, value in ours.items():
        expected = numbers[f"out/{name}"]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-5, err_msg=name)
    # The published evaluation has no complete input.
    del x["complement"]
    loss = parity.run(trained_on, model, x, y)["l"]
    np.testing.assert_allclose(loss, numbers["out/eval_mode_loss"], rtol=1e-5)


# What all keys share, the softmax of attention does not see.
SHARED_BY_KEYS = r"norm_k\.bias$"


def test_published_gradients(numbers: dict[str, np.ndarray]) -> None:
    model, x, y = published(numbers)
    grads = parity.part(numbers, "grad")
    grads = {k: v for k, v in grads.items() if not k.startswith("bertmodel.")}
    parity.assert_gradients(OneDict(model), OneDict.flat(x), y, grads, zero=SHARED_BY_KEYS)


@pytest.mark.once
@pytest.mark.parametrize("term", ["sp", "cc", "adv", "rec"])
def test_published_gradients_of_one_term(numbers: dict[str, np.ndarray], term: str) -> None:
    model, x, y = published(numbers)
    names = {
        "cc": "completeness_weight",
        "adv": "adversarial_weight",
        "rec": "reconstruction_weight",
    }
    for name in names.values():
        setattr(model, name, 0.0)
    if term != "sp":
        setattr(model, names[term], 1.0)
        model.compile(loss_weights=0.0)
    grads = parity.part(numbers, f"grad_l_{term}")
    weights = [w for w in model.torch_weights() if w.name in grads]
    assert len(weights) == len(grads) > 0
    ours = parity.gradients(OneDict(model), OneDict.flat(x), y, [w.variable for w in weights])
    for weight, gradient in zip(weights, ours, strict=True):
        expected = weight.to_keras(grads[weight.name])
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=atol, err_msg=weight.name)


def test_published_bert(numbers: dict[str, np.ndarray]) -> None:
    """Tokens go through the BERT, with padding, whose embedding alone gets no gradient."""
    keras_hub = pytest.importorskip("keras_hub")
    _, x, y = published(numbers)
    given = parity.part(numbers, "in")
    holed, whole = (given[name].astype("int32") for name in ("text_m", "text"))
    removed = np.where(holed != whole, whole, 0)
    x = {k: v for k, v in x.items() if k != "text"} | {"text_bert": holed}
    x["complement"] = {**x["complement"], "text_bert": removed}
    del x["complement"]["text"]
    bert = keras_hub.models.BertBackbone(200, 2, 2, 16, 32, dropout=0.0, max_sequence_length=64)
    model = compiled(built(LNLN(**PUBLISHED, bert=bert), x))
    parity.load_golden_weights(model, parity.part(numbers, "param"))
    loss = parity.run(trained_on, model, x, y)["l"]
    np.testing.assert_allclose(loss, numbers["out/loss"], rtol=1e-5)
    grads = parity.part(numbers, "grad")
    parity.assert_gradients(OneDict(model), OneDict.flat(x), y, grads, zero=SHARED_BY_KEYS)
    assert not parity.part(numbers, "grad")["bertmodel.model.embeddings.word_embeddings.weight"][
        0
    ].any()


# Other configurations

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "every part by itself": {
        "hidden_size": 10,
        "tokens": 3,
        "head_size": 5,
        "depth": {"encoder": 1, "proxy": 3, "language": 3, "hyper": 2, "fusion": 4},
        "heads": {"encoder": 3, "proxy": 2, "hyper": 4, "fusion": 1},
        "feedforward_size": {"proxy": 7, "reconstructor": 5, "language": 12},
        "discriminator_size": 6,
    },
    "heads of full width": {"hidden_size": 8, "tokens": 1, "head_size": 8, "depth": 1, "heads": 1},
    "published": {"hidden_size": 128, "tokens": 8, "head_size": 64, "depth": 2, "heads": 8},
}


def restated(options: dict[str, Any]) -> Any:
    """PyTorch's model of the same configuration."""
    torch = pytest.importorskip("torch")
    from restated_lnln import RestatedLNLN

    torch.manual_seed(0)
    dim, depth, heads = options["hidden_size"], options["depth"], options["heads"]

    def of(value: Any, part: str, default: int) -> int:
        return value.get(part, default) if isinstance(value, dict) else value

    parts = ("encoder", "proxy", "completeness", "reconstructor", "language", "fusion")
    sizes = {
        part: {
            "depth": of(depth, part, 2),
            "heads": of(heads, part, 8),
            "size": options["head_size"],
            "inner": of(options.get("feedforward_size", {}), part, dim),
        }
        for part in parts
    }
    hyper = sizes["language"]["depth"] + 1
    if isinstance(depth, dict):
        hyper = depth.get("hyper", hyper)
    sizes["hyper"] = {"depth": hyper, "heads": of(heads, "hyper", 8)}
    discriminator = options.get("discriminator_size", dim // 2)
    return RestatedLNLN(WIDTHS, STEPS, dim, options["tokens"], discriminator, sizes)


def torch_batch(x: dict[str, Any], y: np.ndarray) -> tuple[Any, ...]:
    import torch

    tensors = ({m: torch.tensor(batch[m]) for m in ORDER} for batch in (x, complete(x)))
    return *tensors, torch.tensor(x["text_missing_rate"]), torch.tensor(y)


@pytest.mark.once
@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("rows", [5, 1])
def test_other_configurations_match_pytorch(name: str, rows: int) -> None:
    options = CONFIGURATIONS[name]
    x, y = batch_of(rows)
    x["text_missing_rate"] = np.random.default_rng(1).random((rows, 1), dtype="float32")
    reference = restated(options)
    found = reference(*torch_batch(x, y))
    found["loss"].backward()
    model = compiled(built(LNLN(**options), x))
    parity.load_golden_weights(model, reference.state_dict())
    ours = parity.run(trained_on, model, x, y)
    names = {"prediction": "prediction", "completeness": "w", "l": "loss"}
    for ours_name, theirs in {**names, **{f"l_{term}": term for term in TERMS}}.items():
        expected = found[theirs].detach().numpy()
        np.testing.assert_allclose(ours[ours_name], expected, rtol=1e-5, atol=1e-5, err_msg=theirs)
    grads = {n: p.grad.numpy() for n, p in reference.named_parameters()}
    parity.assert_gradients(OneDict(model), OneDict.flat(x), y, grads, zero=SHARED_BY_KEYS)


@pytest.mark.once
@pytest.mark.parametrize("double", [False, True])
def test_large_weights_match_pytorch_in_double_precision(
    double: bool, request: pytest.FixtureRequest
) -> None:
    """The published size with normal weights of .5, where softmax is all but one-hot.

    In single precision PyTorch's own gradients are off by 1e-2 of those in double precision: ours
    are then held to what PyTorch's keep, weight by weight.
    """
    torch = pytest.importorskip("torch")
    x, y = batch_of(5)
    x["text_missing_rate"] = np.random.default_rng(1).random((5, 1), dtype="float32")
    single = restated(CONFIGURATIONS["published"])
    for parameter in single.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    exact = copy.deepcopy(single).double()
    tensors = torch_batch(x, y)
    single(*tensors)["loss"].backward()
    exact(*keras.tree.map_structure(lambda t: t.double(), tensors))["loss"].backward()
    if double:
        request.getfixturevalue("double_precision")
    dtype = "float64" if double else "float32"
    model = compiled(built(LNLN(**CONFIGURATIONS["published"], dtype=dtype), x))
    parity.load_golden_weights(model, single.state_dict())
    weights = list(model.torch_weights())
    ours = parity.gradients(OneDict(model), OneDict.flat(x), y, [w.variable for w in weights])
    named = {n: (p.grad, q.grad) for (n, p), q in zip(single.named_parameters(), exact.parameters(), strict=True)}  # fmt: skip
    worst = 0.0
    for weight, gradient in zip(weights, ours, strict=True):
        if weight.name.endswith("norm_k.bias"):
            continue  # 0 in exact arithmetic, see `SHARED_BY_KEYS`
        rounded, expected = (weight.to_keras(g.numpy()) for g in named[weight.name])
        largest = np.abs(expected).max()
        theirs = np.abs(rounded - expected).max() / largest
        worst = max(worst, theirs)
        tolerance = 1e-6 if double else max(1e-4, 4 * theirs)
        assert np.abs(gradient - expected).max() / largest < tolerance, weight.name
    assert worst > 1e-3  # or single precision would do


@pytest.mark.once
def test_training_goes_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    epochs, rate = 5, 2e-3
    x, y = batch_of(4)
    x["text_missing_rate"] = np.random.default_rng(1).random((4, 1), dtype="float32")
    reference = restated({**SMALL, "heads": 2})
    model = built(small(), x)
    model.compile(model.published_optimizer(rate))
    parity.load_golden_weights(model, reference.state_dict())
    optimizer = torch.optim.AdamW(reference.parameters(), lr=rate, weight_decay=1e-4)
    losses = []
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = rate * WarmupCosine(epochs).factor(epoch)
        rows = [{k: v[i : i + 2] for k, v in x.items() if k != "complement"} for i in (0, 2)]
        for i, part in zip((0, 2), rows, strict=True):
            part["complement"] = {m: v[i : i + 2] for m, v in x["complement"].items()}
            found = reference(*torch_batch(part, y[i : i + 2]))
            optimizer.zero_grad()
            found["loss"].backward()
            optimizer.step()
            losses.append(float(found["loss"].detach()))
    history = model.fit(
        x, y, batch_size=2, epochs=epochs, shuffle=False, verbose=0,
        callbacks=model.training_callbacks(),
    ).history["loss"]  # fmt: skip
    expected = np.reshape(losses, (epochs, 2)).mean(axis=1)
    np.testing.assert_allclose(history, expected, rtol=1e-4)
    assert abs(history[-1] - history[0]) > 0.01  # or there was nothing to see
    state = reference.state_dict()
    for weight in model.torch_weights():
        if weight.name.endswith("norm_k.bias"):
            continue  # its gradient is rounding, which Adam blows up
        theirs = weight.to_keras(state[weight.name].numpy())
        np.testing.assert_allclose(
            numpy(weight.variable), theirs, rtol=1e-4, atol=1e-4, err_msg=weight.name
        )


# Training


def test_decay_is_decoupled_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    start = np.array([1.0, -2.0, 3.0], "float32")
    theirs = torch.nn.Parameter(torch.tensor(start))
    ours = [keras.Variable(start, name="first"), keras.Variable(start, name="second")]
    reference = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.5)
    optimizer = DecoupledAdam(1e-2, weight_decay=0.5, groups={"second": {"weight_decay": 0.0}})
    optimizer.build(ours)
    for step in range(4):
        gradient = np.array([0.3, 0.0, -1.0], "float32") * (step - 1)
        theirs.grad = torch.tensor(gradient)
        reference.step()
        optimizer.apply([ops.convert_to_tensor(gradient)] * 2, ours)
    np.testing.assert_allclose(numpy(ours[0]), theirs.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(numpy(ours[0])[1], -2 * (1 - 1e-2 * 0.5) ** 4, rtol=1e-6)
    assert numpy(ours[1])[1] == -2
    again = DecoupledAdam.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


class Host:
    """What a callback needs of a model."""

    def __init__(self, rate: float = 1e-4) -> None:
        self.optimizer = keras.optimizers.SGD(rate)


def rates_of(callback: WarmupCosine, host: Host, epochs: range) -> list[float]:
    callback.set_model(host)
    callback.on_train_begin()
    rates = []
    for epoch in epochs:
        callback.on_epoch_begin(epoch)
        rates.append(float(host.optimizer.learning_rate))
    return rates


@pytest.mark.once
def test_published_schedule() -> None:
    callback = WarmupCosine()
    callback.set_params({"epochs": 200})
    rates = rates_of(callback, Host(), range(200))
    expected = [1e-4 * e / 20 for e in range(21)] + [1e-4]
    expected += [5e-5 * (1 + np.cos(np.pi * t / 180)) for t in range(1, 179)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-12)
    # Any number of epochs has a rate in each, and the full one after the warm-up.
    for epochs in (1, 2, 3, 11, 30):
        factors = [WarmupCosine(epochs).factor(e) for e in range(epochs)]
        assert factors[0] == 0
        assert all(0 < f <= 1 for f in factors[1:])
        assert epochs == 1 or max(factors) == 1


@pytest.mark.once
def test_schedule_of_a_resumed_run() -> None:
    whole = rates_of(WarmupCosine(20), Host(), range(20))
    for first in (2, 7):  # the second part finds the rate that the first one left
        host = Host()
        rates = rates_of(WarmupCosine(20), host, range(first))
        rates += rates_of(WarmupCosine(20), host, range(first, 20))
        np.testing.assert_allclose(rates, whole, rtol=1e-4)
    # Loaded, the optimizer has the rate of the last epoch, and nothing else is known.
    np.testing.assert_allclose(
        rates_of(WarmupCosine(20), Host(whole[6]), range(7, 20)), whole[7:], rtol=1e-4
    )
    for epochs in (range(1, 2), range(2)):
        with pytest.raises(ValueError, match=f"must be > 0.*=0, initial_epoch={epochs[0]}"):
            rates_of(WarmupCosine(20), Host(0.0), epochs)
    with pytest.raises(ValueError, match="must be > 0.*=1, initial_epoch=1"):
        rates_of(WarmupCosine(20), Host(1.0), range(1, 2))
    # Every `fit` starts from the full rate, not from what the one before has left.
    host = Host()
    for stop in (20, 1, 5, 20):
        rates = rates_of(WarmupCosine(20), host, range(stop))
        np.testing.assert_allclose(rates, whole[:stop], rtol=1e-6)
    host.optimizer.learning_rate = 3e-4
    np.testing.assert_allclose(
        rates_of(WarmupCosine(20), host, range(20)), np.multiply(whole, 3), rtol=1e-6
    )
    resumed = WarmupCosine(20)
    resumed.set_model(host)
    resumed.on_train_begin()
    resumed.start_from(1e-4)
    resumed.on_epoch_begin(5)
    np.testing.assert_allclose(float(host.optimizer.learning_rate), whole[5], rtol=1e-6)
    with pytest.raises(ValueError, match="`epochs` must be >= 1 or None. Received: epochs=0"):
        WarmupCosine(0)
    with pytest.warns(UserWarning, match="a single epoch changes no weight"):
        rates_of(WarmupCosine(1), Host(), range(1))


@pytest.mark.once
def test_the_rate_that_a_model_is_told_is_no_modality() -> None:
    x, _ = batch_of(rate=0.0)
    x = {m: x[m] for m in ORDER} | {"text_missing_rate": np.full((4, 1), 0.3, "float32")}
    layer = MissingModality(1.0, seed=0)
    out = layer(x, training=True)
    assert set(layer.modalities) == set(ORDER)
    np.testing.assert_array_equal(numpy(out["text_missing_rate"]), x["text_missing_rate"])


def test_norm_of_nearly_equal_entries() -> None:
    """The hyper-modality starts as ones: its norm must not lose what little they differ by."""
    x = (1 + 1e-4 * np.random.default_rng(0).normal(size=(1, 4, 16))).astype("float32")
    layer = CentredNorm(epsilon=1e-5)
    centred = x.astype("float64") - x.astype("float64").mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    # A unit in the last place of the mean, over the least deviation.
    atol = np.finfo("float32").eps / np.sqrt(1e-5)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=atol)
    assert not numpy(layer(np.ones((1, 2, 16), "float32"))).any()


# Holes and what they removed


@pytest.mark.once
def test_holes_are_where_the_complement_differs() -> None:
    kept = np.array([[[1, 2], [0, 0], [3, 0], [0, 0]], [[0, 0]] * 4], "float32")
    removed = np.zeros_like(kept)
    removed[0, 1] = [0, 5]
    for complement in (removed, kept + removed):
        part = complete_features(kept, complement)
        np.testing.assert_array_equal(numpy(part.values), kept + removed)
        np.testing.assert_array_equal(numpy(part.measured), [1, 0])
        # Of three steps that hold something one is gone; of none, none.
        np.testing.assert_allclose(numpy(part.kept), [2 / 3, 1], rtol=1e-6)
    filled = kept.copy()
    filled[0, 1] = 9  # whatever stands in a hole
    assert numpy(complete_features(filled, removed).values)[0, 1, 1] == 5


@pytest.mark.once
def test_tokens_are_put_back() -> None:
    ids = np.array([[101, 7, 8, 9, 102, 0], [101, 102, 0, 0, 0, 0]])
    whole = np.stack([ids, ids > 0, np.zeros_like(ids)], axis=1).astype("int32")
    holed, removed = whole.copy(), np.zeros_like(whole)
    holed[0, 0, [1, 3]] = 100
    removed[0, 0, [1, 3]] = [7, 9]
    for complement in (removed, whole):
        part = complete_tokens(holed, complement)
        np.testing.assert_array_equal(numpy(part.values), whole)
        np.testing.assert_allclose(numpy(part.kept), [1 / 3, 1], rtol=1e-6)
    none = complete_tokens(np.zeros_like(whole), np.zeros_like(whole))
    assert not numpy(none.measured).any() and numpy(part.measured).all()


@pytest.mark.parametrize("site", ["raw", pytest.param("encoded", marks=pytest.mark.once)])
def test_targets_are_of_the_complete_input(site: str) -> None:
    x, _ = batch_of(3, rate=0.0)
    del x["complement"]
    for m in WIDTHS:
        x[f"{m}_length"][:] = STEPS[m]
        x[m] += 1.0  # no step is zeros
    model = built(small(), x)
    missing = MissingModality((0.5, 0.5), axis="time" if site == "raw" else "feature")
    wrapped = WithMissing(model, missing, site=site)
    draws = m3s.missing.fixed_draws(3, seed=1)
    outputs = wrapped({**x, "draws": draws}, training=True)
    whole = model.encode(x, training=False)
    for m in ORDER:
        target = numpy(outputs["complete"][m]).reshape(3, -1)
        np.testing.assert_allclose(target, numpy(whole[m]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(outputs["kept"]), 0.5, rtol=1e-6)  # 3 of 6 steps, 6 of 12
    # What is predicted from is holed.
    predicted = wrapped({**x, "draws": draws}, training=False)
    np.testing.assert_allclose(numpy(outputs["prediction"]), numpy(predicted), rtol=1e-4, atol=1e-6)
    assert np.abs(numpy(predicted) - numpy(model(x))).max() > 1e-5


@pytest.mark.once
@pytest.mark.parametrize("site", ["raw", "encoded"])
@pytest.mark.parametrize("options", [{"fill": 0.5}, {"rescale": True}], ids=["fill", "rescale"])
def test_targets_do_not_depend_on_what_stands_in_holes(site: str, options: dict[str, Any]) -> None:
    x, _ = batch_of(4, rate=0.0)
    del x["complement"]
    x["audio"][:, :, 1] = 0.0  # a channel of true zeros
    measured = {m: x[m].copy() for m in ORDER}
    x["text"][0, 3:] = np.nan  # never measured, in part
    x["vision"][1] = np.nan  # and as a whole
    draws = {"draws": m3s.missing.fixed_draws(4, seed=1)}
    axis = "time" if site == "raw" else "feature"
    model = compiled(built(small(), x))

    def found(x: dict[str, Any], **options: Any) -> Any:
        outer = WithMissing(model, MissingModality(0.5, axis, seed=0, **options), site=site)
        outer.predict({**x, **measured}, verbose=0)  # shapes, for what will be absent
        return outer({**x, **draws}, training=True)

    plain, other = found(x), found(x, **options)
    same_targets(other, plain)
    assert numpy(plain["measured"]["vision"]).tolist() == [1, 0, 1, 1]
    assert np.abs(numpy(other["prediction"]) - numpy(plain["prediction"])).max() > 1e-5
    x["vision"][:] = np.nan
    absent = {k: v for k, v in x.items() if k != "vision"}
    same_targets(found(absent, **options), found(x, **options))


def same_targets(actual: Any, expected: Any) -> None:
    for name in ("complete", "measured"):
        for m in ORDER:
            found, wanted = numpy(actual[name][m]), numpy(expected[name][m])
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(actual["kept"]), numpy(expected["kept"]), rtol=1e-6)


@pytest.mark.once
def test_nan_in_the_complement_is_no_target() -> None:
    x, y = batch_of(4)
    model = compiled(built(small(), x))
    known = model.train_on_batch(x, y)
    x["complement"]["audio"][0, 0, 0] = np.nan
    assert np.isfinite(known) and np.isfinite(model.test_on_batch(x, y))
    terms = model.loss_terms(x, y, model(x, training=True))
    assert all(np.isfinite(numpy(term)) for term in terms.values())


@pytest.mark.once
@pytest.mark.parametrize("site", ["raw", "encoded"])
def test_complete_tokens_are_the_target(site: str) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(110, 1, 2, 4, 8, dropout=0.0, max_sequence_length=16)
    x, _ = batch_of(2, rate=0.0)
    ids = np.array([[101, 7, 9, 8, 6, 102, 0], [101, 5, 102, 0, 0, 0, 0]])
    tokens = np.stack([ids, ids > 0, np.zeros_like(ids)], axis=1).astype("int32")
    x = {"text_bert": tokens, **{m: x[m] for m in ("audio", "vision")}}
    model = built(small(bert=bert), x)
    names = ("audio", "vision", "text")
    axis = "time" if site == "raw" else "feature"
    outer = WithMissing(model, MissingModality(0.5, axis, modalities=names), site=site)
    batch = {**x, "draws": m3s.missing.fixed_draws(2, seed=0)}
    outputs = outer(batch, training=True)
    whole = numpy(model.encode(x, training=False)["text"]).reshape(2, -1)
    target = numpy(outputs["complete"]["text"]).reshape(2, -1)
    np.testing.assert_allclose(target, whole, rtol=1e-5, atol=1e-6)
    share = [0.5, 1.0] if site == "raw" else [0.5, 0.5]  # 2 of 4 words, 0 of 1; half the vector
    np.testing.assert_allclose(numpy(outputs["kept"]), share, rtol=1e-6)


def test_without_complement_its_losses_are_left_out() -> None:
    x, y = batch_of()
    model = compiled(built(small(), x))

    def terms(x: dict[str, Any]) -> dict[str, float]:
        found = parity.run(trained_on, model, x, y)
        return {term: float(found[f"l_{term}"]) for term in TERMS}

    complement = x.pop("complement")
    assert set(terms(x).values()) == {0.0}
    known = terms({**x, "text_missing_rate": np.full(4, 0.3, "float32")})
    assert known["completeness"] > 0
    assert known["adversarial"] == known["reconstruction"] == 0
    part = terms({**x, "complement": {"audio": complement["audio"]}})
    assert part["reconstruction"] > 0
    assert part["adversarial"] == part["completeness"] == 0
    assert min(terms({**x, "complement": complement}).values()) > 0


@pytest.mark.once
def test_what_was_never_measured_is_no_target() -> None:
    """Zeros throughout, in the input and in its complement, as T leaves what was NaN."""
    x, y = batch_of()
    model = compiled(built(small(), x))
    without_text = {**x, "text": x["text"].copy(), "complement": dict(x["complement"])}
    without_text["complement"]["text"] = x["complement"]["text"].copy()
    without_text["text"][1] = without_text["complement"]["text"][1] = 0
    rest = [0, 2, 3]
    others = {k: v[rest] for k, v in x.items() if k != "complement"}
    others["complement"] = {m: v[rest] for m, v in x["complement"].items()}
    found = parity.run(trained_on, model, without_text, y)
    expected = parity.run(trained_on, model, others, y[rest])
    for term in ("completeness", "adversarial"):  # those that look at text alone
        np.testing.assert_allclose(found[f"l_{term}"], expected[f"l_{term}"], rtol=1e-5)
    squares = [
        np.mean((found["restored"][m][i] - found["complete"][m][i]) ** 2)
        for m in ORDER
        for i in range(4)
        if (m, i) != ("text", 1)
    ]
    np.testing.assert_allclose(found["l_reconstruction"], np.mean(squares), rtol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("fill", [0.0, 5.0])
def test_nan_is_no_target_whatever_stands_in_its_place(fill: float) -> None:
    x, y = batch_of(rate=0.0)
    del x["complement"]
    x["text"][1] = np.nan
    x["audio"][2, 0, 1] = np.nan  # a single value: the rest of the sample is a target
    model = small()
    outer = WithMissing(model, MissingModality(0.5, fill=fill))
    outer.compile()
    batch = {**x, "draws": m3s.missing.fixed_draws(4, seed=0)}
    outputs = outer(batch, training=True)

    def loss_without(row: int) -> float:
        """The loss with other numbers wherever a row's text is compared."""
        changed = {k: dict(v) if isinstance(v, dict) else v for k, v in outputs.items()}
        at = np.arange(4)[:, None, None] == row
        for name, part in (("restored", "text"), ("domain", "complete"), ("domain", "dominant")):
            changed[name][part] = ops.where(at, changed[name][part] * 9.0, changed[name][part])
        changed["completeness"] = ops.where(at[:, 0], 0.9, changed["completeness"])
        return float(numpy(outer.compute_loss(batch, y, changed)))

    nothing = loss_without(-1)
    assert np.isfinite(nothing)
    assert loss_without(1) == pytest.approx(nothing, rel=1e-6)
    assert abs(loss_without(0) - nothing) > 1e-2
    if not fill:
        np.testing.assert_array_equal(numpy(outputs["measured"]["text"]), [1, 0, 1, 1])
    np.testing.assert_array_equal(numpy(outputs["measured"]["audio"]), [1, 1, 1, 1])


@pytest.mark.once
@pytest.mark.parametrize("site", ["raw", "encoded"])
def test_m3s_takes_steps_and_is_saved(site: str, tmp_path: Any) -> None:
    x, y = batch_of(6)
    del x["complement"]
    missing = MissingModality((0.3, 0.7), "time" if site == "raw" else "feature", seed=0)
    model = small(depth={**dict.fromkeys(("encoder", "proxy", "language", "fusion"), 1)})
    outer = m3s.M3S(model, missing, inner_steps=2, inner_learning_rate=1e-4, site=site)
    outer.compile(model.published_optimizer(1e-3))
    losses = [outer.train_on_batch(x, y) for _ in range(3)]
    assert np.isfinite(losses).all()
    # Each part is trained, and so has a loss.
    moments = {v.path: np.abs(numpy(v)).max() for v in outer.optimizer.variables}
    still = [path for path, value in moments.items() if "velocity" in path and value == 0]
    assert not still
    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.model.get_config() == model.get_config()
    for ours, theirs in zip(outer.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))
    holed = {**x, "draws": m3s.missing.fixed_draws(6, seed=1)}
    np.testing.assert_allclose(
        loaded.predict(holed, verbose=0), outer.predict(holed, verbose=0), rtol=1e-5
    )
    outer.train_on_batch(x, y)
    loaded.train_on_batch(x, y)
    for ours, theirs in zip(outer.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-5, atol=1e-6)


# Padding and positions


def encoded(model: LNLN, x: Any) -> Any:
    return model.encode(x, training=False)


@pytest.mark.once
def test_masked_padding_is_never_read() -> None:
    x, _ = batch_of()
    x["text_length"][0], x["audio_length"][1] = 1, 0
    for m in WIDTHS:
        gone = np.arange(STEPS[m]) >= x[f"{m}_length"][:, None]
        x[m][gone] = x["complement"][m][gone] = 0
    garbage = {k: v.copy() for k, v in x.items() if k != "complement"}
    for m in WIDTHS:
        garbage[m] = np.pad(garbage[m], [(0, 0), (0, 3), (0, 0)])
        garbage[m][np.arange(STEPS[m] + 3) >= x[f"{m}_length"][:, None]] = 7.0
    alone = {
        k: v[:1, : max(1, x[f"{k}_length"][0])] if v.ndim == 3 else v[:1]
        for k, v in x.items()
        if k != "complement"
    }
    model = built(small(mask_padding=True, steps={m: n + 3 for m, n in STEPS.items()}), x)
    expected, padded, first = (parity.run(encoded, model, batch) for batch in (x, garbage, alone))
    for m in WIDTHS:
        np.testing.assert_allclose(padded[m], expected[m], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(first[m], expected[m][:1], rtol=1e-5, atol=1e-6)
    published = built(small(steps={m: n + 3 for m, n in STEPS.items()}), x)
    short, long = (parity.run(encoded, published, batch) for batch in (x, garbage))
    assert min(np.abs(short[m] - long[m]).max() for m in WIDTHS) > 1e-3


@pytest.mark.once
def test_steps_and_positions() -> None:
    x, _ = batch_of()
    model = built(small(steps={"text": 7}), x)
    positions = {m: model.encoders[m].positions.shape[1] - 2 for m in ORDER}
    assert positions == {**STEPS, "text": 7}
    longer = {**x, "audio": np.pad(x["audio"], [(0, 0), (0, 1), (0, 0)])}
    with pytest.raises(ValueError, match="at most 9 steps.*Received: 10.*steps={'audio': 10}"):
        model(longer)
    with pytest.raises(ValueError, match="of 'vision' must be known"):
        shapes = {m: (None, None if m == "vision" else 4, 3) for m in ORDER}
        small().build(shapes)


@pytest.mark.once
def test_attention_is_a_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, n, 6)).astype("float32") for n in (3, 4, 4))
    visible = np.array([[1, 1, 0, 1], [0, 1, 0, 0]], bool)
    found = numpy(attend(query, key, value, 2, visible))
    for head in (slice(0, 3), slice(3, 6)):
        scores = np.einsum("bqd,bkd->bqk", query[..., head], key[..., head]) / np.sqrt(3)
        weights = np.exp(scores) * visible[:, None]
        weights /= weights.sum(-1, keepdims=True)
        np.testing.assert_allclose(found[..., head], weights @ value[..., head], atol=1e-5)


# Weights and arguments


@pytest.mark.once
def test_checkpoint_as_published(numbers: dict[str, np.ndarray], tmp_path: Any) -> None:
    """`{epoch, state_dict, optimizer}` of a model with longer sequences, its BERT left aside."""
    torch = pytest.importorskip("torch")
    model, x, _ = published(numbers)
    state = {k: torch.tensor(v) for k, v in parity.part(numbers, "param").items()}
    torch.save(
        {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "best_MAE_1.pth"
    )
    inputs = {m: x[m][:, :4] for m in WIDTHS}
    other = built(LNLN(**PUBLISHED), inputs)
    assert other.encoders["audio"].positions.shape == (1, 8 + 4, 8)
    load_torch_checkpoint(other, tmp_path / "best_MAE_1.pth", ignore=[BERT])
    np.testing.assert_allclose(numpy(other(inputs)), numpy(model(inputs)), rtol=1e-5)
    del state["dmml.3.bias"]
    state["dmml.4.bias"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"unknown: dmml.4.bias[\s\S]*missing: dmml.3.bias"):
        load_torch_checkpoint(other, state, ignore=[BERT])


@pytest.mark.once
def test_initial_weights_are_the_published_ones() -> None:
    x, _ = batch_of()
    model = built(LNLN(heads=1), x)
    found = {w.name: numpy(w.variable) for w in model.torch_weights()}
    assert np.isclose(found["proj_a.1.pos_embedding"].std(), 1, rtol=0.1)
    assert not found["proj_a.1.extra_token"].any()
    assert not found["dmml.2.extra_token"].any()
    assert (found["h_p"] == 1).all()
    assert (found["h_hyper"] == 1).all()
    # Uniform: the largest of many entries lies just inside the bound.
    bounds = {
        "proj_l.0.weight": 5**-0.5,
        "dmml.0.encoder.layers.1.0.fn.to_k.weight": 128**-0.5,
        "dmml.0.encoder.layers.1.0.fn.to_out.0.weight": 64**-0.5,
        "dmml.0.encoder.layers.1.0.fn.to_out.0.bias": 64**-0.5,
        "effective_discriminator.2.weight": 64**-0.5,
    }
    for name, bound in bounds.items():
        assert 0.9 * bound < np.abs(found[name]).max() <= bound, name


@pytest.mark.once
def test_save_and_load_with_a_bert(tmp_path: Any) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(110, 1, 2, 4, 8, max_sequence_length=16)
    x, y = batch_of(2)
    ids = np.array([[101, 7, 9, 102, 0], [101, 100, 102, 0, 0]])
    tokens = np.stack([ids, ids > 0, np.zeros_like(ids)], axis=1).astype("int32")
    removed = np.zeros_like(tokens)
    removed[1, 0, 1] = 8
    x = {"text_bert": tokens, **{m: x[m] for m in ("audio", "vision")}}
    model = small(bert=bert, steps={"text": 6})
    model.compile(model.published_optimizer())
    model.train_on_batch({**x, "complement": {"text_bert": removed}}, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), rtol=1e-5)
    for old, new in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy(old), numpy(new))


@pytest.mark.once
def test_every_argument_is_kept() -> None:
    values: dict[str, Any] = {
        "hidden_size": 6,
        "tokens": 3,
        "depth": {"language": 3, "hyper": 2},
        "heads": {"fusion": 2},
        "head_size": 4,
        "feedforward_size": 7,
        "discriminator_size": 5,
        "outputs": 2,
        "steps": {"audio": 9},
        "completeness_weight": 0.1,
        "adversarial_weight": 0.2,
        "reconstruction_weight": 0.3,
        "task_weight": 0.4,
        "mask_padding": True,
        "bert": None,
    }
    own = {n for n in inspect.signature(LNLN.__init__).parameters if n not in ("self", "kwargs")}
    assert set(values) == own
    values["heads"]["hyper"] = 2
    config = LNLN(**values).get_config()
    assert {name: config[name] for name in values} == values
    assert LNLN.from_config(config).get_config() == config


def test_weights_of_the_losses() -> None:
    x, y = batch_of()
    plain = compiled(built(small(), x))
    other = built(
        small(completeness_weight=2.0, adversarial_weight=3.0, reconstruction_weight=4.0,
              task_weight=5.0), x)  # fmt: skip
    other.compile()
    for a, b in zip(plain.variables, other.variables, strict=True):
        b.assign(numpy(a))
    found = parity.run(trained_on, plain, x, y)
    task = np.mean((found["prediction"] - y) ** 2)
    terms = [found[f"l_{term}"] for term in TERMS]
    np.testing.assert_allclose(found["l"], task + np.dot(terms, [0.9, 0.8, 0.1]), rtol=1e-5)
    loss = parity.run(trained_on, other, x, y)["l"]
    np.testing.assert_allclose(loss, 5 * task + np.dot(terms, [2, 3, 4]), rtol=1e-5)


@pytest.mark.once
def test_an_absent_modality_is_named() -> None:
    x, _ = batch_of()
    del x["vision"]
    with pytest.raises(ValueError, match="must hold 'audio' and 'vision'.*pass zeros"):
        built(small(), x)


@pytest.mark.once
@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("hidden_size", 1, "hidden_size=1"),
        ("tokens", 0, "tokens=0"),
        ("depth", {"decoder": 2}, "depth of \\['decoder'\\]"),
        ("depth", {"hyper": 4}, "depth={'hyper': 4}"),
        ("depth", 0, "depth=0"),
        ("heads", {"fusion": 0}, "heads=0"),
        ("heads", {"hyper": 129}, "heads={'hyper': 129}"),
        ("steps", {"text_bert": 4}, "steps of"),
        ("discriminator_size", 0, "discriminator_size=0"),
        ("task_weight", "x", "task_weight='x'"),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}`.* must .*Received: .*{said}"):
        LNLN(**{argument: value})


@pytest.mark.once
def test_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be floats"):
        LNLN.data_arguments(np.array([0, 1]))
