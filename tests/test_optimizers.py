"""`GroupedAdam` against `torch.optim.Adam` with parameter groups, and as any Keras optimizer."""

import keras
import numpy as np
import pytest

from keras_m3s.meta.meta_model import MetaModel
from keras_m3s.optimizers import DiscardPartialAccumulation, GroupedAdam

torch = pytest.importorskip("torch")

RATE = 0.1
GROUPS = {
    r"bert/bias$": {"learning_rate": 0.02, "weight_decay": 0.0},
    r"bert/": {"learning_rate": 0.02, "weight_decay": 0.3},
    r"audio/": {"multiplier": 0.5},
}
DECAY = 0.05
# Rates and decays of bert kernel, bert bias, audio kernel, audio bias, head kernel, head bias.
RATES = (0.02, 0.02, 0.05, 0.05, 0.1, 0.1)
DECAYS = (0.3, 0.0, 0.05, 0.05, 0.05, 0.05)
MEMBERS = ((0,), (1,), (2, 3), (4, 5))


def network() -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Dense(4, activation="tanh", name="bert"),
            keras.layers.Dense(3, activation="tanh", name="audio"),
            keras.layers.Dense(1, name="head"),
        ]
    )
    model.build((None, 5))
    for i, variable in enumerate(model.trainable_variables):
        variable.assign(np.random.default_rng(i).normal(size=variable.shape))
    return model


def values(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def gradients(model: keras.Model, steps: int, scale: float = 1.0) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(7)
    return [
        [scale * rng.normal(size=v.shape).astype("float32") for v in model.trainable_variables]
        for _ in range(steps)
    ]


def clip_in_torch(parameters: list, clip: dict[str, float], groups) -> None:
    if "clipvalue" in clip:
        torch.nn.utils.clip_grad_value_(parameters, clip["clipvalue"])
    if "global_clipnorm" in clip:
        torch.nn.utils.clip_grad_norm_(parameters, clip["global_clipnorm"])
    if "group_clipnorm" in clip:
        for members in groups:
            torch.nn.utils.clip_grad_norm_([parameters[i] for i in members], clip["group_clipnorm"])


def steps_in_torch(
    start, grads, clip=None, factors=None, rates=RATES, decays=DECAYS, members=MEMBERS, **kwargs
):
    """Parameters after one step of torch.optim.Adam per list of gradients."""
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    optimizer = torch.optim.Adam(
        [
            {"params": [p], "lr": rate, "weight_decay": decay}
            for p, rate, decay in zip(parameters, rates, decays, strict=True)
        ],
        **kwargs,
    )
    for i, step in enumerate(grads):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (factors[i] if factors else 1)
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = None if gradient is None else torch.tensor(gradient)
        clip_in_torch(parameters, clip or {}, members)
        optimizer.step()
    return [p.detach().numpy() for p in parameters]


def apply(optimizer, model: keras.Model, grads) -> None:
    """One step, the way the backend's own `fit` takes it."""
    grads = [g if g is None else keras.ops.convert_to_tensor(g) for g in grads]
    if keras.backend.backend() != "jax":
        optimizer.apply(grads, model.trainable_variables)
        return
    optimizer.build(model.trainable_variables)
    trainable, state = optimizer.stateless_apply(
        [v.value for v in optimizer.variables], grads, [v.value for v in model.trainable_variables]
    )
    variables = [*model.trainable_variables, *optimizer.variables]
    for variable, value in zip(variables, [*trainable, *state], strict=True):
        variable.assign(value)


def assert_close(model: keras.Model, expected: list[np.ndarray], atol: float = 1e-6) -> None:
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        actual = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(actual, value, rtol=0, atol=atol, err_msg=variable.path)


def adam(**kwargs) -> GroupedAdam:
    return GroupedAdam(RATE, **{"weight_decay": DECAY, "groups": GROUPS, **kwargs})


@pytest.mark.parametrize(
    "clip", [{}, {"clipvalue": 0.5}, {"global_clipnorm": 1.0}, {"group_clipnorm": 1.0}], ids=str
)
def test_three_steps_are_those_of_torch(clip):
    model = network()
    start, grads = values(model), gradients(model, 3)
    optimizer = adam(**clip)
    for step in grads:
        apply(optimizer, model, step)
    assert_close(model, steps_in_torch(start, grads, clip))


def test_apply_outside_of_a_trace():
    model = network()
    start, grads = values(model), gradients(model, 2)
    optimizer = adam(group_clipnorm=1.0)
    for step in grads:
        tensors = [keras.ops.convert_to_tensor(g) for g in step]
        optimizer.apply(tensors, model.trainable_variables)
    assert_close(model, steps_in_torch(start, grads, {"group_clipnorm": 1.0}))


def test_a_norm_within_the_limit_is_left_alone():
    model = network()
    start, grads = values(model), gradients(model, 1)
    apply(adam(global_clipnorm=1e3), model, grads[0])
    assert_close(model, steps_in_torch(start, grads), atol=1e-7)


@pytest.mark.parametrize("clip", ["global_clipnorm", "group_clipnorm"])
def test_a_tiny_norm_is_clipped_as_in_torch(clip):
    """Where the norm is as small as the 1e-6 that PyTorch adds to it."""
    model = network()
    start, grads = values(model), gradients(model, 2, scale=1e-6)
    settings = {"rates": (RATE,) * 6, "decays": (0.0,) * 6}
    optimizer = GroupedAdam(
        RATE, groups={f"{layer}/": {} for layer in ("bert", "audio")}, **{clip: 1e-6}
    )
    for step in grads:
        apply(optimizer, model, step)
    members = ((0, 1), (2, 3), (4, 5))
    assert_close(model, steps_in_torch(start, grads, {clip: 1e-6}, members=members, **settings))


def test_epsilon_counts_as_in_torch_where_gradients_are_tiny():
    groups = {"bert|audio|head": {"weight_decay": 0.0}}
    model, other = network(), network()
    start, grads = values(model), gradients(model, 3, scale=1e-8)
    optimizer, keras_adam = (
        GroupedAdam(RATE, groups=groups),
        keras.optimizers.Adam(RATE, epsilon=1e-8),
    )
    for step in grads:
        apply(optimizer, model, step)
        apply(keras_adam, other, step)
    expected = steps_in_torch(start, grads, rates=(RATE,) * 6, decays=(0.0,) * 6)
    assert_close(model, expected)
    with pytest.raises(AssertionError):
        assert_close(other, expected, atol=1e-2)  # so the case tells the two apart


@pytest.mark.parametrize("beta_1", [0.5, 0.0])
def test_betas_and_amsgrad(beta_1):
    model = network()
    start, grads = values(model), gradients(model, 4)
    grads[1] = [g / 100 for g in grads[1]]
    optimizer = adam(beta_1=beta_1, beta_2=0.5, epsilon=1e-3, amsgrad=True)
    for step in grads:
        apply(optimizer, model, step)
    expected = steps_in_torch(start, grads, betas=(beta_1, 0.5), eps=1e-3, amsgrad=True)
    assert_close(model, expected)


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 1.0}, {"group_clipnorm": 1.0}], ids=str)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_without_gradient_is_skipped(clip):
    model = network()
    start, grads = values(model), gradients(model, 2)
    grads = [[None, *step[1:3], None, *step[4:]] for step in grads]
    optimizer = adam(**clip)
    for step in grads:
        apply(optimizer, model, step)
    assert_close(model, steps_in_torch(start, grads, clip))
    np.testing.assert_array_equal(values(model)[0], start[0])


def test_all_groups_scale_with_the_learning_rate():
    model = network()
    start, grads = values(model), gradients(model, 3)
    optimizer = adam()
    factors = (1.0, 0.5, 0.25)
    for step, factor in zip(grads, factors, strict=True):
        optimizer.learning_rate = RATE * factor
        apply(optimizer, model, step)
    assert_close(model, steps_in_torch(start, grads, factors=factors))


def test_reduce_on_plateau_acts_on_every_group():
    model = network()
    model.compile(adam(), loss="mse")
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    x, y = np.ones((4, 5), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, epochs=3, batch_size=4, verbose=0, callbacks=[plateau])
    # The first epoch is the best so far, the second and third are not better by 1e9.
    np.testing.assert_allclose(float(model.optimizer.learning_rate), RATE / 4, rtol=1e-6)
    start, grads = values(model), gradients(model, 1)
    fresh = adam()
    fresh.learning_rate = model.optimizer.learning_rate
    apply(fresh, model, grads[0])
    assert_close(model, steps_in_torch(start, grads, factors=(0.25,)))


def test_a_schedule_takes_multipliers():
    schedule = keras.optimizers.schedules.ExponentialDecay(RATE, decay_steps=1, decay_rate=0.5)
    groups = {"bert/": {"multiplier": 0.2, "weight_decay": 0.3}}
    model = network()
    start, grads = values(model), gradients(model, 3)
    optimizer = GroupedAdam(schedule, groups=groups)
    for step in grads:
        apply(optimizer, model, step)
    rates, decays = (0.02, 0.02, *(RATE,) * 4), (0.3, 0.3, *(0.0,) * 4)
    expected = steps_in_torch(start, grads, factors=(1.0, 0.5, 0.25), rates=rates, decays=decays)
    assert_close(model, expected)


@pytest.mark.parametrize("accumulation", ["mean", "sum"])
def test_accumulated_gradients(accumulation):
    """The limit lies between the norms, 9 of a sum and 4.5 of a mean: it acts on one of them."""
    model = network()
    start, grads = values(model), gradients(model, 4)
    optimizer = adam(gradient_accumulation_steps=2, accumulation=accumulation, global_clipnorm=7.0)
    for step in grads:
        apply(optimizer, model, step)
    part = 2 if accumulation == "mean" else 1
    summed = [[(a + b) / part for a, b in zip(*grads[i : i + 2], strict=True)] for i in (0, 2)]
    assert_close(model, steps_in_torch(start, summed, {"global_clipnorm": 7.0}))


def test_a_partial_accumulation_is_discarded_at_an_epoch():
    """Three batches an epoch, two a step: the third counts for nothing."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 5)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    settings = {"gradient_accumulation_steps": 2, "accumulation": "sum"}
    full, cut = network(), network()
    full.compile(adam(**settings), loss="mse")
    full.fit(
        x, y, batch_size=2, epochs=2, shuffle=False, verbose=0,
        callbacks=[DiscardPartialAccumulation()],
    )  # fmt: skip
    cut.compile(adam(**settings), loss="mse")
    cut.fit(x[:4], y[:4], batch_size=2, epochs=2, shuffle=False, verbose=0)
    assert_close(full, values(cut), atol=1e-7)
    assert not np.allclose(values(full)[0], values(network())[0])


class Words(keras.Model):
    """An embedding with repeated ids: TensorFlow gives its gradient as rows, some twice."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(6, 3, name="embedding")
        self.head = keras.layers.Dense(1, name="head")

    def call(self, ids):
        return self.head(keras.ops.mean(self.embedding(ids), axis=1))


@pytest.mark.parametrize("accumulate", [None, 2])
def test_fit_with_an_embedding_is_torch(accumulate):
    ids = np.array([[1, 1, 2], [3, 1, 1], [0, 2, 2], [5, 5, 5]], "int32")
    y = np.array([[3.0], [-2.0], [1.0], [4.0]], "float32")
    model = Words()
    model(ids)
    table, kernel, bias = (torch.nn.Parameter(torch.tensor(v)) for v in values(model))
    model.compile(
        GroupedAdam(
            RATE,
            groups={"embedding": {"learning_rate": 0.02, "weight_decay": 0.3}},
            global_clipnorm=1.0,
            gradient_accumulation_steps=accumulate,
        ),
        loss="mse",
    )
    model.fit(ids, y, batch_size=4, epochs=3 * (accumulate or 1), shuffle=False, verbose=0)
    optimizer = torch.optim.Adam(
        [{"params": [table], "lr": 0.02, "weight_decay": 0.3}, {"params": [kernel, bias]}], lr=RATE
    )
    for _ in range(3):
        optimizer.zero_grad()
        out = torch.nn.functional.embedding(torch.tensor(ids), table).mean(1) @ kernel + bias
        torch.mean((out - torch.tensor(y)) ** 2).backward()
        torch.nn.utils.clip_grad_norm_([table, kernel, bias], 1.0)
        optimizer.step()
    assert_close(model, [p.detach().numpy() for p in (table, kernel, bias)])


def test_inside_a_loss_scale_optimizer():
    model = network()
    start, grads = values(model), gradients(model, 3)
    scaler = keras.optimizers.LossScaleOptimizer(adam(global_clipnorm=1.0), initial_scale=1024.0)
    for step in grads:
        apply(scaler, model, [1024 * g for g in step])
    infinite = [np.full_like(g, np.inf) for g in grads[0]]
    apply(scaler, model, infinite)  # skipped
    assert_close(model, steps_in_torch(start, grads, {"global_clipnorm": 1.0}))


def test_moving_average_of_the_base_class():
    model = network()
    start, grads = values(model), gradients(model, 3)
    optimizer = adam(use_ema=True, ema_momentum=0.5)
    average = None
    for i, step in enumerate(grads):
        apply(optimizer, model, step)
        now = steps_in_torch(start, grads[: i + 1])
        average = now if average is None else [
            0.5 * a + 0.5 * n for a, n in zip(average, now, strict=True)
        ]  # fmt: skip
    assert_close(model, steps_in_torch(start, grads))
    optimizer.finalize_variable_values(model.trainable_variables)
    assert_close(model, average)


def test_base_exclusion_from_decay_holds():
    model = network()
    start, grads = values(model), gradients(model, 2)
    optimizer = GroupedAdam(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for step in grads:
        apply(optimizer, model, step)
    expected = steps_in_torch(start, grads, rates=(RATE,) * 6, decays=(DECAY, 0.0) * 3)
    assert_close(model, expected)


def test_under_m3s():
    model = network()
    start = values(model)
    meta = MetaModel(model, inner_steps=1, inner_learning_rate=0.01)
    frozen = {"bert/": {"multiplier": 0.0}}
    meta.compile(GroupedAdam(RATE, groups=frozen, group_clipnorm=1.0), loss="mse")
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    meta.fit(x, np.ones((4, 1), "float32"), batch_size=4, epochs=1, verbose=0)
    after = values(model)
    for i in (0, 1):
        np.testing.assert_array_equal(after[i], start[i])
    for i in (2, 3, 4, 5):
        assert np.abs(after[i] - start[i]).max() > RATE / 2


def test_config_round_trip():
    optimizer = adam(group_clipnorm=1.0, gradient_accumulation_steps=4, accumulation="sum")
    optimizer.learning_rate = RATE / 10  # what a callback did: the groups follow
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == optimizer.get_config()
    assert list(again.groups) == list(GROUPS)  # the order decides
    assert again.groups[r"bert/"] == {"multiplier": pytest.approx(0.2), "weight_decay": 0.3}
    assert again.groups[r"audio/"] == {"multiplier": 0.5}


@pytest.mark.parametrize(
    ("how", "settings"),
    [
        ("keras", {}),
        ("weights", {"gradient_accumulation_steps": 2}),
        pytest.param("weights", {}, marks=pytest.mark.once),
        pytest.param("keras", {"gradient_accumulation_steps": 2}, marks=pytest.mark.once),
    ],
)
def test_training_resumed_from_a_file_is_uninterrupted_training(how, settings, tmp_path):
    """Saved after three batches: with accumulation, in the middle of a step."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 5)).astype("float32")
    y = rng.normal(size=(6, 1)).astype("float32")
    fit = {"batch_size": 2, "shuffle": False, "verbose": 0}
    settings = {"group_clipnorm": 1.0, "use_ema": True, "accumulation": "sum", **settings}

    whole = network()
    whole.compile(adam(**settings), loss="mse")
    whole.fit(x, y, **fit)
    whole.optimizer.learning_rate = RATE / 2
    path = str(tmp_path / ("model.keras" if how == "keras" else "model.weights.h5"))
    (whole.save if how == "keras" else whole.save_weights)(path)
    whole.fit(x, y, **fit)
    if how == "keras":
        resumed = keras.saving.load_model(path)
    else:
        resumed = network()
        resumed.compile(adam(**settings), loss="mse")
        resumed.optimizer.build(resumed.trainable_variables)
        resumed.load_weights(path)
    assert float(resumed.optimizer.learning_rate) == pytest.approx(RATE / 2)
    assert int(resumed.optimizer._iterations) == 3
    resumed.fit(x, y, **fit)
    assert_close(resumed, values(whole), atol=1e-7)


def test_a_pattern_that_fits_nothing_is_an_error():
    model = network()
    with pytest.raises(ValueError, match=r"first to match(?s:.)*'vision/'(?s:.)*audio/kernel"):
        GroupedAdam(groups={"vision/": {"multiplier": 1.0}}).build(model.trainable_variables)
    shadowed = {"kernel|bias": {"multiplier": 1.0}, "bert/": {"multiplier": 0.1}}
    with pytest.raises(ValueError, match=r"'bert/'"):
        GroupedAdam(groups=shadowed).build(model.trainable_variables)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"groups": {"a": {"lr": 1.0}}}, "among"),
        ({"groups": {"a": {"learning_rate": 1.0, "multiplier": 1.0}}}, "not both"),
        ({"groups": {"a": {"weight_decay": -1.0}}}, ">= 0"),
        ({"learning_rate": 0.0, "groups": {"a": {"learning_rate": 1.0}}}, "multiplier"),
        ({"learning_rate": lambda: 0.1, "groups": {"a": {"learning_rate": 1.0}}}, "multiplier"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"group_clipnorm": 1.0, "clipvalue": 1.0}, "At most one"),
        ({"accumulation": "total"}, "accumulation"),
    ],
)
@pytest.mark.once
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GroupedAdam(**kwargs)
