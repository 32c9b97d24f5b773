"""TFR-Net: the published numbers, its training, what is missing and what is padding."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality
from keras_m3s.models.tfr_net import PRESETS, TFRNet
from keras_m3s.models.tfr_net.crossmodal import CrossmodalTransformer, sinusoids, visible_keys
from keras_m3s.models.tfr_net.reconstruction import (
    Missing,
    complete_tokens,
    missing_frames,
    reconstruction_loss,
)
from keras_m3s.models.tfr_net.training import RunningSumAdam
from tests.models import parity

ORDER = ("text", "audio", "vision")
WIDTHS = {"text": 5, "audio": 3, "vision": 4}
STEPS = {"text": 6, "audio": 9, "vision": 8}

# To trace TFR-Net takes TensorFlow longer than these few steps; `test_contract` does so.
EAGERLY = keras.backend.backend() == "tensorflow"

CALM = dict.fromkeys(
    [
        *("text_dropout", "attention_dropout", "audio_attention_dropout"),
        *("relu_dropout", "residual_dropout", "embedding_dropout", "fusion_dropout"),
    ],
    0.0,
)
SMALL = {
    **CALM,
    "hidden_size": 4,
    "heads": 2,
    "attention_layers": 1,
    "self_attention_layers": 1,
    "text_size": 3,
    "audio_size": 2,
    "vision_size": 4,
    "gru_layers": 1,
    "classifier_size": 5,
}


def small(**options: Any) -> TFRNet:
    return TFRNet(**{**SMALL, **options})


def batch_of(
    rows: int = 4, seed: int = 0, rate: float = 0.4, widths: Any = WIDTHS, steps: Any = STEPS
) -> tuple[dict[str, Any], np.ndarray]:
    """Holed sequences of unequal lengths with `complement`, and labels."""
    rng = np.random.default_rng(seed)
    x: dict[str, Any] = {"complement": {}}
    for m, width in widths.items():
        length = rng.integers(2, steps[m] + 1, rows).astype("int32")
        whole = rng.normal(size=(rows, steps[m], width)).astype("float32")
        whole *= np.arange(steps[m])[None, :, None] < length[:, None, None]
        kept = rng.random((rows, steps[m], 1)) > rate
        x[m], x["complement"][m], x[f"{m}_length"] = whole * kept, whole * ~kept, length
    return x, rng.normal(size=(rows, 1)).astype("float32")


def built(model: TFRNet, x: Any) -> TFRNet:
    return parity.built(model, {k: v for k, v in x.items() if k != "complement"})


def array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def close(found: Any, expected: Any, tolerance: float = 5e-5, name: str = "") -> None:
    np.testing.assert_allclose(array(found), expected, rtol=tolerance, atol=tolerance, err_msg=name)


class OneDict:
    """A model whose batches lie flat, `complement/audio` and so on, as `parity` wants them."""

    def __init__(self, model: TFRNet) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @staticmethod
    def nested(flat: Any) -> dict[str, Any]:
        x = {k: v for k, v in flat.items() if "/" not in k}
        x["complement"] = {k.split("/")[1]: v for k, v in flat.items() if "/" in k}
        return x

    @staticmethod
    def flat(x: Any) -> dict[str, Any]:
        plain = {k: v for k, v in x.items() if k != "complement"}
        return plain | {f"complement/{k}": v for k, v in x["complement"].items()}

    def __call__(self, x: Any, training: bool) -> Any:
        return self.model(self.nested(x), training=training)

    def compute_loss(self, x: Any, **others: Any) -> Any:
        return self.model.compute_loss(x=self.nested(x), **others)


def with_running_statistics(model: TFRNet) -> TFRNet:
    """The model with its batch norm as in inference; nothing else differs without dropout."""
    call = type(model.norm).call
    model.norm.call = lambda inputs, training=None, mask=None: call(model.norm, inputs, False)
    return model


# The published numbers


@pytest.fixture(scope="module")
def numbers(golden: Any) -> dict[str, np.ndarray]:
    return golden("tfr_net")


def published_batch(numbers: Any) -> tuple[dict[str, Any], np.ndarray]:
    given = parity.part(numbers, "in")
    ids, holed = given["text"].astype("int32"), given["text_m"].astype("int32")
    x = {"text_bert": holed, "complement": {"text_bert": np.where(ids != holed, ids, 0)}}
    for m in ("audio", "vision"):
        missing = (given[f"{m}_mask"] - given[f"{m}_missing_mask"])[..., None].astype("float32")
        x |= {m: given[f"{m}_m"], f"{m}_length": given[f"{m}_lengths"].astype("int32")}
        x["complement"][m] = given[m] * missing
    return x, given["labels_M"]


def published(numbers: Any, **options: Any) -> TFRNet:
    """The model of the golden file, its weights loaded, under the names that MMSA saves."""
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(200, 2, 2, 16, 32, dropout=0.0, max_sequence_length=64)
    arguments = {
        **{"hidden_size": 6, "heads": 3, "attention_layers": 3, "temporal_heads": 5},
        **{"text_size": 4, "audio_size": 3, "vision_size": 5, "classifier_size": 8},
        **{"similarity_weight": 5.0, "bert": bert, **CALM, **options},
    }
    model = built(TFRNet(**arguments), published_batch(numbers)[0])
    saved = {f"Model.{k}": v for k, v in parity.part(numbers, "param").items()}
    transformer = "Model.align_subnet.Model.trans_l_mem"
    saved |= {f"{transformer}.version": np.full(1, 2.0), "Model.x.num_batches_tracked": np.ones(())}
    saved |= {f"{transformer}.embed_positions._float_tensor": np.zeros(1)}
    parity.load_golden_weights(model, saved)
    model.compile()
    return model


def everything(model: TFRNet, x: Any, y: Any) -> dict[str, Any]:
    """All that a step computes, under the published names."""
    encoded = model.encode(x, training=True)
    outputs = model.fuse(encoded, training=True)
    found = {
        "prediction": outputs["prediction"],
        "loss_pred": model.compute_loss(x, y, outputs["prediction"], training=False),
        "loss_total": model.compute_loss(x, y, outputs),
    }
    terms = model.loss_terms(x, y, outputs)
    found["loss_gen"] = sum(weight * terms[m] for m, weight in model.term_weights.items())
    for m in ORDER:
        found |= {
            f"rep_{m}": encoded[m],
            f"gen_{m}": outputs["generated"][m],
            f"loss_gen_{m[0]}": terms[m],
        }
    return found


@pytest.mark.parametrize("causal", [True, pytest.param(False, marks=pytest.mark.once)])
def test_published_outputs_and_losses(numbers: Any, causal: bool) -> None:
    model = with_running_statistics(published(numbers, causal=causal))
    expected = parity.part(numbers, "out" if causal else "alt_nomask")
    found = parity.run(everything, model, *published_batch(numbers))
    names = [name for name in found if name in expected]
    assert len(names) == (len(found) if causal else 5)
    for name in names:
        close(found[name], expected[name], name=name)


@pytest.mark.slow
def test_published_gradients(numbers: Any) -> None:
    model = with_running_statistics(published(numbers))
    x, y = published_batch(numbers)
    parity.assert_gradients(OneDict(model), OneDict.flat(x), y, parity.part(numbers, "grad"))


@pytest.mark.once
def test_published_gradients_of_the_first_epoch(numbers: Any) -> None:
    """Without the reconstruction, whose variables then have none."""
    model = with_running_statistics(published(numbers))
    model.reconstruction_counts = False
    x, y = published_batch(numbers)
    gradients = parity.gradients(OneDict(model), OneDict.flat(x), y, model.trainable_variables)
    named = {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        named[id(variable)] = gradient
        late = "_reconstruction/" in variable.path
        assert not (late and gradient.any())
    expected = parity.part(numbers, "grad_pred")
    checked = 0
    for weight in model.torch_weights():
        if set(weight.names) <= set(expected):
            value = weight.to_keras(*(expected[name] for name in weight.names))
            close(named[id(weight.variable)], value, 1e-4 * np.abs(value).max(), str(weight.name))
            checked += 1
    assert checked == len(expected) == 3


@pytest.mark.once
def test_published_training_pass(numbers: Any) -> None:
    """With the statistics of the batch, which then move."""
    model = published(numbers)
    x, y = published_batch(numbers)
    outputs = model(x, training=True)
    close(outputs["prediction"], numbers["train_out/prediction"])
    close(model.compute_loss(x, y, outputs), numbers["train_out/loss_total"])
    norm = "fusion_subnet.Model.classifier.linear_trans_norm"
    close(model.norm.moving_mean, numbers[f"train_buf/{norm}.running_mean"])
    close(model.norm.moving_variance, numbers[f"train_buf/{norm}.running_var"])
    gradients = parity.gradients(OneDict(model), OneDict.flat(x), y, model.trainable_variables)
    named = dict(zip(map(id, model.trainable_variables), gradients, strict=True))
    expected = parity.part(numbers, "train_grad")
    for weight in model.torch_weights():
        if weight.name in expected:
            value = weight.to_keras(expected.pop(weight.name))
            close(named[id(weight.variable)], value, 1e-4 * np.abs(value).max(), weight.name)
    assert not expected


@pytest.mark.once
def test_other_reconstruction_losses_are_the_published_ones(numbers: Any) -> None:
    given, out = parity.part(numbers, "in"), parity.part(numbers, "out")
    targets = {"text": out["bert_c"], "audio": given["audio"], "vision": given["vision"]}
    true = {"text": given["text"][:, 1]} | {m: given[f"{m}_mask"] for m in ("audio", "vision")}
    cases = {"SmoothL1Loss": ("smooth_l1", 0.0), "MSELoss": ("mse", 0.0), "cmd": ("cmd", 0.0)}
    cases |= {"combine_w5": ("combine", 5.0), "combine_w0": ("combine", 0.0)}
    for name, (kind, weight) in cases.items():
        for row, m in enumerate(ORDER):
            mask = (true[m] - given[f"{m}_missing_mask"])[..., None].astype("float32")
            found = reconstruction_loss(out[f"gen_{m}"], Missing(targets[m], mask), kind, weight)
            close(found, out[f"rec_alt/{name}"][row], 1e-5, f"{name} {m}")


@pytest.mark.once
def test_padding_token_stays_where_it_is(numbers: Any) -> None:
    """Its gradient is 0 in PyTorch, though the states of padding are read."""
    model = published(numbers)
    x, y = published_batch(numbers)
    (embeddings,) = [v for v in model.trainable_variables if "token_embedding" in v.path]
    (gradient,) = parity.gradients(OneDict(model), OneDict.flat(x), y, [embeddings])
    assert not gradient[0].any()
    assert gradient[101].any()


# Other configurations, in double precision: in single, PyTorch's own gradients are off by 1e-3


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "two layers, odd width": {"attention_layers": 2, "hidden_size": 9, "heads": 3},
    "a width that needs no convolution": {"hidden_size": 5, "heads": 1, "audio_kernel_size": 3},
    "aligned, all seen": {"steps": {"text": 6, "audio": 6, "vision": 6}, "causal": False},
    "along the features": {
        "reconstruction_axis": "feature",
        "temporal_heads": 2,
        "steps": {"text": 6, "audio": 10, "vision": 4},
    },
    "squares, other weights": {"reconstruction_loss": "mse", "text_weight": 0.3},
    "moments": {"reconstruction_loss": "cmd"},
    "smooth": {"reconstruction_loss": "smooth_l1", "text_kernel_size": 3},
}


@pytest.mark.once
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_other_configurations_match_pytorch(name: str, double_precision: None) -> None:
    torch = pytest.importorskip("torch")
    from restated_tfr_net import RestatedTFRNet

    torch.manual_seed(0)
    options = {**SMALL, "hidden_size": 6, "temporal_heads": 1, "similarity_weight": 5.0}
    options |= {"self_attention_layers": None, "gru_layers": 2, **CONFIGURATIONS[name]}
    steps = options.pop("steps", STEPS)
    x, y = batch_of(5, steps=steps)
    reference = RestatedTFRNet(WIDTHS, steps, **options).double()
    # Away from biases of 0 and norms of 1.
    for parameter in reference.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    tensors = {k: torch.tensor(v) for k, v in x.items() if k != "complement"}
    tensors |= {f"{m}_removed": torch.tensor(v) for m, v in x["complement"].items()}
    tensors = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
    found = reference(tensors)
    loss = reference.loss(found, torch.tensor(y).double())
    loss.backward()

    model = built(TFRNet(**options, dtype="float64"), x)
    model.compile()
    state = {f"module.Model.{k}": v for k, v in reference.state_dict().items()}
    # The published model has all three convolutions, needed or not.
    norm = "fusion_subnet.Model.classifier.linear_trans_norm"
    moving = {k: v for k, v in state.items() if norm in k and "running" in k}
    for key in moving:  # as before the pass
        state[key] = torch.zeros_like(state[key]) if "mean" in key else torch.ones_like(state[key])
    parity.load_golden_weights(model, state)
    outputs = model(x, training=True)
    terms = model.loss_terms(x, y, outputs)
    close(outputs["prediction"], found["prediction"].detach(), 1e-6)
    for m in ORDER:
        close(outputs["generated"][m], found[f"generated_{m}"].detach(), 1e-6, m)
        close(terms[m], found[f"loss_{m}"].detach(), 1e-6, m)
    close(model.compute_loss(x, y, outputs), loss.detach(), 1e-6)
    close(model.norm.moving_variance, moving[f"module.Model.{norm}.running_var"], 1e-6)
    grads = {n: p.grad.numpy() for n, p in reference.named_parameters() if p.grad is not None}
    parity.assert_gradients(OneDict(model), OneDict.flat(x), y, grads, rel=2e-5)


# The published training


def test_optimizer_steps_as_the_published_loop() -> None:
    """Two epochs of 6 batches on sums of squares, a late variable and a group with its own rate."""
    torch = pytest.importorskip("torch")
    from restated_tfr_net import published_epoch

    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype("float32")
    centres = (
        rng.normal(size=(2, 6, 3, 4)).astype("float32")
        * np.array([[[1.0]], [[3.0]], [[0.1]]]).astype("float32")[:, 0]
    )
    theirs = [torch.tensor(row, requires_grad=True) for row in start]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(theirs, (0.1, 0.02, 0.1), strict=True)]
    reference = torch.optim.Adam(groups, weight_decay=1e-2)
    ours = [
        keras.Variable(row, name=f"{name}_x")
        for row, name in zip(start, ("a", "slow", "late"), strict=True)
    ]
    optimizer = RunningSumAdam(
        0.1,
        weight_decay=1e-2,
        groups={"slow": {"learning_rate": 0.02}},
        clipvalue=0.8,
        late="late",
    )
    optimizer.build(ours)
    for epoch in range(2):
        late = epoch > 0
        here = centres[epoch]

        def loss(centre: Any, late: bool = late) -> Any:
            pairs = list(zip(theirs, torch.tensor(centre), strict=True))
            return sum((p - c).square().sum() for p, c in pairs[: 3 if late else 2])

        published_epoch(reference, [lambda c=c: loss(c) for c in here])
        optimizer.late_rests = not late
        optimizer.discard_accumulated()
        for centre in here:
            gradients = [2 * (array(v) - c) for v, c in zip(ours, centre, strict=True)]
            if not late:
                gradients[2] = np.zeros(4, "float32")
            optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
        for own, other in zip(ours, theirs, strict=True):
            close(own, other.detach().numpy(), 1e-5, own.path)
    assert int(array(optimizer.iterations)) == 12
    assert [int(array(n)) for n in (optimizer._steps, optimizer._late_steps)] == [14, 7]


@pytest.mark.once
def test_two_epochs_are_the_published_ones(double_precision: None) -> None:
    torch = pytest.importorskip("torch")
    from restated_tfr_net import RestatedTFRNet, published_epoch

    torch.manual_seed(0)
    options = {**SMALL, "temporal_heads": 1, "similarity_weight": 5.0}
    reference = RestatedTFRNet(WIDTHS, STEPS, **options).double()
    batches = [batch_of(5, seed) for seed in range(5)]
    model = built(TFRNet(**options, dtype="float64"), batches[0][0])
    parity.load_golden_weights(model, reference.state_dict())
    model.compile(model.published_optimizer())
    optimizer = torch.optim.Adam(reference.parameters(), lr=2e-3, weight_decay=1e-3)

    def losses(with_reconstruction: bool) -> Any:
        for x, y in batches:
            tensors = {k: torch.tensor(v) for k, v in x.items() if k != "complement"}
            tensors |= {f"{m}_removed": torch.tensor(v) for m, v in x["complement"].items()}
            tensors = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
            yield lambda t=tensors, y=y: reference.loss(
                reference(t), torch.tensor(y).double(), with_reconstruction
            )

    expected = [np.mean(published_epoch(optimizer, losses(epoch > 0))) for epoch in range(2)]
    history = model.fit(
        Listed(batches),
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=model.training_callbacks()[:1],
    ).history
    close(history["loss"], expected, 1e-4)
    state = reference.state_dict()
    for weight in model.torch_weights():
        value = weight.to_keras(*(state[name].numpy() for name in weight.names))
        if "in_proj_bias" in weight.name:
            # That of the keys has no gradient, whose rounding Adam makes steps of.
            dim = len(value) // 3
            value[dim : 2 * dim] = array(weight.variable)[dim : 2 * dim]
        close(weight.variable, value, 1e-4, str(weight.name))


class Listed(keras.utils.PyDataset):
    """Batches as they are."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


@pytest.mark.once
def test_reconstruction_begins_with_the_second_epoch() -> None:
    batches = Listed([batch_of(seed=seed) for seed in range(2)])
    model = built(small(), batches[0][0])
    outer = WithMissing(model, None)
    outer.compile(model.published_optimizer())
    late = [v for v in model.trainable_variables if "_reconstruction/" in v.path]
    assert len(late) == 3 * (12 + 2 + 2)  # a layer, its norm and the linear map, of each modality
    start = [np.array(array(v)) for v in late]
    options = {"verbose": 0, "shuffle": False, "callbacks": model.training_callbacks()[:1]}
    for epoch in range(2):
        outer.fit(batches, initial_epoch=epoch, epochs=epoch + 1, **options)
        assert model.reconstruction_counts == (epoch > 0)
        assert outer.optimizer.late_rests == (epoch == 0)
        moved = [(before != array(v)).any() for before, v in zip(start, late, strict=True)]
        assert not any(moved) if epoch == 0 else all(moved)


@pytest.mark.once
def test_rate_falls_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")

    class Host:
        optimizer = keras.optimizers.SGD(1.0)

    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(reference, factor=0.1, patience=5)
    _, ours = small().training_callbacks(preset="mosi")
    ours.set_model(Host())
    ours.on_train_begin()
    losses = [1.0, 0.9, *[0.9] * 6, 0.89999, 0.5, *[0.6] * 13]
    rates = []
    for epoch, loss in enumerate(losses):
        schedule.step(loss)
        ours.on_epoch_end(epoch, {"val_loss": loss})
        rates.append((float(Host.optimizer.learning_rate), schedule.get_last_lr()[0]))
    np.testing.assert_allclose(*zip(*rates, strict=True), rtol=1e-5)
    assert rates[-1][1] == pytest.approx(1e-3)


@pytest.mark.once
def test_published_settings() -> None:
    given = {name: TFRNet(**options) for name, options in PRESETS.items()}
    assert given["mosi"].term_weights == {"text": 5.0, "audio": 2.0, "vision": 20.0}
    assert given["sims_mmsa"].term_weights == {"text": 1.0, "audio": 0.01, "vision": 1e-4}
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(20, 1, 2, 4, 6, max_sequence_length=16)
    model = small(bert=bert)
    for preset, rates in {"mosi": (2e-3, 1e-5), "mosi_mmsa": (1e-3, 2e-6)}.items():
        optimizer = model.published_optimizer(preset=preset)
        x = {k: v for k, v in batch_of()[0].items() if k != "text"}
        optimizer.build(
            built(model, x | {"text_bert": np.zeros((4, 3, 6), "int32")}).trainable_variables
        )
        found = {
            (round(float(optimizer.learning_rate) * multiplier, 9), decay)
            for multiplier, decay in zip(optimizer._multipliers, optimizer._decays, strict=True)
        }
        assert found == {(rates[0], 1e-3), (rates[1], 1e-4), (rates[1], 0.0)}
    assert optimizer.clipvalue == 0.8
    assert model.training_callbacks(preset="sims")[1].patience == 11
    with pytest.raises(ValueError, match="`preset` must be one of .*Received: 'iemocap'"):
        model.published_optimizer(preset="iemocap")


@pytest.mark.once
def test_published_number_of_parameters() -> None:
    model = TFRNet()
    shapes = {"text": (None, 50, 768), "audio": (None, 375, 5), "vision": (None, 500, 20)}
    model.build(shapes)

    def count(parts: Any) -> int:
        return sum(int(np.prod(v.shape)) for part in parts for v in part.trainable_variables)

    temporal = count(layer.temporal for layer in model.reconstructions.values())
    assert round(temporal / 1e6, 1) == 14.2
    assert round(count([model]) / 1e6, 1) == 14.9


# What is missing


def test_holes_are_where_the_complement_has_something_else() -> None:
    kept = np.array([[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [5.0, 6.0], [0.0, 0.0]]], "float32")
    removed = np.array([[[0.0, 0.0], [3.0, np.nan], [0.0, 0.0], [5.0, 6.0], [7.0, 8.0]]], "float32")
    missing = missing_frames(kept, removed, np.array([[1, 1, 1, 1, 0]], "float32"))
    # Kept; a hole, one value of which was never measured; nothing; the same on both sides; padding.
    close(missing.mask, [[[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]], 0)
    generated = np.full((1, 5, 2), np.inf, "float32")
    generated[0, 1, 0] = 3.5
    close(reconstruction_loss(generated, missing, "mse"), 0.25 / 1.0001, 1e-6)


def test_tokens_are_put_back() -> None:
    kept = np.array([[[101, 100, 7, 100, 102, 0], [1, 1, 1, 1, 1, 0], [0] * 6]], "int32")
    removed = np.array([[[0, 8, 0, 0, 0, 9], [0] * 6, [0] * 6]], "int32")
    complete, gone = complete_tokens(kept, removed)
    # The second [UNK] is one of the text's own; behind the text there is none.
    np.testing.assert_array_equal(array(complete)[0, 0], [101, 8, 7, 100, 102, 0])
    np.testing.assert_array_equal(array(complete)[0, 1:], kept[0, 1:])
    np.testing.assert_array_equal(array(gone)[0], [0, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("site", ["raw", "encoded"])
def test_holes_of_t_are_what_is_reconstructed(site: str) -> None:
    x, y = batch_of(rate=0.0)
    del x["complement"]
    model = built(small(), x)
    missing = MissingModality(0.5, axis="time" if site == "raw" else "feature")
    outer = WithMissing(model, missing, site=site)
    draws = np.random.default_rng(1).random((4, 3, 2)).astype("float32")
    outputs = outer({**x, "draws": draws}, training=True)
    terms = model.loss_terms(x, y, outputs)
    holed = missing({**x, "draws": draws}) if site == "raw" else x
    for m in ORDER:
        gone = (array(holed[m]) != x[m]).any(-1, keepdims=True)
        close(outputs["missing"][m].mask * np.ones_like(x[m]), gone * np.ones_like(x[m]), 0)
        off = np.abs(array(outputs["generated"][m]) - x[m])
        error = np.where(off < 1, off**2 / 2, off - 0.5) * gone
        close(terms[m], error.sum() / (gone.sum() * x[m].shape[-1] + 1e-4), 1e-5, m)
        assert gone.any() == (site == "raw")
    if site == "encoded":  # the vectors have the holes
        half = model.encode(x)["vision"].shape[-1] // 2
        assert half == 2
        assert outputs["prediction"].shape == (4, 1)


@pytest.mark.once
@pytest.mark.parametrize("site", ["raw", "encoded"])
def test_complete_tokens_are_the_target(site: str) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(120, 1, 2, 4, 6, dropout=0.0, max_sequence_length=16)
    x, y = batch_of(2, rate=0.0)
    ids = np.array([[101, 7, 9, 8, 6, 102], [101, 5, 102, 0, 0, 0]])
    tokens = np.stack([ids, ids > 0, np.zeros_like(ids)], axis=1).astype("int32")
    x = {"text_bert": tokens, **{m: x[m] for m in ("audio", "vision")}}
    model = built(small(bert=bert), x)
    axis = "time" if site == "raw" else "feature"
    missing = MissingModality(0.5, axis, modalities=("audio", "vision", "text"))
    outer = WithMissing(model, missing, site=site)
    batch = {**x, "draws": m3s.missing.fixed_draws(2, seed=0)}
    outputs = outer(batch, training=True)
    holed = missing(batch)["text_bert"] if site == "raw" else tokens
    gone = array(holed)[:, 0] != ids
    assert gone.sum(axis=1).tolist() == ([2, 0] if site == "raw" else [0, 0])
    close(outputs["missing"]["text"].mask[..., 0], gone, 0)
    states, _ = model.text_states({"text_bert": tokens})
    close(outputs["missing"]["text"].values, array(states), 1e-6)
    assert (array(model.loss_terms(x, y, outputs)["text"]) > 0) == (site == "raw")


@pytest.mark.once
def test_what_was_never_measured_is_no_target() -> None:
    x, y = batch_of(rate=0.0)
    del x["complement"]
    model = built(small(), x)
    outer = WithMissing(model, MissingModality(1.0, modalities=("vision",)))
    outer.compile()
    draws = {"draws": np.zeros((4, 1, 2), "float32")}
    x["vision"][:, 1, 2] = np.nan
    outputs = outer({**x, **draws}, training=True)
    losses = [outer.compute_loss({**x, **draws}, y, outputs)]
    generated = np.array(array(outputs["generated"]["vision"]))
    generated[:, 1, 2] = 1e3
    outputs["generated"]["vision"] = ops.convert_to_tensor(generated)
    losses.append(outer.compute_loss({**x, **draws}, y, outputs))
    assert np.isfinite(array(losses[0]))
    assert array(losses[0]) == array(losses[1])
    generated[:, 1, 1] = 1e3
    outputs["generated"]["vision"] = ops.convert_to_tensor(generated)
    assert array(outer.compute_loss({**x, **draws}, y, outputs)) > 10 * array(losses[0])


@pytest.mark.once
@pytest.mark.parametrize("site", ["raw", "encoded"])
def test_m3s_takes_steps_and_is_saved(site: str, tmp_path: Any) -> None:
    x, y = batch_of(rate=0.0)
    del x["complement"]
    model = small(**dict.fromkeys(CALM, 0.1))
    missing = MissingModality(0.5, axis="time" if site == "raw" else "feature", seed=0)
    outer = m3s.M3S(model, missing, inner_steps=2, inner_learning_rate=1e-3, site=site)
    outer.compile(model.published_optimizer())
    callbacks = model.training_callbacks()
    history = outer.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), callbacks=callbacks)
    assert np.isfinite(history.history["loss"]).all()
    outer.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, RunningSumAdam)
    assert again.optimizer.get_config() == outer.optimizer.get_config()
    for old, new in zip(
        [*outer.variables, *outer.optimizer.variables],
        [*again.variables, *again.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(array(old), array(new))
    close(again.predict(x, verbose=0), outer.predict(x, verbose=0), 1e-6)
    assert again.train_on_batch(x, y) == pytest.approx(outer.train_on_batch(x, y), rel=1e-5)


@pytest.mark.once
def test_without_complement_there_is_no_reconstruction() -> None:
    x, y = batch_of()
    complement = x.pop("complement")
    model = built(small(), x)
    outputs = model(x, training=True)
    assert set(outputs) == {"prediction"}
    assert float(sum(map(array, model.loss_terms(x, y, outputs).values()))) == 0
    part = model({**x, "complement": {"audio": complement["audio"]}}, training=True)
    assert set(part["generated"]) == {"audio"}
    model = built(small(reconstruct=False), x)
    assert not model.term_weights
    assert not any("_reconstruction/" in v.path for v in model.variables)
    assert set(model({**x, "complement": complement}, training=True)) == {"prediction"}


@pytest.mark.once
def test_checkpoint_of_a_model_without_reconstruction() -> None:
    """What was published with the final encoders loads without them."""
    pytest.importorskip("torch")
    from restated_tfr_net import RestatedTFRNet

    options = {**SMALL, "hidden_size": 5, "heads": 1, "temporal_heads": 1}
    state = RestatedTFRNet(WIDTHS, STEPS, **options).state_dict()
    assert "align_subnet.Model.proj_l.weight" in state  # though text is 5 wide already
    parity.load_golden_weights(built(TFRNet(**options, reconstruct=False), batch_of()[0]), state)
    with pytest.raises(ValueError, match="unknown: text_model.model.x"):
        parity.load_golden_weights(
            built(TFRNet(**options), batch_of()[0]), state | {"text_model.model.x": np.zeros(1)}
        )


# Steps, lengths and padding


def longer(x: Any, by: int, filled: float = 0.0) -> dict[str, Any]:
    """The batch with more steps, and `filled` at all padding."""
    x = dict(x)
    complement = x.pop("complement", {})
    for m in ORDER:
        x[m] = np.pad(x[m], [(0, 0), (0, by), (0, 0)])
        x[m][np.arange(x[m].shape[1]) >= x[f"{m}_length"][:, None]] = filled
    if complement:
        x["complement"] = {m: np.pad(v, [(0, 0), (0, by), (0, 0)]) for m, v in complement.items()}
    return x


@pytest.mark.once
def test_masked_padding_is_never_read() -> None:
    steps = {f"{m}_steps": n + 5 for m, n in STEPS.items()}
    model = small(mask_padding=True, reconstruction_axis="feature", **steps)
    x, _ = batch_of()
    x["audio_length"][1] = x["text_length"][2] = 0
    for m in ("audio", "text"):
        gone = np.arange(STEPS[m]) >= x[f"{m}_length"][:, None]
        x[m][gone] = x["complement"][m][gone] = 0
    built(model, x)
    expected = model.encode(x, training=True)
    padded = model.encode(longer(x, 5, filled=9.0), training=True)
    alone = {k: v[:1] for k, v in x.items() if k != "complement"}
    alone["complement"] = {m: v[:1] for m, v in x["complement"].items()}
    for m in ORDER:
        steps_of = int(x[f"{m}_length"][0])
        alone[m], alone["complement"][m] = (
            alone[m][:, :steps_of],
            alone["complement"][m][:, :steps_of],
        )
    single = model.encode(alone, training=True)
    for m in ORDER:
        close(padded[m], array(expected[m]), 1e-5, m)
        close(single[m], array(expected[m])[:1], 1e-5, m)
        assert np.isfinite(array(expected["generated"][m])).all()
        n = single["generated"][m].shape[1]
        close(padded["generated"][m][:, : STEPS[m]], array(expected["generated"][m]), 1e-4, m)
        close(single["generated"][m], array(expected["generated"][m])[:1, :n], 1e-4, m)


@pytest.mark.once
def test_padding_counts_as_published() -> None:
    x, _ = batch_of()
    model = built(small(), x)
    short, long = (model.encode(inputs) for inputs in (x, longer(x, 5)))
    assert max(np.abs(array(short[m]) - array(long[m])).max() for m in ORDER) > 1e-3


@pytest.mark.once
def test_shorter_batches_count_as_padded() -> None:
    """The reconstruction has a weight for each step that there was when it was built."""
    x, _ = batch_of()
    model = built(small(), x)
    layer, width = model.reconstructions["audio"], 3 * SMALL["hidden_size"]
    joined = np.random.default_rng(0).normal(size=(2, 4, width)).astype("float32")
    padded = np.pad(joined, [(0, 0), (0, STEPS["audio"] - 4), (0, 0)])
    close(layer(joined), array(layer(padded))[:, :4], 1e-6)
    with pytest.raises(ValueError, match="at most 9 steps.*Received: 10.*`audio_steps`"):
        layer(np.zeros((2, 10, width), "float32"))
    with pytest.raises(ValueError, match="steps must be known.*`text_steps=`"):
        small().build({"text": (None, None, 5), "audio": (None, 9, 3), "vision": (None, 8, 4)})
    free = small(**{f"{m}_steps": 12 for m in ORDER})
    free.build({"text": (None, None, 5), "audio": (None, None, 3), "vision": (None, None, 4)})
    assert free.encode(x, training=True)["generated"]["text"].shape == (4, 6, 5)


@pytest.mark.once
def test_heads_that_do_not_divide_the_steps() -> None:
    """Where the published code fails: CH-SIMS has 39, 400 and 55 steps, for 25 heads."""
    model = small(temporal_heads=25)
    model.build({"text": (None, 39, 5), "audio": (None, 400, 3), "vision": (None, 55, 4)})
    heads = {m: r.temporal.layers[0].heads for m, r in model.reconstructions.items()}
    assert heads == {"text": 13, "audio": 25, "vision": 11}


@pytest.mark.once
def test_aligned_modalities_end_with_the_text() -> None:
    steps = dict.fromkeys(ORDER, 6) | {"vision": 4}
    x, _ = batch_of(steps=steps)
    model = built(small(aligned=True, mask_padding=True), x)
    words = x["text_length"]
    other = {**x, "audio_length": words, "vision_length": np.minimum(words, 4)}
    for a, b in zip(
        model.encode(x).values(), built_like(model, other, aligned=False).values(), strict=True
    ):
        close(a, array(b), 1e-6)


def built_like(model: TFRNet, x: Any, **options: Any) -> dict[str, Any]:
    """What a model with other options and the same weights encodes."""
    other = built(TFRNet.from_config({**model.get_config(), **options}), x)
    other.set_weights(model.get_weights())
    return other.encode(x)


@pytest.mark.once
@pytest.mark.parametrize("kernel", [2, 4])
def test_even_kernels_keep_the_steps(kernel: int) -> None:
    x, y = batch_of()
    model = small(**{f"{m}_kernel_size": kernel for m in ORDER})
    outer = WithMissing(model, None)
    outer.compile(model.published_optimizer())
    assert np.isfinite(outer.train_on_batch(x, y))


@pytest.mark.once
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_positions_of_any_width(width: int) -> None:
    table = array(sinusoids(5, width))
    assert table.shape == (5, width)
    half = width // 2
    for i in range(half):
        angles = np.arange(1, 6) * 10000 ** (-i / max(half - 1, 1))
        close(table[:, i], np.sin(angles), 1e-5)
        close(table[:, half + i], np.cos(angles), 1e-5)
    assert not table[:, 2 * half :].any()


@pytest.mark.once
def test_which_keys_are_seen() -> None:
    assert visible_keys(2, 3, causal=False) is None
    np.testing.assert_array_equal(visible_keys(2, 3, True), [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(visible_keys(3, 2, True), [[1, 1], [1, 1], [1, 1]])
    lengths = np.array([2, 1]), np.array([2, 3])
    masked = array(visible_keys(2, 3, True, *lengths))[:, 0]
    np.testing.assert_array_equal(masked, [[[1, 0, 0], [1, 1, 0]], [[1, 1, 1], [1, 1, 1]]])
    masked = array(visible_keys(2, 3, False, *lengths))[:, 0, 0]
    np.testing.assert_array_equal(masked, [[1, 1, 0], [1, 1, 1]])


@pytest.mark.once
def test_embedding_dropout_differs_between_keys_and_values() -> None:
    layer = CrossmodalTransformer(1, 1, embedding_dropout=0.5)
    seen = []
    x = np.ones((1, 3, 8), "float32")
    layer(x, x)
    attend = layer.layers[0]._attend

    def look(queries: Any, keys: Any, values: Any, *others: Any) -> Any:
        seen.append((array(keys), array(values)))
        return attend(queries, keys, values, *others)

    layer.layers[0]._attend = look
    layer(x, x, training=True)
    layer(x, x, training=False)
    assert (seen[0][0] != seen[0][1]).any()
    np.testing.assert_array_equal(*seen[1])


# What Keras asks of a model


@pytest.mark.once
def test_save_and_load_with_a_frozen_bert(tmp_path: Any) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    bert = keras_hub.models.BertBackbone(120, 1, 2, 4, 6, dropout=0.0, max_sequence_length=16)
    x, y = batch_of()
    del x["text"], x["text_length"]
    tokens = np.full((4, 3, 6), 0, "int32")
    tokens[:, :2] = [[101, 100, 7, 8, 102, 0], [1, 1, 1, 1, 1, 0]]
    x["text_bert"] = tokens
    x["complement"]["text_bert"] = np.zeros_like(tokens)
    x["complement"]["text_bert"][:, 0, 1] = 9
    model = built(small(bert=bert, finetune=False, text_weight=7.0), x)
    model.compile(model.published_optimizer())
    before = [array(v) for v in bert.variables]
    assert np.isfinite(model.train_on_batch(x, y))
    outputs = model(x, training=True)
    assert array(outputs["missing"]["text"].mask).sum() == 4
    for old, variable in zip(before, bert.variables, strict=True):
        np.testing.assert_array_equal(old, array(variable))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    close(again(x), array(model(x)), 1e-6)
    assert not again.text_states.trainable_variables
    assert again.optimizer.groups == {}


@pytest.mark.once
def test_an_absent_modality_is_named() -> None:
    x, _ = batch_of()
    del x["vision"]
    with pytest.raises(ValueError, match="must hold 'audio' and 'vision'.*without.*vision.*zeros"):
        built(small(), x)


@pytest.mark.once
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("hidden_size", 7),
        ("attention_layers", 0),
        ("temporal_heads", 0),
        ("gru_layers", 0),
        ("gru_layers", "2"),
        ("attention_layers", 1.5),
        ("self_attention_layers", 0),
        ("temporal_heads", 2.5),
        ("text_kernel_size", 0),
        ("text_steps", 0),
        ("text_dropout", 1),
        ("similarity_weight", "x"),
        ("reconstruction_axis", "time"),
        ("reconstruction_loss", "mae"),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must .*Received: {argument}={value!r}"):
        small(**{argument: value})


@pytest.mark.once
def test_wrong_arguments_of_the_optimizer_are_named() -> None:
    with pytest.raises(ValueError, match="`window` must be an int >= 1. Received: window=0"):
        RunningSumAdam(window=0)
    with pytest.raises(ValueError, match="without.*Received: {'global_clipnorm': 1.0}"):
        RunningSumAdam(global_clipnorm=1.0)


@pytest.mark.once
def test_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="TFRNet predicts a score"):
        TFRNet.data_arguments(np.array([0, 1]))
