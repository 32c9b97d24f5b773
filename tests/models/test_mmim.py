"""MMIM against its published numbers, and where those do not reach, against what must hold."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_gradients, built, gradients, load_golden_weights, part, run

from keras_m3s.data import Split
from keras_m3s.data.batches import Batches
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality
from keras_m3s.models.mmim.contrast_stage import ContrastStage
from keras_m3s.models.mmim.mmim import MMIM, PAIRS
from keras_m3s.models.mmim.mutual_information import (
    Moments,
    XavierNormal,
    class_moments,
    entropy,
    pool,
)

STEPS, WIDTHS = 5, {"audio": 3, "vision": 4, "text": 6}
SMALL = {
    "hidden_size": 6,
    "audio_hidden_size": 5,
    "vision_hidden_size": 7,
    "audio_size": 8,
    "vision_size": 12,
    "dropout": 0.0,
}


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
    """Of both signs, in turn."""
    size = np.random.default_rng(1).uniform(0.5, 2.0, size=(rows, 1))
    return (size * np.where(np.arange(rows) % 2, 1, -1)[:, None]).astype("float32")


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x), "float32")


def small(rows: int = 8, **kwargs: Any) -> tuple[MMIM, dict[str, np.ndarray], np.ndarray]:
    """A small MMIM, built, and a batch for it."""
    x = batch_of(rows)
    return built(MMIM(**{**SMALL, **kwargs}), x), x, labels(rows)


def mi_values(model: MMIM, part_of: str) -> list[np.ndarray]:
    """Values of the likelihoods' variables, or of the projections'."""
    found = []
    for mi in model.mi.values():
        chosen = mi.likelihood_variables if part_of == "likelihood" else mi.projection.variables
        found += [numpy(v) for v in chosen]
    return found


def moved(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


def golden_batch(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    given = part(golden, "in")
    return {
        "audio": given[f"{prefix}acoustic"].transpose(1, 0, 2),
        "vision": given[f"{prefix}visual"].transpose(1, 0, 2),
        "text": given[f"{prefix}sentences"],
        "audio_length": given[f"{prefix}a_len"],
        "vision_length": given[f"{prefix}v_len"],
    }


def published(golden: dict[str, np.ndarray]) -> tuple[MMIM, dict[str, np.ndarray], np.ndarray]:
    """The model and batch of the golden file, weights loaded, its memory as a third batch has it."""
    x, history = golden_batch(golden, ""), golden_batch(golden, "hist_")
    sizes = {f"{m}_{kind}": 8 for m in ("audio", "vision") for kind in ("hidden_size", "size")}
    model = MMIM(hidden_size=10, dropout=0.0, mi_gradients=True, **sizes)
    model(x)
    load_golden_weights(model, part(golden, "param"))
    for _ in range(2):  # H counts from the third batch on
        model.loss_terms(history, golden["in/hist_y"], model(history, training=True))
    return model, x, golden["in/y"]


def training_loss(model: MMIM, x: Any, y: Any) -> Any:
    return model.compute_loss(x, y, model(x, training=True), training=True)


def everything(model: MMIM, x: Any, y: Any) -> dict[str, Any]:
    """All that a training step computes but its loss, under the published names."""
    encoded = model.encode(x)
    outputs = model(x, training=True)
    terms = model.loss_terms(x, y, outputs)
    return {
        "text": encoded["text"],
        "acoustic_enc": encoded["audio"],
        "visual_enc": encoded["vision"],
        "preds": outputs["prediction"],
        "lld_tv": outputs["lld"]["tv"],
        "lld_ta": outputs["lld"]["ta"],
        "nce_t": outputs["nce"]["text"],
        "nce_a": outputs["nce"]["audio"],
        "nce_v": outputs["nce"]["vision"],
        "lld": terms["lld"],
        "nce": terms["nce"],
        "H": terms["entropy"],
    }


def test_published_outputs_and_losses(golden: Any) -> None:
    numbers = golden("mmim")
    for name, value in run(everything, *published(numbers)).items():
        np.testing.assert_allclose(
            value, numbers[f"out/{name}"], rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_published_total_loss(golden: Any) -> None:
    numbers = golden("mmim")
    model, x, y = published(numbers)
    model.compile()
    total = run(training_loss, model, x, y)
    np.testing.assert_allclose(total, numbers["out/total"], rtol=1e-5)


def test_published_gradients(golden: Any) -> None:
    """Those of `mi_*` too, which are trainable with `mi_gradients` alone."""
    numbers = golden("mmim")
    model, x, y = published(numbers)
    assert_gradients(model, x, y, part(numbers, "grad"))


def test_published_gradients_of_stage_0(golden: Any) -> None:
    """Those of all that stage 0 clips by one norm, the encoders with `mi_*`."""
    numbers = golden("mmim")
    model, x, y = published(numbers)
    with model.contrast_variables():
        stage = ContrastStage(model)
        stage.torch_weights = model.torch_weights
        stage.compile("sgd")
        names = {w.name: w for w in model.torch_weights()}
        expected = {k: v for k, v in part(numbers, "grad0").items() if np.abs(v).max() > 0}
        assert set(expected) <= set(names)
        assert_gradients(stage, x, y, expected)
        grads = gradients(stage, x, y, [w.variable for w in names.values()])
    norm = np.sqrt(sum(float(np.square(g).sum()) for g in grads))
    np.testing.assert_allclose(norm, numbers["out/grad0_norm_all"], rtol=1e-5)


@pytest.mark.once
def test_rate_halves_as_on_pytorch() -> None:
    """Against PyTorch's own, its threshold a share of the best value: here .004, Keras' 1e-4."""
    torch = pytest.importorskip("torch")
    values = [40.0 - 0.003 * n for n in range(50)] + [30.0] * 30
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, "min", factor=0.5, patience=20)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    _, plateau = MMIM(**SMALL).training_callbacks()
    plateau.set_model(model)
    plateau.on_train_begin()
    ours, published_rates = [], []
    for epoch, value in enumerate(values):
        plateau.on_epoch_end(epoch, {"val_loss": value})
        schedule.step(value)
        ours.append(float(model.optimizer.learning_rate))
        published_rates.append(theirs.param_groups[0]["lr"])
    assert ours == published_rates
    assert ours[-1] < 1.0


@pytest.mark.parametrize(
    ("cpc_layers", "bidirectional"),
    [(1, True), pytest.param(2, False, marks=pytest.mark.once), (3, True)],
)
def test_other_configurations_agree_with_a_restatement(
    cpc_layers: int, bidirectional: bool
) -> None:
    """`add_va`, both ways, deeper predictions: losses recomputed from the weights in numpy."""
    model, x, _ = small(cpc_layers=cpc_layers, bidirectional=bidirectional, add_va=True)
    encoded, outputs = run(lambda model, x: (model.encode(x), model(x, training=True)), model, x)

    def dense(layer: Any, v: np.ndarray) -> np.ndarray:
        return v @ numpy(layer.kernel) + numpy(layer.bias)

    joined = np.concatenate([encoded[m] for m in ("text", "audio", "vision")], axis=1)
    fusion = np.tanh(dense(model.fusion_1, np.tanh(dense(model.fusion_0, joined))))
    np.testing.assert_allclose(outputs["prediction"], dense(model.head, fusion), atol=1e-5)
    for pair, (a, b) in PAIRS.items():
        mi = model.mi[pair]
        mean = dense(mi.mean_1, np.maximum(dense(mi.mean_0, encoded[a]), 0))
        logvar = dense(mi.logvar_1, np.maximum(dense(mi.logvar_0, encoded[a]), 0))
        lld = (-((mean - encoded[b]) ** 2) / 2 / np.exp(logvar)).sum(1).mean()
        np.testing.assert_allclose(outputs["lld"][pair], lld, rtol=1e-4)
    for m, net in model.cpc.items():
        p = dense(net.net[0], fusion)
        if cpc_layers > 1:
            p = np.tanh(p)
        for layer in net.net[1:]:
            p = dense(layer, p)
        v = encoded[m] / np.linalg.norm(encoded[m], axis=1, keepdims=True)
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
        nce = (np.log(np.exp(v @ p.T).sum(1)) - (v * p).sum(1)).mean()
        np.testing.assert_allclose(outputs["nce"][m], nce, rtol=1e-4)
    assert set(outputs["lld"]) == set(PAIRS)


def test_pooled_entropy_is_that_of_all_rows() -> None:
    random = np.random.default_rng(0)
    rows, signs = random.normal(size=(30, 3)).astype("float32"), labels(30)[:, 0]
    tensor = keras.ops.convert_to_tensor
    parts = [class_moments(tensor(rows[s]), signs[s]) for s in (slice(0, 12), slice(12, 30))]
    stacked = Moments(*(keras.ops.stack(p) for p in zip(*parts, strict=True)))
    expected = 0.25 * sum(
        np.linalg.slogdet(np.cov(rows[chosen].T, bias=True))[1] for chosen in (signs > 0, signs < 0)
    )
    np.testing.assert_allclose(numpy(entropy(pool(stacked))), expected, rtol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("case", ["one row", "no negatives", "zero label", "few rows", "constant"])
def test_degenerate_batches_have_finite_gradients(case: str) -> None:
    rows = 1 if case == "one row" else 3 if case == "few rows" else 8
    model, x, y = small(rows, mi_gradients=True)
    if case == "no negatives":
        y = np.abs(y)
    if case == "zero label":
        y = np.zeros_like(y)
    if case == "constant":  # also a row of zeros for CPC
        x = {k: np.zeros_like(v) if v.ndim == 3 else v for k, v in x.items()}
    model.batches_seen.assign(5)
    grads = gradients(model, x, y)
    assert all(np.isfinite(g).all() for g in grads)
    assert np.isfinite(run(training_loss, model, x, y))


@pytest.mark.once
def test_entropy_counts_from_the_third_batch_and_forgets() -> None:
    model, x, y = small(40)
    terms = [model.loss_terms(x, y, model(x, training=True)) for _ in range(3)]
    counted = [float(numpy(t["entropy"])) for t in terms]
    assert counted[:2] == [0.0, 0.0]
    assert counted[2] != 0.0
    assert int(numpy(model.batches_seen)) == 3
    assert all(numpy(mi.memory.count)[0].sum() == 40 for mi in model.mi.values())
    model.forget()
    assert all(not numpy(v).any() for v in model.memories)


@pytest.mark.once
@pytest.mark.parametrize(("wrapped", "own_optimizer"), [(False, False), (True, True)])
def test_stage_0_alone_moves_mi(wrapped: bool, own_optimizer: bool) -> None:
    """The model is built in `fit`; stage 1 follows in the same epoch and leaves `mi_*` alone."""
    base, x, y = MMIM(**SMALL), batch_of(16), labels(16)
    model = WithMissing(base, MissingModality(seed=0)) if wrapped else base
    optimizer = keras.optimizers.Adam(1e-3) if own_optimizer else base.published_optimizer()
    model.compile(optimizer)
    seen: dict[str, Any] = {}

    class AfterStage0(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seen["likelihood"] = mi_values(base, "likelihood")
            seen["projection"] = mi_values(base, "projection")
            seen["head"] = numpy(base.head.kernel)

    class BeforeStage0(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if base.built:
                seen["start"] = mi_values(base, "likelihood")

    callbacks = [BeforeStage0(), *base.training_callbacks((x, y)), AfterStage0()]
    history = model.fit(
        x, y, batch_size=8, epochs=2, callbacks=callbacks, verbose=0, validation_data=(x, y)
    )
    assert moved(seen["start"], seen["likelihood"]) > 0
    for name in ("likelihood", "projection"):
        assert moved(seen[name], mi_values(base, name)) == 0
    assert np.abs(seen["head"] - numpy(base.head.kernel)).max() > 0
    assert len(history.history["contrast_loss"]) == 2
    assert int(numpy(base.batches_seen)) == 2  # forgotten at the second epoch's start


@pytest.mark.once
@pytest.mark.parametrize("options", [{"double": True}, {"passes": 3}])
def test_stage_0_trains_on_the_batches_that_fit_has(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Each example once, with what else the batches have: buckets, draws, the epoch's order."""
    rows, steps = 24, 32
    features = {**batch_of(rows, steps=steps), "index": np.arange(rows, dtype="int32")}
    split = Split("train", features, labels(rows)[:, 0], [str(row) for row in range(rows)])
    draws = np.random.default_rng(0).uniform(size=(rows, 3, 2)).astype("float32")
    common = {"shuffle": True, "seed": 3, "draws": draws, "buckets": True}
    batches = Batches(split, 4, epoch=2, **common, **options)
    single = Batches(split, 4, epoch=2, **common)
    given: list[Any] = []

    def fit(stage: ContrastStage, x: Any, **arguments: Any) -> keras.callbacks.History:
        given.extend(x[i][0] for i in range(len(x)))
        assert not arguments["shuffle"] and x.epoch == 2
        history = keras.callbacks.History()
        history.history = {"loss": [0.0]}
        return history

    monkeypatch.setattr(ContrastStage, "fit", fit)
    model = MMIM(**SMALL)
    model.compile(model.published_optimizer())
    start = model.training_callbacks(batches)[0]
    start.set_model(model)
    start.on_epoch_begin(2)
    assert len(given) == rows // 4
    assert any(x["audio"].shape[1] < steps for x in given), "no padding was cut"
    for ours, expected in zip(given, (single[i][0] for i in range(len(single))), strict=True):
        assert ours.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert batches.double == ("double" in options) and batches.epoch == 2


@pytest.mark.once
def test_xavier_normal_is_not_truncated() -> None:
    values = numpy(XavierNormal()((400, 600), "float32"))
    deviation = (2 / 1000) ** 0.5
    assert abs(values.std() / deviation - 1) < 0.01
    assert np.abs(values).max() > 3 * deviation  # truncated ones end at 2.3


@pytest.mark.once
def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="memory_batches"):
        MMIM(memory_batches=0)
    with pytest.raises(ValueError, match="layers"):
        MMIM(cpc_layers=0)
    with pytest.raises(ValueError, match=">= 4"):
        MMIM(**{**SMALL, "audio_size": 3})(batch_of(2))
    with pytest.raises(ValueError, match="'audio' and 'vision'"):
        MMIM(**SMALL)({"text": batch_of(2)["text"]})
