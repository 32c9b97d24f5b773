"""MMIN and UttFusion: the published numbers, each way of missing, what Keras asks of a model."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing import MissingModality
from keras_m3s.models.mmin.mmin import MMIN
from keras_m3s.models.mmin.residual_autoencoder import ResidualAutoencoder
from keras_m3s.models.mmin.utt_fusion import Classifier, LinearDecay, UttFusion
from keras_m3s.models.mmin.utterance_encoders import SequenceEncoder, TextCNN
from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint
from tests.models import parity

# To trace MMIN takes TensorFlow longer than these few steps; `test_contract` does so.
EAGERLY = keras.backend.backend() == "tensorflow"
STUDENT = {
    "audio_size": 8,
    "vision_size": 8,
    "text_size": 8,
    "classifier_layers": (10, 10),
    "dropout_rate": 0.0,
    "text_dropout_rate": 0.0,
}
SMALL = {**STUDENT, "autoencoder_layers": (12, 8, 4), "n_blocks": 3}
TINY = {
    "audio_size": 6,
    "vision_size": 4,
    "text_size": 5,
    "text_channels": 3,
    "classifier_layers": (7,),
    "autoencoder_layers": (6, 3),
    "n_blocks": 2,
}
CALM = {**TINY, "dropout_rate": 0.0, "text_dropout_rate": 0.0}
TINY_TEACHER = {k: v for k, v in TINY.items() if k not in ("autoencoder_layers", "n_blocks")}


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=tolerance, atol=tolerance)


def predicted(model, x):
    """The outputs are near 0 at first: the encoded vectors tell more."""
    return [*model.encode(x).values(), model(x)]


def batch(size=4, steps=(7, 6, 8), lengths=False, seed=0):
    rng = np.random.default_rng(seed)
    dims = {"audio": 3, "vision": 4, "text": 5}
    x = {
        m: rng.normal(size=(size, n, d)).astype("float32")
        for (m, d), n in zip(dims.items(), steps, strict=True)
    }
    if lengths:
        for m, n in zip(dims, steps, strict=True):
            x[f"{m}_length"] = rng.integers(1, n + 1, size).astype("int32")
    return x, rng.integers(0, 4, size).astype("int32")


def published_inputs(golden):
    names = {"audio": "A_feat", "vision": "V_feat", "text": "L_feat"}
    return {m: golden[f"in/{name}"] for m, name in names.items()}


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("mmin")


@pytest.fixture(scope="module")
def published(numbers):
    """The golden teacher and student, and the batch as the published protocol has it."""
    x = published_inputs(numbers)
    teacher = parity.built(UttFusion(**STUDENT), x)
    parity.load_golden_weights(teacher, parity.part(numbers, "teacher/param"))
    model = MMIN(**SMALL)
    model.load_teacher(teacher)
    parity.load_golden_weights(model, parity.part(numbers, "param"))
    return teacher, model, {**x, "missing_index": numbers["in/missing_index"]}


def test_stage_1_is_the_published_one(numbers, published):
    teacher, _, x = published
    encoded = teacher.encode(x)
    for m, name in {"audio": "A", "vision": "V", "text": "L"}.items():
        close(encoded[m], numbers[f"teacher/out/feat_{name}"])
    logits = teacher(x)
    close(logits, numbers["teacher/out/logits"])
    teacher.compile()
    close(teacher.compute_loss(x, numbers["in/label"], logits), numbers["teacher/loss/CE"])
    parity.assert_gradients(teacher, x, numbers["in/label"], parity.part(numbers, "teacher/grad"))


def test_outputs_and_losses_are_the_published_ones(numbers, published):
    _, model, x = published
    outputs = model(x, training=True)
    for ours, theirs in {
        "student": "feat_fusion_miss",
        "imagined": "recon_fusion",
        "cycled": "recon_cycle",
        "teacher": "T_embds",
        "latent": "latent",
        "prediction": "logits",
    }.items():
        close(outputs[ours], numbers[f"out/{theirs}"])
    terms = model.loss_terms(x, None, outputs)
    close(terms["imagination"], numbers["loss/raw_mse"])
    close(terms["cycle"], numbers["loss/raw_cycle"])
    model.compile()
    label = numbers["in/label"]
    close(model.compute_loss(x, label, outputs["prediction"]), numbers["loss/CE"])
    close(model.compute_loss(x, label, outputs), numbers["loss/total"])


def test_gradients_are_the_published_ones(numbers, published):
    _, model, x = published
    parity.assert_gradients(model, x, numbers["in/label"], parity.part(numbers, "grad"))


def test_each_subnetwork_is_clipped_by_itself(numbers, published):
    for model, prefix in zip(published[:2], ("teacher/", ""), strict=True):
        optimizer = model.published_optimizer(group_clipnorm=1e-3)
        optimizer.build(model.trainable_variables)
        weights = list(model.torch_weights())
        gradients = parity.part(numbers, f"{prefix}grad")
        norms = {}
        for weight in weights:
            norms.setdefault(optimizer._group_of(weight.variable.path), []).append(weight.name)
        order, published_norms = (
            numbers[f"{prefix}{name}"] for name in ("clip_order", "clip_norm_and_max")
        )
        expected = dict(zip(order.tolist(), published_norms[:, 0], strict=True))
        assert None not in norms
        assert len(norms) == len(expected)
        for names in norms.values():
            norm = np.sqrt(sum(np.square(gradients[name]).sum() for name in names))
            np.testing.assert_allclose(norm, expected[names[0].split(".")[0]], rtol=1e-5)
    for model, maximum, beta in zip(published[:2], (0.5, 1.0), (0.9, 0.5), strict=True):
        optimizer = model.published_optimizer()
        assert (optimizer.group_clipnorm, optimizer.beta_1) == (maximum, beta)


def test_three_steps_are_the_published_ones(numbers, published):
    teacher, _, x = published
    model = MMIN(**SMALL)
    model.load_teacher(teacher)
    parity.load_golden_weights(model, parity.part(numbers, "param"))
    model.compile(model.published_optimizer(2e-4), run_eagerly=EAGERLY)
    label = numbers["in/label"]
    for index, losses in zip(numbers["tr/missing_index"], numbers["tr/losses"], strict=True):
        x = {**x, "missing_index": index}
        outputs = model(x, training=True)
        close(model.compute_loss(x, label, outputs["prediction"]), losses[0])
        terms = model.loss_terms(x, label, outputs)
        weighted = [terms[name] * weight for name, weight in model.term_weights.items()]
        close(ops.stack(weighted), losses[1:])
        model.reset_metrics()
        close(model.train_on_batch(x, label), losses.sum())
    final = parity.part(numbers, "tr/param_final")
    for weight in model.torch_weights():
        close(weight.variable, weight.to_keras(final.pop(weight.name)))
    assert not final


def test_logits_of_each_condition(numbers, published):
    _, model, x = published
    conditions = ["azz", "zvz", "zzl", "avz", "azl", "zvl", "avl"]
    there = [[letter in condition for letter in "avl"] for condition in conditions]
    size = len(x["audio"])
    x = {m: np.tile(x[m], (len(conditions), 1, 1)) for m in ("audio", "vision", "text")}
    x["missing_index"] = np.repeat(np.array(there, "int32"), size, axis=0)
    expected = [numbers[f"test_logits/{condition}"] for condition in conditions]
    close(model(x, training=False), np.concatenate(expected))


@pytest.mark.once
@pytest.mark.parametrize("name", ["30_30", "20_40", "10_10"])
def test_schedule_is_the_published_one(numbers, name):
    constant, decay = map(int, name.split("_"))
    (callback,) = MMIN(**TINY).training_callbacks(constant_epochs=constant, decay_epochs=decay)
    rates = numbers[f"sched/{name}"]
    ours = [callback.factor(epoch) for epoch in range(constant + decay)]
    np.testing.assert_allclose(ours, rates / rates[0], rtol=1e-12)


@pytest.fixture(scope="module")
def full_size():
    """Both stages at the published sizes, as they start."""
    shapes = {"audio": (None, None, 130), "vision": (None, None, 342), "text": (None, None, 1024)}
    models = UttFusion(), MMIN()
    for model in models:
        model.build(shapes)
    return models


@pytest.mark.once
def test_parameter_counts_at_published_sizes(full_size):
    _, model = full_size

    def count(layer):
        return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)

    assert count(model.encoders["audio"]) == 133_120
    assert count(model.encoders["vision"]) == 241_664
    assert count(model.encoders["text"]) == 1_622_528
    assert count(model.classifier) == 58_116
    assert count(model.imagination) == count(model.cycle_imagination) == 1_694_400
    assert count(model) == 5_444_228
    assert count(model.teacher) == 0
    assert len(model.non_trainable_weights) == len(model.encoders.weights)


# Each way of missing


def removed_by(model, x):
    """What the teacher reads, from its vectors: the same of `x` as complete input."""
    return model.teacher(model.encoders.select(x), training=False)


@pytest.mark.once
def test_complete_input_leaves_the_teacher_nothing():
    model = MMIN(**CALM)
    x, _ = batch()
    encoded = model.encode(x, training=True)
    nothing = removed_by(model, {m: np.zeros_like(v) for m, v in x.items()})
    for m in nothing:
        close(encoded["complement"][m], ops.convert_to_numpy(nothing[m]))


@pytest.mark.once
def test_whole_modalities_as_holes_are_the_published_protocol():
    model = MMIN(**CALM)
    x, _ = batch()
    index = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], "int32")
    there = {m: index[:, i, None, None].astype("float32") for i, m in enumerate(x)}
    by_index = model.encode({**x, "missing_index": index}, training=True)
    holed = {m: v * there[m] for m, v in x.items()}
    complement = {m: v * (1 - there[m]) for m, v in x.items()}
    by_holes = model.encode({**holed, "complement": complement}, training=True)
    for a, b in zip(keras.tree.flatten(by_index), keras.tree.flatten(by_holes), strict=True):
        close(a, ops.convert_to_numpy(b))
    assert np.abs(ops.convert_to_numpy(by_index["complement"]["audio"][1])).max() > 0


def test_holes_and_missing_index_together():
    model = MMIN(**CALM)
    x, _ = batch()
    index = np.array([[1, 0, 1]] * 4, "int32")
    hole = {m: (np.arange(v.shape[1]) < 3)[None, :, None] for m, v in x.items()}
    inputs = {m: v * ~hole[m] for m, v in x.items()}
    inputs["complement"] = {m: v * hole[m] for m, v in x.items()}
    encoded = model.encode({**inputs, "missing_index": index}, training=True)
    removed = {m: x[m] * (hole[m] | (m == "vision")) for m in x}
    expected = removed_by(model, {m: v.astype("float32") for m, v in removed.items()})
    for m in x:
        close(encoded["complement"][m], ops.convert_to_numpy(expected[m]))


@pytest.mark.parametrize("site", ["raw", pytest.param("encoded", marks=pytest.mark.once)])
def test_teacher_sees_what_the_holes_took(site):
    model = MMIN(**CALM)
    missing = MissingModality((0.5, 0.5), axis="time" if site == "raw" else "feature")
    wrapped = WithMissing(model, missing, site=site)
    x, _ = batch()
    draws = np.random.default_rng(1).random((4, 3, 2)).astype("float32")
    outputs = wrapped({**x, "draws": draws}, training=True)
    teacher = ops.convert_to_numpy(outputs["teacher"])
    if site == "raw":
        split = missing({**x, "complement": x, "draws": draws})["complement"]
        close(teacher, ops.convert_to_numpy(model.join(removed_by(model, split))))
        return
    # Audio comes first; half of each vector is the student's, the other half the teacher's.
    teacher, student = teacher[:, :6], ops.convert_to_numpy(outputs["student"])[:, :6]
    whole = {k: ops.convert_to_numpy(v) for k, v in model.encode(x).items()}["audio"]
    full = ops.convert_to_numpy(removed_by(model, x)["audio"])
    taken = student == 0
    np.testing.assert_array_equal(taken.sum(axis=1), 3)
    close(teacher, np.where(taken, full, 0))
    close(student, np.where(taken, 0, whole))


def test_fuse_in_training_needs_the_teacher():
    model = MMIN(**CALM)
    x, _ = batch()
    with pytest.raises(ValueError, match="must hold 'complement'"):
        model.fuse(model.encode(x, training=False), training=True)


# Two stages


@pytest.mark.once
def test_two_stages_by_fit():
    x, y = batch()
    teacher = UttFusion(**TINY_TEACHER)
    teacher.compile(teacher.published_optimizer(), run_eagerly=EAGERLY)
    teacher.fit(x, y, batch_size=2, verbose=0)
    model = MMIN(**TINY)
    model.load_teacher(teacher)
    for own, theirs in zip(model.encoders.weights, teacher.encoders.weights, strict=True):
        close(own, ops.convert_to_numpy(theirs), 0)
    model.compile(model.published_optimizer(), run_eagerly=EAGERLY)
    x["missing_index"] = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], "int32")
    callbacks = model.training_callbacks(constant_epochs=1, decay_epochs=1)
    history = model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(teacher.predict(x, verbose=0)).all()  # still has its weights
    close(model.optimizer.learning_rate, 1e-4)
    moved = []
    for own, frozen, theirs in zip(
        model.encoders.weights, model.teacher.weights, teacher.encoders.weights, strict=True
    ):
        close(frozen, ops.convert_to_numpy(theirs), 0)
        moved.append(np.any(ops.convert_to_numpy(own) != ops.convert_to_numpy(theirs)))
    assert all(moved)
    assert model.predict(x, verbose=0).shape == (4, 4)


def test_teacher_stays_frozen():
    model = MMIN(**TINY)
    model(batch()[0])
    model.trainable = False
    assert not model.trainable_variables
    model.trainable = True
    assert model.trainable_variables
    assert not model.teacher.trainable_variables
    assert not any(layer.trainable for layer in model.teacher._flatten_layers())


@pytest.mark.once
def test_teacher_must_fit():
    x, _ = batch()
    model = MMIN(**TINY)
    with pytest.raises(ValueError, match="must be a built UttFusion"):
        model.load_teacher(UttFusion(**TINY_TEACHER))
    partial = UttFusion(**TINY_TEACHER, modalities=("audio", "text"))
    assert partial(x).shape == (4, 4)
    with pytest.raises(ValueError, match="with modalities="):
        model.load_teacher(partial)
    other = UttFusion(**{**TINY_TEACHER, "audio_size": 7})
    other(x)
    with pytest.raises(ValueError, match="encoders like the model's"):
        model.load_teacher(other)


@pytest.mark.once
def test_schedule_goes_on_after_a_resumed_run():
    class Host:
        optimizer = keras.optimizers.SGD(0.1)

    rates = []
    for first in (0, 3):  # the second run finds the rate that epoch 2 left
        callback = LinearDecay(2, 4)
        callback.set_model(Host())
        callback.on_train_begin()
        for epoch in range(first, first + 3):
            callback.on_epoch_begin(epoch)
            rates.append(float(Host.optimizer.learning_rate))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.08, 0.06, 0.04, 0.02], rtol=1e-5)


# Padding and lengths


@pytest.mark.once
@pytest.mark.parametrize("pooling", ["max", "last"])
def test_masked_padding_never_matters(pooling):
    model = MMIN(**TINY, audio_pooling=pooling, vision_pooling=pooling, mask_padding=True)
    x, _ = batch(lengths=True)
    x["text_length"][0], x["audio_length"][1] = 2, 0
    garbage = {
        m: np.concatenate([v, np.full_like(v, 9.0)], axis=1) if v.ndim == 3 else v
        for m, v in x.items()
    }
    for m in ("audio", "vision", "text"):
        garbage[m][np.arange(garbage[m].shape[1]) >= x[f"{m}_length"][:, None]] = 7.0
    alone = {k: v[:1] if v.ndim == 1 else v[:1, : x[f"{k}_length"][0]] for k, v in x.items()}
    parity.built(model, x)
    expected, padded, first = (parity.run(predicted, model, i) for i in (x, garbage, alone))
    for whole, long, short in zip(expected, padded, first, strict=True):
        close(long, whole)
        close(short, whole[:1])


@pytest.mark.once
def test_padding_counts_as_published():
    model = MMIN(**TINY, audio_pooling="last")
    x, _ = batch()
    longer = {m: np.pad(v, [(0, 0), (0, 50), (0, 0)]) for m, v in x.items()}
    short, long = (ops.convert_to_numpy(model.encode(inputs)["audio"]) for inputs in (x, longer))
    assert np.abs(long - short).max() > 1e-4


def test_masking_needs_lengths():
    with pytest.raises(ValueError, match="audio_length"):
        MMIN(**TINY, mask_padding=True)(batch()[0])
    x, _ = batch()
    del x["text"]
    with pytest.raises(ValueError, match="'text'"):
        MMIN(**TINY)(x)


@pytest.mark.once
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_text_shorter_than_a_filter(steps):
    layer = TextCNN(3, channels=2, heights=(2, 4), dropout=0.0)
    x = np.random.default_rng(0).normal(size=(2, steps, 5)).astype("float32")
    out = ops.convert_to_numpy(layer(x))
    maxima = []
    for conv, height in zip(layer.convolutions, (2, 4), strict=True):
        padded = np.pad(x, [(0, 0), (0, max(0, height - steps)), (0, 0)])
        kernel, bias = map(ops.convert_to_numpy, (conv.kernel, conv.bias))
        windows = [
            np.einsum("bhd,hdc->bc", padded[:, i : i + height], kernel) + bias
            for i in range(padded.shape[1] - height + 1)
        ]
        maxima.append(np.maximum(np.max(windows, axis=0), 0))
    kernel, bias = map(ops.convert_to_numpy, (layer.project.kernel, layer.project.bias))
    expected = np.maximum(np.concatenate(maxima, axis=-1) @ kernel + bias, 0)
    close(out, expected)


# Other configurations


def test_shared_cascade_is_two_equal_ones(numbers, published):
    teacher, _, x = published
    params = parity.part(numbers, "param")
    forward = {k: v for k, v in params.items() if not k.startswith("AE_cycle.")}
    twice = {k.replace("AE.", "AE_cycle."): v for k, v in forward.items() if k.startswith("AE.")}
    shared, double = MMIN(**SMALL, share_weight=True), MMIN(**SMALL)
    for model, state in ((shared, forward), (double, {**forward, **twice})):
        model.load_teacher(teacher)
        parity.load_golden_weights(model, state)
    a, b = (parity.run(lambda m, x: m(x, training=True), m, x) for m in (shared, double))
    for name in a:
        close(a[name], b[name])
    y = numbers["in/label"]
    ours = parity.gradients(shared, x, y, shared.imagination.trainable_variables)
    both = double.imagination.trainable_variables + double.cycle_imagination.trainable_variables
    split = parity.gradients(double, x, y, both)
    for gradient, one, two in zip(ours, split[: len(ours)], split[len(ours) :], strict=True):
        close(gradient, one + two)


def test_last_state_is_the_lstms_own():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    layer = SequenceEncoder(6, pooling="last")
    layer.build(x.shape)
    reference = torch.nn.LSTM(4, 6, batch_first=True)
    state = {f"A.rnn.{k}": v.detach().numpy() for k, v in reference.named_parameters()}
    for weight in layer.torch_weights("A"):
        weight.variable.assign(weight.to_keras(state[weight.name]))
    _, (final, _) = reference(torch.from_numpy(x))
    close(layer(x), final[0].detach().numpy())
    with pytest.raises(ValueError, match="'attention'"):
        SequenceEncoder(6, pooling="attention")


def test_batch_norm_and_the_names_it_shifts():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    reference = nn.Sequential(
        *(nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Dropout(0.5)),
        *(nn.Linear(5, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Dropout(0.5)),
    )
    out = nn.Linear(3, 2)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    reference(torch.from_numpy(x))  # moves the running moments off their start
    state = {f"C.module.{k}": v for k, v in reference.eval().state_dict().items()}
    state |= {f"C.fc_out.{k}": v for k, v in out.state_dict().items()}

    layer = Classifier((5, 3), 2, 0.5, True, keras.initializers.GlorotUniform())
    layer.build((None, 4))
    for weight in layer.torch_weights("C"):
        weight.variable.assign(weight.to_keras(state.pop(weight.name).numpy()))
    assert all(name.endswith("num_batches_tracked") for name in state)
    close(layer(x), out(reference(torch.from_numpy(x))).detach().numpy())


@pytest.mark.once
@pytest.mark.parametrize("batch_norm", [False, True])
def test_names_of_a_checkpoint_without_dropout(batch_norm):
    x, _ = batch()
    models = [
        UttFusion(**{**TINY_TEACHER, "classifier_layers": (5, 5)}, batch_norm=batch_norm)
        for _ in range(2)
    ]
    for model in models:
        model(x)
    state = {}
    for weight in models[0].torch_weights():
        value = ops.convert_to_numpy(weight.variable)
        # The conversions only permute axes here: undo them by position.
        rank = value.ndim
        if "conv" in weight.name and rank == 3:
            value = value.transpose(2, 0, 1)[:, None]
        elif rank == 2:
            value = value.T
        state[weight.name] = value
    stride = 4 if batch_norm else 3
    names = {}
    for name in state:
        _, _, tail = name.partition("C.module.")
        if tail:
            number, _, rest = tail.partition(".")
            layer, part = divmod(int(number), stride)
            names[name] = f"C.module.{layer * (stride - 1) + part}.{rest}"
    load_torch_checkpoint(models[1], {names.get(k, k): v for k, v in state.items()})
    close(models[1](x), ops.convert_to_numpy(models[0](x)))


def test_cascade_adds_what_came_before():
    layer = ResidualAutoencoder((4, 2), 3)
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    output, latent = layer(x)
    assert output.shape == (2, 6)
    assert latent.shape == (2, 6)
    value = x
    for encoder, decoder in zip(layer.encoders, layer.decoders, strict=True):
        hidden = ops.convert_to_numpy(encoder[0](value))
        z = ops.convert_to_numpy(encoder[1](np.where(hidden < 0, 0.01 * hidden, hidden)))
        value = value + ops.convert_to_numpy(decoder[1](ops.relu(decoder[0](z))))
    close(output, ops.convert_to_numpy(layer.transition[1](ops.relu(layer.transition[0](value)))))
    with pytest.raises(ValueError, match="n_blocks=0"):
        ResidualAutoencoder((4, 2), 0)


@pytest.mark.once
def test_weights_start_as_published(full_size):
    teacher, model = full_size
    first, second = (ops.convert_to_numpy(e[0].kernel) for e in model.imagination.encoders[:2])
    assert np.isclose(first.std(), 0.02, rtol=0.02)
    assert np.any(first != second)
    kernel = ops.convert_to_numpy(teacher.encoders["text"].convolutions[0].kernel)
    assert np.isclose(kernel.std(), np.sqrt(2 / (3 * 1024)), rtol=0.02)
    assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated
    bias = ops.convert_to_numpy(model.encoders["audio"].rnn.forward_cell.recurrent_bias)
    assert 0 < np.abs(bias).max() <= 128**-0.5


def test_task_weight():
    x, y = batch()
    plain, heavy = MMIN(**TINY), MMIN(**TINY, task_weight=3.0)
    logits = plain(x)
    for model in (plain, heavy):
        model.compile()
    ratio = heavy.compute_loss(x, y, logits) / plain.compute_loss(x, y, logits)
    close(ratio, 3.0)


# What Keras asks of a model


@pytest.mark.once
def test_save_and_load(tmp_path):
    x, y = batch()
    teacher = UttFusion(**TINY_TEACHER)
    teacher(x)
    model = MMIN(
        **TINY,
        vision_pooling="last",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
    )
    model.load_teacher(teacher)
    model.compile(model.published_optimizer(), run_eagerly=EAGERLY)
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    for old, new in zip(model.weights, again.weights, strict=True):
        close(new, ops.convert_to_numpy(old), 0)
    for old, new in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        close(new, ops.convert_to_numpy(old), 0)
    close(again(x), ops.convert_to_numpy(model(x)))
    assert again.loss.from_logits
    assert not again.teacher.trainable_variables


@pytest.mark.once
def test_save_and_load_a_shared_cascade(tmp_path):
    x, _ = batch()
    model = MMIN(**TINY, share_weight=True)
    model(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.cycle_imagination is None
    close(again(x, training=False), ops.convert_to_numpy(model(x, training=False)))


def test_every_variable_exists_after_inference():
    model = MMIN(**TINY)
    x, _ = batch()
    model(x, training=False)
    before = [v.path for v in model.variables]
    model(x, training=True)
    assert [v.path for v in model.variables] == before


@pytest.mark.once
def test_classes_come_from_the_labels():
    assert MMIN.data_arguments(np.array([0, 2, 1])) == {"num_classes": 3}
    assert [metric.name for metric in MMIN(**TINY).task_metrics()] == ["uar"]
    assert MMIN.data_arguments(np.array([0.5, 2.0])) == {"num_classes": 1}


def test_steps_may_be_unknown_when_traced():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow traces with unknown sizes")
    import tensorflow as tf

    x, _ = batch()
    signature = {m: tf.TensorSpec((None, None, v.shape[-1])) for m, v in x.items()}
    model = MMIN(**TINY)
    model(x)
    traced = tf.function(lambda inputs: model(inputs), input_signature=[signature])
    close(traced(x), ops.convert_to_numpy(model(x)))


# Scores, which the published code does not have


def test_scores_are_trained_on_their_squared_error():
    model = MMIN(**{**CALM, **MMIN.data_arguments(np.array([0.5, -1.0]))})
    x, _ = batch()
    y = np.array([[0.5], [-1.0], [2.0], [0.0]], "float32")
    model.compile(model.published_optimizer(), metrics=model.task_metrics())
    outputs = model({**x}, training=True)
    assert model(x).shape == (4, 1)
    prediction = ops.convert_to_numpy(outputs["prediction"])
    terms = {
        name: float(ops.convert_to_numpy(term))
        for name, term in model.loss_terms(x, y, outputs).items()
    }
    wanted = np.mean((prediction - y) ** 2) + 4 * terms["imagination"] + 2 * terms["cycle"]
    close(model.compute_loss(x, y, outputs), wanted)
    assert (model.monitor, model.monitor_mode) == ("val_loss", "min")
    assert MMIN(**CALM).monitor == "val_uar"
    teacher = model.first_stage()
    assert teacher.num_classes == 1 and teacher.monitor == "val_loss"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.num_classes == 1 and again.published_loss == "mean_squared_error"


@pytest.mark.once
def test_a_run_on_scores_has_both_stages(tmp_path):
    from keras_m3s.data import load
    from keras_m3s.experiments.run import run_experiment
    from keras_m3s.experiments.run_directory import RunDirectory
    from tests.small import small

    experiment = small("mmin", epochs=2)
    splits = load("synthetic_msa", config="tiny", data_dir=tmp_path / "data")
    metrics = run_experiment(experiment, RunDirectory(tmp_path / "run"), splits)
    assert np.isfinite(metrics["mae"]) and set(metrics) >= {"corr", "acc7"}
