"""Self-MM against its published numbers, and where those do not reach, against what must hold."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_gradients, load_golden_weights, part, run

from keras_m3s.models.self_mm.self_mm import PRESETS, RATES, SelfMM
from keras_m3s.models.self_mm.unimodal_labels import KINDS, UNIMODAL

Arrays = dict[str, np.ndarray]

LETTERS = {"fusion": "M", "text": "T", "audio": "A", "vision": "V"}
POST = {"fusion": 12, "text": 8, "audio": 4, "vision": 5}
WIDTHS = {"audio": 3, "vision": 4, "text": 5}
ROWS = 7

# As in tests/test_contract.py, which traces a step of M3S there.
EAGERLY = keras.backend.backend() == "tensorflow"


def small(train_size: int = ROWS, **kwargs: Any) -> SelfMM:
    """A small Self-MM without dropout."""
    options = {
        "audio_hidden_size": 3,
        "vision_hidden_size": 4,
        "audio_size": 3,
        "vision_size": 2,
        **{f"post_{kind}_size": size for kind, size in POST.items()},
        **{f"post_{kind}_dropout": 0.0 for kind in POST},
    }
    return SelfMM(train_size, **{**options, **kwargs})


def batch_of(rows: int = ROWS, steps: int = 6, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    batch: Arrays = {"index": np.arange(rows, dtype="int32")}
    for m, width in WIDTHS.items():
        length = random.integers(1, steps + 1, rows).astype("int32")
        x = random.normal(size=(rows, steps, width)).astype("float32")
        batch[m] = x * (np.arange(steps)[None, :, None] < length[:, None, None])
        batch[f"{m}_length"] = length
    return batch


def labels_of(rows: int = ROWS) -> np.ndarray:
    y = np.random.default_rng(1).uniform(-1, 1, size=rows).astype("float32")
    y[:3] = 0.0, 0.5, -0.5
    return y


def built(model: SelfMM, x: Arrays | None = None) -> SelfMM:
    """With all its variables; on JAX much faster than a call."""
    model.build({key: value.shape for key, value in (x or batch_of()).items()})
    return model


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x), "float32")


def memory(model: SelfMM) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.memories]


def made_labels(model: SelfMM) -> np.ndarray:
    return numpy(model.unimodal_labels.labels)


# --- published numbers


def bert(**kwargs: Any) -> Any:
    keras_hub = pytest.importorskip("keras_hub")
    sizes = {"vocabulary_size": 40, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
    sizes |= {"intermediate_dim": 32, "max_sequence_length": 32}
    return keras_hub.models.BertBackbone(**{**sizes, "dropout": 0.0, **kwargs})


def golden_model(numbers: Arrays, train_size: int, **kwargs: Any) -> SelfMM:
    model = small(
        train_size,
        bert=bert(),
        audio_hidden_size=6,
        vision_hidden_size=7,
        audio_size=4,
        vision_size=5,
        **kwargs,
    )
    built(model, golden_batch(part(numbers, "in")))
    load_golden_weights(model, {f"Model.{k}": v for k, v in part(numbers, "param").items()})
    return model


def golden_batch(given: Arrays) -> Arrays:
    rows = len(given["audio"])
    return {
        "text_bert": given["text"].astype("int32"),
        "audio": given["audio"],
        "vision": given["vision"],
        "audio_length": given["audio_lengths"].astype("int32"),
        "vision_length": given["vision_lengths"].astype("int32"),
        "index": given.get("index", np.arange(rows)).astype("int32"),
    }


def with_golden_labels(numbers: Arrays) -> tuple[SelfMM, Arrays, np.ndarray]:
    """The model as it is when the golden losses are taken: all rows visited before."""
    model = golden_model(numbers, train_size=5)
    given = [numbers[f"in/label_map/{kind}"] for kind in KINDS]
    model.unimodal_labels.labels.assign(np.stack(given, axis=1))
    model.unimodal_labels.visits.assign(np.full(5, 2, "int32"))
    return model, golden_batch(part(numbers, "in")), numbers["in/y_m"]


def training_loss(model: SelfMM, x: Any, y: Any) -> Any:
    return model.compute_loss(x, y, model(x, training=True), training=True)


def everything(model: SelfMM, x: Any, y: Any) -> dict[str, Any]:
    """All that a training step computes but its loss, under the published names."""
    encoded = model.encode(x)
    outputs = model(x, training=True)
    evaluated = model(x)
    found = {"out/M": outputs["prediction"], "evaluated": evaluated}
    found |= {f"mid/{m}_feat": encoded[m] for m in ("audio", "vision", "text")}
    for kind, letter in LETTERS.items():
        found[f"out/Feature_{letter.lower().replace('m', 'f')}"] = outputs[f"{kind}_feature"]
        if kind in UNIMODAL:
            found[f"out/{letter}"] = outputs[f"{kind}_prediction"]
    found["loss/eval_M_only"] = model.compute_loss(x, y, evaluated, training=False)
    found |= {f"loss/{LETTERS[s]}": v for s, v in model.loss_terms(x, y, outputs).items()}
    return found


def test_published_outputs_and_losses(golden: Any) -> None:
    numbers = golden("self_mm")
    model, x, y = with_golden_labels(numbers)
    model.compile()
    before = memory(model)
    found = run(everything, model, x, y)
    for variable, value in zip(model.memories, before, strict=True):
        variable.assign(value)
    found["loss/total"] = run(training_loss, model, x, y)
    np.testing.assert_allclose(found.pop("evaluated"), numbers["out/M"], rtol=0, atol=1e-5)
    for name, value in found.items():
        np.testing.assert_allclose(value, numbers[name], rtol=0, atol=1e-5, err_msg=name)


def test_published_outputs_of_aligned_sequences(golden: Any) -> None:
    numbers = golden("self_mm")
    model = golden_model(numbers, train_size=5, aligned=True)
    outputs = model(golden_batch(part(numbers, "in")), training=True)
    for kind, letter in LETTERS.items():
        name = "prediction" if kind == "fusion" else f"{kind}_prediction"
        expected = numbers[f"out_aligned/{letter}"]
        np.testing.assert_allclose(numpy(outputs[name]), expected, rtol=0, atol=1e-5)
    assert np.abs(numbers["out_aligned/M"] - numbers["out/M"]).max() > 1e-4


def test_published_gradients(golden: Any) -> None:
    numbers = golden("self_mm")
    model, x, y = with_golden_labels(numbers)
    before = memory(model)
    assert_gradients(model, x, y, part(numbers, "grad"))
    for value, was in zip(memory(model), before, strict=True):
        np.testing.assert_array_equal(value, was)  # gradients were taken in a stateless scope


@pytest.mark.parametrize("exclude_zero", [True, False])
def test_published_labels_over_three_epochs(golden: Any, exclude_zero: bool) -> None:
    numbers = part(golden("self_mm"), "pl")
    y, size = numbers["y_m"], int(numbers["batch_size"])
    model = built(small(len(y), exclude_zero=exclude_zero, label_bound=float(numbers["H"])))
    setting = "excludezero" if exclude_zero else "keepzero"
    for epoch in (1, 2, 3):
        order = numbers[f"order/{epoch}"]
        for number, start in enumerate(range(0, len(y), size)):
            index = order[start : start + size]
            outputs = {}
            for kind, letter in LETTERS.items():
                outputs[f"{kind}_prediction"] = numbers[f"pred/{epoch}/{letter}"][index]
                outputs[f"{kind}_feature"] = numbers[f"feat/{epoch}/{kind}"][index]
            outputs = {k: keras.ops.convert_to_tensor(v) for k, v in outputs.items()}
            terms = model.loss_terms({"index": index}, y[index], outputs)
            at = f"{epoch}/{number}"
            for column, s in enumerate(UNIMODAL, start=1):
                loss = numbers[f"{setting}/loss/{at}/{LETTERS[s]}"]
                np.testing.assert_allclose(numpy(terms[s]), loss, rtol=0, atol=1e-5)
                visited = numpy(model.unimodal_labels.visits) > 0
                np.testing.assert_allclose(
                    made_labels(model)[visited, column],
                    numbers[f"{setting}/label/{at}/{s}"][visited],
                    rtol=0,
                    atol=1e-5,
                    err_msg=f"{at} {s}",
                )


def test_published_training_by_fit(golden: Any) -> None:
    """Three epochs: groups of rates and decays, two batches a step, the third one discarded."""
    numbers = golden("self_mm")
    given = part(numbers, "tr")
    model = golden_model(numbers, train_size=len(given["y_m"]), exclude_zero=False)
    config = model.published_optimizer().get_config()
    config["gradient_accumulation_steps"] = int(given["update_epochs"])
    model.compile(keras.optimizers.get({"class_name": "keras_m3s>GroupedAdam", "config": config}))
    x, y = golden_batch(given), given["y_m"]
    epochs = []

    def after(epoch: int, logs: Any) -> None:
        losses = given[f"losses_MTAV/{epoch + 1}"].sum(axis=1)
        mean = np.average(losses, weights=given["batches"])
        epochs.append(epoch)
        for column, s in enumerate(UNIMODAL, start=1):
            np.testing.assert_allclose(
                made_labels(model)[:, column],
                given[f"label_after_epoch/{epoch + 1}/{s}"],
                rtol=0,
                atol=1e-5,
            )
        np.testing.assert_allclose(logs["loss"], mean, rtol=0, atol=1e-5)
        expected = given[f"M_after_epoch/{epoch + 1}"]
        np.testing.assert_allclose(numpy(model(x)), expected, rtol=0, atol=1e-5)

    model.fit(
        x,
        y,
        batch_size=int(given["batches"][0]),
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[*model.training_callbacks(), keras.callbacks.LambdaCallback(on_epoch_end=after)],
    )
    assert epochs == [0, 1, 2]
    final = part(given, "param_final")
    for weight in model.torch_weights():
        if weight.name.endswith("key.bias"):
            continue  # its gradient is 0 but for rounding, which Adam blows up to a full step
        expected = weight.to_keras(final[weight.name])
        np.testing.assert_allclose(
            numpy(weight.variable), expected, rtol=0, atol=1e-5, err_msg=weight.name
        )


# --- the label rule


class Restated:
    """The label rule once more, row by row, in float64; classes by index sets."""

    def __init__(self, y: np.ndarray, bound: float, exclude_zero: bool) -> None:
        self.bound, self.exclude_zero = bound, exclude_zero
        self.label = {k: y.astype("float64").copy() for k in KINDS}
        self.feature = {k: np.zeros((len(y), POST[k])) for k in KINDS}
        self.centres: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def batch(self, epoch: int, index: np.ndarray, features: Arrays) -> None:
        if epoch > 1:
            for row, i in enumerate(index):
                d = {k: self.ratio(k, features[k][row]) for k in KINDS}
                y = self.label["fusion"][i]
                for s in UNIMODAL:
                    new = 0.5 * y * d[s] / (d["fusion"] + 1e-8) + 0.5 * (y + d[s] - d["fusion"])
                    new = min(max(new, -self.bound), self.bound)
                    old = self.label[s][i]
                    self.label[s][i] = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * new
        for k in KINDS:
            self.feature[k][index] = features[k]
            positive = [y > 0 or (y == 0 and not self.exclude_zero) for y in self.label[k]]
            negative = [y < 0 for y in self.label[k]]
            self.centres[k] = tuple(
                np.mean(self.feature[k][rows], axis=0) for rows in (positive, negative)
            )

    def ratio(self, kind: str, feature: np.ndarray) -> float:
        to_positive, to_negative = (np.linalg.norm(feature - c) for c in self.centres[kind])
        return float((to_negative - to_positive) / (to_positive + 1e-8))


def random_outputs(random: np.random.Generator, rows: int) -> Arrays:
    outputs = {f"{k}_feature": random.uniform(0, 1, (rows, POST[k])) for k in KINDS}
    outputs |= {f"{s}_prediction": random.normal(size=(rows, 1)) for s in UNIMODAL}
    return {name: value.astype("float32") for name, value in outputs.items()}


def visit(model: SelfMM, index: Any, y: np.ndarray, outputs: Arrays) -> dict[str, float]:
    tensors = {k: keras.ops.convert_to_tensor(v) for k, v in outputs.items()}
    index = np.asarray(index, "int32")
    return {k: float(v) for k, v in model.loss_terms({"index": index}, y, tensors).items()}


@pytest.mark.parametrize(
    ("exclude_zero", "bound"),
    [(True, 1.0), *(pytest.param(*p, marks=pytest.mark.once) for p in ((True, 3.0), (False, 1.0)))],
)
def test_label_rule(exclude_zero: bool, bound: float) -> None:
    random = np.random.default_rng(3)
    y = (labels_of(11) * bound).astype("float32")
    model = built(small(11, exclude_zero=exclude_zero, label_bound=bound))
    restated = Restated(y, bound, exclude_zero)
    for epoch in (1, 2, 3, 4):
        order = random.permutation(11)
        for index in (order[:4], order[4:8], order[8:]):
            outputs = random_outputs(random, len(index))
            expected = {}
            for s in UNIMODAL:
                own, truth = restated.label[s][index], restated.label["fusion"][index]
                error = np.abs(outputs[f"{s}_prediction"][:, 0] - own)
                expected[s] = np.mean(np.tanh(np.abs(own - truth)) * error)
            terms = visit(model, index, y[index], outputs)
            assert terms == pytest.approx(expected, abs=1e-5)
            assert any(terms.values()) == (epoch > 2)
            features = {k: outputs[f"{k}_feature"] for k in KINDS}
            restated.batch(epoch, index, features)
    for column, kind in enumerate(KINDS):
        np.testing.assert_allclose(
            made_labels(model)[:, column], restated.label[kind], rtol=0, atol=1e-5
        )
    assert np.abs(made_labels(model)).max() <= bound


@pytest.mark.once
def test_settings_of_exclude_zero_differ() -> None:
    results = []
    for exclude_zero in (True, False):
        random, y = np.random.default_rng(3), labels_of()
        model = built(small(exclude_zero=exclude_zero))
        for _ in range(2):
            visit(model, range(ROWS), y, random_outputs(random, ROWS))
        results.append(made_labels(model))
    assert np.abs(results[0] - results[1]).max() > 1e-3


@pytest.mark.once
def test_centres_leave_out_rows_not_visited() -> None:
    """Two models that differ in rows never seen make the same labels."""
    random, y = np.random.default_rng(3), labels_of()
    models = [built(small(ROWS)), built(small(ROWS + 5))]
    for _ in range(3):
        outputs = random_outputs(random, ROWS)
        for model in models:
            visit(model, range(ROWS), y, outputs)
    np.testing.assert_array_equal(made_labels(models[0]), made_labels(models[1])[:ROWS])
    assert not made_labels(models[1])[ROWS:].any()


@pytest.mark.parametrize(
    "y", [0.7, *(pytest.param(y, marks=pytest.mark.once) for y in (-0.7, 0.0))]
)
def test_empty_class_and_batch_of_one(y: float) -> None:
    """One row: the other class has no centre. Its labels stay, and nothing is NaN."""
    model, truth = small(1), np.full(1, y, "float32")
    x = batch_of(1)
    model.compile("sgd", run_eagerly=EAGERLY)
    for _ in range(3):
        loss = model.train_on_batch(x, truth)
        assert np.isfinite(loss)
    assert all(np.isfinite(numpy(v)).all() for v in model.variables)
    np.testing.assert_array_equal(made_labels(model), np.full((1, 4), y, "float32"))
    assert model.predict(x, verbose=0).shape == (1, 1)


def test_features_on_top_of_a_centre_stay_finite() -> None:
    """All features 0: both distances are 0, and so is what is divided by."""
    model, y = built(small(3)), np.array([0.0, 0.5, -0.5], "float32")
    outputs = {name: 0 * v for name, v in random_outputs(np.random.default_rng(0), 3).items()}
    for _ in range(3):
        assert np.isfinite(list(visit(model, range(3), y, outputs).values())).all()
    assert np.isfinite(made_labels(model)).all()


def test_row_twice_in_a_batch_keeps_one_of_them() -> None:
    model, y = built(small(3)), np.array([0.5, 0.5, -0.5, 0.2], "float32")
    for _ in range(3):
        outputs = random_outputs(np.random.default_rng(0), 4)
        assert np.isfinite(list(visit(model, [0, 0, 1, 2], y, outputs).values())).all()
    assert np.isfinite(made_labels(model)).all()
    assert numpy(model.unimodal_labels.visits).tolist() == [3, 3, 3]


# --- as a Keras model


@pytest.mark.once
def test_fit_save_load(tmp_path: Any) -> None:
    x, y = batch_of(6), labels_of(6)
    model = small(6, post_text_dropout=0.2)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(x, y, batch_size=3, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert numpy(model.unimodal_labels.visits).tolist() == [3] * 6
    made = made_labels(model)
    np.testing.assert_array_equal(made[:, 0], y)
    assert np.abs(made[:, 1:] - y[:, None]).max() > 1e-3
    before = memory(model)
    evaluated = model.evaluate(x, y, verbose=0)
    expected = np.mean(np.abs(model.predict(x, verbose=0)[:, 0] - y))
    assert evaluated == pytest.approx(expected, abs=1e-5)  # the main task alone
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    for value, loaded_value, was in zip(memory(model), memory(loaded), before, strict=True):
        np.testing.assert_array_equal(value, was)  # evaluation and prediction write nothing
        np.testing.assert_array_equal(loaded_value, was)
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), rtol=0, atol=1e-6)


def test_memories_are_all_the_non_trainable_weights() -> None:
    model = small()
    assert model.memories == []
    built(model)
    assert {v.path for v in model.memories} == {v.path for v in model.non_trainable_weights}


def test_in_m3s_only_query_rows_are_remembered() -> None:
    from keras_m3s.meta.m3s import M3S
    from keras_m3s.missing import MissingModality

    x, y = batch_of(6), labels_of(6)
    model = small(6)
    meta = M3S(model, MissingModality((0.4, 0.6), seed=0), inner_learning_rate=1e-2)
    meta.compile(keras.optimizers.Adam(1e-3), run_eagerly=EAGERLY)
    meta.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    assert numpy(model.unimodal_labels.visits).tolist() == [0, 2] * 3
    assert all(np.isfinite(numpy(v)).all() for v in model.variables)


@pytest.mark.once
def test_padded_tokens_change_nothing() -> None:
    x, model = batch_of(), small(bert=bert(max_sequence_length=64))
    ids = np.random.default_rng(0).integers(1, 40, (ROWS, 6))
    mask = np.arange(6) < x["text_length"][:, None]
    tokens = np.stack([ids * mask, mask, 0 * ids], axis=1).astype("int32")
    x = {k: v for k, v in x.items() if not k.startswith("text")} | {"text_bert": tokens}
    padded = {**x, "text_bert": np.pad(tokens, ((0, 0), (0, 0), (0, 50)))}
    aligned = {**x, "audio_length": x["audio_length"] * 0 + 1}
    built(model, x)
    expected, longer, shorter = (
        run(lambda model, x: model(x), model, batch) for batch in (x, padded, aligned)
    )
    np.testing.assert_allclose(longer, expected, rtol=0, atol=1e-5)
    assert np.abs(shorter - expected).max() > 1e-6


@pytest.mark.once
def test_aligned_sequences_end_with_the_text() -> None:
    x = batch_of()
    model = small(aligned=True)
    expected = numpy(model(x))
    changed = {**x, "audio_length": x["audio_length"] * 0, "vision_length": x["audio_length"]}
    np.testing.assert_array_equal(numpy(model(changed)), expected)
    beyond = np.arange(6)[None, :, None] >= x["text_length"][:, None, None]
    changed = {**x, "audio": x["audio"] + beyond, "vision": x["vision"] - beyond}
    np.testing.assert_allclose(numpy(model(changed)), expected, rtol=0, atol=1e-6)


def test_index_must_be_there_and_in_range() -> None:
    x, y = batch_of(), labels_of()
    model = built(small(ROWS - 1))
    outputs = random_outputs(np.random.default_rng(0), ROWS)
    without = {k: v for k, v in x.items() if k != "index"}
    assert np.isfinite(model.predict(without, verbose=0)).all()
    with pytest.raises(ValueError, match="In training `inputs` must hold 'index'"):
        model.loss_terms(without, y, outputs)
    for index in (x["index"], x["index"] - 1):
        with pytest.raises(ValueError, match=r"must be in \[0, train_size\), here \[0, 6\)"):
            visit(model, index, y, outputs)


def test_index_out_of_range_where_it_is_compiled() -> None:
    x, y = batch_of(), labels_of()
    model = small(ROWS - 1)
    model.compile("sgd")
    if keras.backend.backend() == "torch":
        with pytest.raises(ValueError, match="train_size"):
            model.train_on_batch(x, y)
    else:
        assert np.isnan(model.train_on_batch(x, y)).all()


def test_absent_modality_is_named() -> None:
    x = batch_of()
    for m in ("audio", "vision"):
        with pytest.raises(ValueError, match="must hold 'audio' and 'vision'"):
            small()({k: v for k, v in x.items() if k != m})


@pytest.mark.once
def test_encode_and_fuse_make_the_call() -> None:
    x, model = batch_of(), small()
    outputs = model(x, training=True)
    assert set(outputs) == {
        "prediction",
        *(f"{s}_prediction" for s in UNIMODAL),
        *(f"{k}_feature" for k in KINDS),
    }
    encoded = model.encode(x)
    assert {m: tuple(v.shape) for m, v in encoded.items()} == {
        "text": (ROWS, 5),
        "audio": (ROWS, 3),
        "vision": (ROWS, 2),
    }
    np.testing.assert_array_equal(numpy(encoded["text"]), x["text"][:, 0])
    np.testing.assert_allclose(numpy(model.fuse(encoded)), numpy(model(x)), rtol=0, atol=1e-6)


# --- settings


@pytest.mark.once
def test_two_lstm_layers_load_from_pytorch_names() -> None:
    model = built(small(audio_layers=2, vision_layers=3))
    names = [w.name for w in model.torch_weights()]
    assert len(names) == len(set(names)) == len(model.trainable_variables)
    assert "audio_model.rnn.weight_ih_l1" in names
    assert "video_model.rnn.bias_hh_l2" in names


@pytest.mark.once
@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    assert set(RATES) == set(PRESETS)
    model = built(SelfMM(4, **PRESETS[preset]))
    shapes = {w.name: tuple(w.variable.shape) for w in model.torch_weights()}
    # LSTM audio, LSTM vision, head of text; dropout of the heads fusion, text, audio, vision
    published = {
        "sims": (16, 64, 64, (0, 0.1, 0.1, 0), 1.0, True),
        "mosi": (32, 64, 64, (0.1, 0, 0.1, 0.1), 3.0, False),
        "mosi_mmsa": (16, 32, 32, (0, 0.1, 0.1, 0), 3.0, True),
    }[preset]
    assert published == (
        shapes["audio_model.rnn.weight_hh_l0"][0],
        shapes["video_model.rnn.weight_hh_l0"][0],
        shapes["post_text_layer_2.weight"][0],
        tuple(model.heads[kind].drop.rate for kind in KINDS),
        model.label_bound,
        model.exclude_zero,
    )
    assert shapes["post_fusion_layer_1.weight"] == (5 + 16 + 32, 128)
    assert shapes["post_video_layer_3.weight"] == (32, 1)


@pytest.mark.once
def test_published_optimizer_groups() -> None:
    model = small(bert=bert())
    built(model, batch_of() | {"text_bert": np.ones((ROWS, 3, 4), "int32")})
    optimizer = model.published_optimizer()
    optimizer.build(model.trainable_variables)
    expected = {
        "audio_encoder": (5e-3, 1e-2),
        "vision_encoder": (5e-3, 1e-2),
        "fusion_head": (1e-3, 1e-3),
        "text_head": (1e-3, 1e-3),
        "audio_head": (1e-3, 1e-3),
        "vision_head": (1e-3, 1e-3),
    }
    for number, variable in enumerate(model.trainable_variables):
        rate, decay = 1e-3 * optimizer._multipliers[number], optimizer._decays[number]
        at = next((name for name in expected if f"{name}/" in variable.path), None)
        if at is None:
            plain = variable.path.rpartition("/")[2] in ("bias", "gamma", "beta")
            assert (rate, decay) == pytest.approx((5e-5, 0.0 if plain else 1e-3)), variable.path
        else:
            assert (rate, decay) == pytest.approx(expected[at]), variable.path
    assert optimizer.gradient_accumulation_steps == 4
    assert optimizer.accumulation == "sum"
    model.published_optimizer(1e-4, preset="mosi").build(model.trainable_variables)
    with pytest.raises(ValueError, match="`preset` must be one of"):
        model.published_optimizer(preset="iemocap")


@pytest.mark.once
def test_published_optimizer_without_bert() -> None:
    model = built(small())
    model.published_optimizer().build(model.trainable_variables)


@pytest.mark.once
def test_data_arguments() -> None:
    assert SelfMM.data_arguments(np.array([0.3, -0.9])) == {"train_size": 2, "label_bound": 1.0}
    assert SelfMM.data_arguments([[2.6], [-1.0]]) == {"train_size": 2, "label_bound": 3.0}


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments", [{"train_size": 0}, {"label_bound": 0.0}, {"audio_layers": 0}]
)
def test_arguments_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`.* must be >=? ?[01]"):
        small(**arguments)
