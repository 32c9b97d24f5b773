"""Consistency between two draws, and with a teacher: closed forms, loops by hand, saved models."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta import consistency
from keras_m3s.meta.consistency import Consistency

RNG = np.random.default_rng(0)
X = {"left": RNG.normal(size=(8, 5, 2)).astype("float32"),
     "right": RNG.normal(size=(8, 5, 3)).astype("float32")}  # fmt: skip
Y = RNG.normal(size=(8, 1)).astype("float32")
A, B = (RNG.normal(size=(6, 3)).astype("float32") for _ in range(2))


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


def test_the_divergences():
    def found(name, first=A, second=B):
        return float(ops.convert_to_numpy(consistency.DIVERGENCES[name](first, second)))

    difference = np.mean((A - B) ** 2)
    np.testing.assert_allclose(found("difference"), difference, rtol=1e-5)
    variance = np.concatenate([A, B]).var(axis=0).mean()
    np.testing.assert_allclose(found("variance"), difference / variance, rtol=1e-5)
    p, q = softmax(A), softmax(B)
    symmetric = 0.5 * np.mean(kl(p, q) + kl(q, p))
    np.testing.assert_allclose(found("kl"), symmetric, rtol=1e-5)
    both = np.concatenate([p, q])
    mean = both.mean(axis=0, keepdims=True)
    between = 0.5 * np.mean(kl(both, mean) + kl(mean, both))
    np.testing.assert_allclose(found("scaled_kl"), symmetric / between, rtol=1e-4)
    for name in consistency.DIVERGENCES:
        assert abs(found(name, A, A)) < 1e-6
    # Free of scale: predictions that shrink to the mean gain nothing.
    np.testing.assert_allclose(found("variance", 0.1 * A, 0.1 * B), found("variance"), rtol=1e-3)


def network():
    keras.utils.set_random_seed(1)
    inputs = {name: keras.Input(x.shape[1:], name=name) for name, x in X.items()}
    pooled = [keras.layers.GlobalAveragePooling1D()(value) for value in inputs.values()]
    hidden = keras.layers.Dense(4, "tanh", name="body")(keras.layers.Concatenate()(pooled))
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(hidden))


def layer(rate=(0.4, 0.6), seed=7):
    return m3s.MissingModality(rate, seed=seed)


def two_draws():
    """Two cuts of `X`, as the layer's first draws make them of each row twice."""
    cut = layer()({name: np.repeat(x, 2, axis=0) for name, x in X.items()}, training=True)
    cut = {name: ops.convert_to_numpy(cut[name]) for name in X}
    return [{name: x[which::2] for name, x in cut.items()} for which in (0, 1)]


def network_by_hand(theta):
    """`network` in NumPy and float64, as a function of its inputs."""
    body, body_bias, head, head_bias = (
        part.reshape(shape)
        for part, shape in zip(
            np.split(theta, [20, 24, 28]), [(5, 4), (4,), (4, 1), (1,)], strict=True
        )
    )

    def predict(x):
        pooled = np.concatenate([x[name].astype("float64").mean(axis=1) for name in X], axis=1)
        return np.tanh(pooled @ body + body_bias) @ head + head_bias

    return predict


def after_a_step(loss):
    """Weights of `network` after one step of SGD at rate .1; the gradient is by differences.

    Args:
        loss: Function of `predict`.
    """
    theta = flat(network()).astype("float64")
    small = 1e-5 * np.eye(len(theta))
    differences = [
        loss(network_by_hand(theta + s)) - loss(network_by_hand(theta - s)) for s in small
    ]
    return theta - 0.1 * np.array(differences) / 2e-5


def flat(model):
    return np.concatenate([w.ravel() for w in m3s.strip(model).get_weights()])


def test_two_draws_against_a_loop_by_hand():
    weight = 0.7
    meta = m3s.WithMissing(network(), layer(), consistency=weight)
    meta.compile(keras.optimizers.SGD(0.1), loss="mse")
    logs = meta.train_on_batch(X, Y, return_dict=True)
    one, two = two_draws()

    def loss(predict):
        a, b = predict(one), predict(two)
        data = 0.5 * (np.mean((a - Y) ** 2) + np.mean((b - Y) ** 2))
        return data + weight * np.mean((a - b) ** 2) / (np.concatenate([a, b]).var() + 1e-6)

    np.testing.assert_allclose(flat(meta), after_a_step(loss), rtol=1e-4, atol=1e-5)
    model = network()
    a, b = (ops.convert_to_numpy(model(x)) for x in (one, two))
    expected = weight * np.mean((a - b) ** 2) / (np.concatenate([a, b]).var() + 1e-6)
    np.testing.assert_allclose(float(logs["consistency"]), expected, rtol=1e-4)


def test_a_teacher_sees_what_was_measured():
    """The teacher is not followed: only the holed side of the difference is moved."""
    meta = m3s.WithMissing(network(), layer(), teacher="complete", consistency=Consistency(
        0.7, "difference", teacher="complete"))  # fmt: skip
    meta.compile(keras.optimizers.SGD(0.1), loss="mse")
    meta.train_on_batch(X, Y)
    cut = layer()(X, training=True)
    cut = {name: ops.convert_to_numpy(cut[name]) for name in X}
    taught = ops.convert_to_numpy(network()(X)).astype("float64")

    def loss(predict):
        a = predict(cut)
        return np.mean((a - Y) ** 2) + 0.7 * np.mean((a - taught) ** 2)

    np.testing.assert_allclose(flat(meta), after_a_step(loss), rtol=1e-4, atol=1e-5)


def test_an_average_teacher_is_the_optimizers_average():
    averaged = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    meta = m3s.WithMissing(network(), layer(), teacher="average")
    meta.compile(averaged, loss="mse")
    plain = m3s.WithMissing(network(), layer(), teacher="complete")
    plain.compile(keras.optimizers.SGD(0.1), loss="mse")
    for step in range(3):
        for model in (meta, plain):
            model.train_on_batch(X, Y)
        # Before the first update of the averages, they are the weights themselves.
        assert np.allclose(flat(meta), flat(plain), rtol=1e-5, atol=1e-6) == (step < 2)


def test_an_average_teacher_needs_averages():
    meta = m3s.WithMissing(network(), layer(), teacher="average")
    meta.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="the optimizer must average the weights"):
        meta.train_on_batch(X, Y)


@pytest.mark.parametrize(
    "settings",
    [
        {"consistency": 1.0},
        {"consistency": Consistency(1.0, layer="body")},
        {"teacher": "average"},
        {"consistency": 1.0, "same_rows": True, "first_order": False},
        pytest.param({"teacher": "complete", "consistency": 0.5}, marks=pytest.mark.once),
    ],
    ids=["two draws", "a layer", "average", "same rows", "complete"],
)
def test_m3s_with_consistency_is_saved_and_gone_on_with(settings, tmp_path):
    meta = m3s.M3S(network(), layer(), inner_learning_rate=0.1, **settings)
    meta.compile(keras.optimizers.Adam(0.01, use_ema=True), loss="mse")
    meta.train_on_batch(X, Y)
    meta.save(tmp_path / "meta.keras")
    loaded = keras.saving.load_model(tmp_path / "meta.keras")
    meta.reset_metrics()
    logs = [model.train_on_batch(X, Y, return_dict=True) for model in (meta, loaded)]
    for name in ("loss", "adapted_loss", "consistency"):
        values = [float(log[name]) for log in logs]
        np.testing.assert_allclose(*values, rtol=1e-5)
        assert values[0] > 0
    np.testing.assert_allclose(flat(loaded), flat(meta), rtol=1e-5, atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize("settings", [{"consistency": 1.0}, {"teacher": "average"}])
def test_with_missing_is_saved_and_gone_on_with(settings, tmp_path):
    model = m3s.WithMissing(network(), layer(), **settings)
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), loss="mse")
    model.train_on_batch(X, Y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.train_on_batch(X, Y)
    np.testing.assert_array_equal(flat(loaded), flat(model))
    for ours, theirs in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (ours, theirs)))


class SaysMore(keras.Model):
    """In training it returns more than what it predicts, as the base models do."""

    def __init__(self):
        super().__init__()
        self.inside = network()

    def call(self, inputs, training=None):
        score = self.inside(inputs)
        return {"prediction": score, "mean": ops.mean(score)} if training else score

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(self.prediction_of(y_pred) - y))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {"loss": self._loss_tracker.result()}

    @staticmethod
    def prediction_of(outputs):
        return outputs["prediction"] if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize("settings", [{"consistency": 1.0}, {"teacher": "complete"}])
def test_what_a_model_returns_besides_its_prediction_is_not_compared(settings):
    found = []
    for model in (network(), SaysMore()):
        wrapped = m3s.WithMissing(model, layer(), **settings)
        wrapped.compile(keras.optimizers.SGD(0.1), loss="mse")
        logs = wrapped.train_on_batch(X, Y, return_dict=True)
        found.append(float(logs["consistency"]))
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert found[0] > 1e-3


@pytest.mark.once
def test_a_teacher_that_returns_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(SaysMore, "prediction_of", staticmethod(lambda outputs: outputs))
    wrapped = m3s.WithMissing(SaysMore(), layer(), teacher="complete")
    monkeypatch.setattr(SaysMore, "compute_loss", lambda *a, **k: ops.zeros(()))
    wrapped.compile("sgd")
    with pytest.raises(ValueError, match="must return in training what it returns otherwise"):
        wrapped.train_on_batch(X, Y)


@pytest.mark.once
def test_weights_by_name_need_several_outputs():
    settings = Consistency({"score": 1.0})
    with pytest.raises(ValueError, match=r"must be a number for a model with one output"):
        settings.check_names(np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"must name outputs of the model, \['class'\]"):
        settings.check_names({"class": np.zeros((2, 1))})


def test_classes_and_outputs_by_name():
    inputs = keras.Input((4,), name="x")
    outputs = {"kind": keras.layers.Dense(3, name="k")(inputs),
               "score": keras.layers.Dense(1, name="s")(inputs)}  # fmt: skip
    model = keras.Model({"x": inputs}, outputs)
    loss = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "score": "mse"}
    model.compile("sgd", loss=loss)
    labels = {"kind": np.zeros(6, "int32"), "score": np.zeros((6, 1), "float32")}
    first, second = ({"kind": one, "score": one[:, :1]} for one in (A, B))

    def found(**settings):
        return float(ops.convert_to_numpy(
            Consistency(**settings).penalty(model, labels, first, second)))  # fmt: skip

    forms = consistency.DIVERGENCES
    of_kind = float(ops.convert_to_numpy(forms["kl"](A, B)))
    of_score = float(ops.convert_to_numpy(forms["variance"](A[:, :1], B[:, :1])))
    np.testing.assert_allclose(found(), of_kind + of_score, rtol=1e-5)
    np.testing.assert_allclose(found(weight={"kind": 0.5}), 0.5 * of_kind, rtol=1e-5)
    wrapped = m3s.WithMissing(model, layer(), consistency={"kinds": 1.0})
    wrapped.compile("sgd")
    with pytest.raises(ValueError, match=r"must name outputs of the model.*kinds"):
        wrapped.train_on_batch({"x": A[:, [0, 1, 2, 0]]}, labels)


def test_probabilities_are_no_logits():
    probabilities = softmax(A), softmax(B)
    model = keras.Sequential([keras.layers.Dense(3, "softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    labels = np.zeros(6, "int32")
    found = Consistency().penalty(model, labels, *probabilities)
    expected = consistency.symmetric_kl(A, B)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, expected)), rtol=1e-3)


def test_a_layer_is_compared_instead():
    meta = m3s.WithMissing(network(), layer(), consistency=Consistency(0.7, layer="body"))
    meta.compile(keras.optimizers.SGD(0.1), loss="mse")
    logs = meta.train_on_batch(X, Y, return_dict=True)
    model = network()
    body = keras.Model(model.inputs, model.get_layer("body").output)
    a, b = (ops.convert_to_numpy(body([x["left"], x["right"]])) for x in two_draws())
    expected = 0.7 * np.mean((a - b) ** 2) / np.concatenate([a, b]).var(axis=0).mean()
    np.testing.assert_allclose(float(logs["consistency"]), expected, rtol=1e-3)
    unknown = m3s.WithMissing(network(), layer(), consistency=Consistency(layer="bode"))
    unknown.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"`layer` must be one of \['body'"):
        unknown.train_on_batch(X, Y)


def test_rows_with_fixed_draws_get_a_second_one():
    draws = np.full((8, 2, 2), 0.25, "float32")
    meta = m3s.WithMissing(network(), layer(), consistency=1.0)
    meta.compile("sgd", loss="mse")
    logs = meta.train_on_batch({**X, "draws": draws}, Y, return_dict=True)
    assert float(logs["consistency"]) > 1e-3


@pytest.mark.once
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"consistency": -1.0}, "`consistency` must be a finite float >= 0"),
        ({"teacher": "student"}, "`teacher` must be None or one of"),
        ({"consistency": Consistency(teacher="complete"), "teacher": "average"}, "left out"),
        ({"consistency": 1.0, "missing": None}, "must go with `missing`"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        m3s.WithMissing(network(), **{"missing": layer(), **settings})


@pytest.mark.once
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"divergence": "l2"}, "`divergence` must be 'auto' or one of"),
        ({"layer": "body", "divergence": "kl"}, "With `layer` there must be"),
    ],
)
def test_wrong_consistency(settings, message):
    with pytest.raises(ValueError, match=message):
        Consistency(**settings)
