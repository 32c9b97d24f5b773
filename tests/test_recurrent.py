"""LSTM and GRU against `torch.nn` on packed sequences and against `keras.layers`."""

import inspect

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_m3s.layers.recurrent import GRU, LSTM

BACKEND = keras.backend.backend()
LAYERS = {"lstm": LSTM, "gru": GRU}
BATCH, STEPS, FEATURES, UNITS = 4, 7, 5, 3
LENGTHS = np.array([5, 1, 3, 5], "int32")  # the longest leaves two steps of padding for all


def numpy(x):
    return ops.convert_to_numpy(x)


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def gradients(function, arrays):
    """`[d function(*arrays) / d array]` as arrays, for a scalar function of tensors."""
    if BACKEND == "jax":
        import jax

        found = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        found = tape.gradient(value, tensors)
    else:
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        found = torch.autograd.grad(function(*tensors), tensors)
    return [numpy(x) for x in found]


def inner_gradients(function, tensors):
    """Gradients that are themselves differentiable, inside the function `gradients` is given."""
    if BACKEND == "jax":
        import jax

        return jax.grad(function, argnums=tuple(range(len(tensors))))(*tensors)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return tape.gradient(value, tensors)
    return torch.autograd.grad(function(*tensors), tensors, create_graph=True)


def weights_of(layer):
    return [numpy(weight) for weight in layer.weights]


def stateless(layer, weights, x, lengths=None):
    """The layer's outputs as a function of its weights."""
    mapping = list(zip(layer.weights, weights, strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        return layer(x, lengths=lengths)


def torch_arrays(name, direction):
    """A direction's weights as PyTorch names and orders them."""
    order = [1, 0, 2] if name == "gru" else [0, 1, 2, 3]

    def reorder(array):
        parts = np.split(array, len(order), axis=-1)
        return np.concatenate([parts[i] for i in order], axis=-1).T

    kernel, recurrent = numpy(direction.kernel), numpy(direction.recurrent_kernel)
    bias = numpy(direction.bias)
    if name == "lstm":
        second = direction.recurrent_bias
        bias = [bias, np.zeros_like(bias) if second is None else numpy(second)]
    return [reorder(array) for array in (kernel, recurrent, *bias)]


def torch_model(name, layer):
    model = getattr(torch.nn, name.upper())(
        FEATURES, layer.units, batch_first=True, bidirectional=layer.bidirectional
    )
    directions = [layer.forward_cell] + [layer.backward_cell] * layer.bidirectional
    arrays = [array for direction in directions for array in torch_arrays(name, direction)]
    with torch.no_grad():
        for weight, array in zip(model.parameters(), arrays, strict=True):
            weight.copy_(torch.tensor(array))
    return model


def torch_outputs(model, x, lengths):
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    outputs, state = model(packed)
    sequence, _ = torch.nn.utils.rnn.pad_packed_sequence(
        outputs, batch_first=True, total_length=x.shape[1]
    )
    h = state[0] if isinstance(state, tuple) else state
    return sequence, torch.cat(list(h), dim=-1)


def score(sequence, final, first, second):
    """A scalar with another gradient at every output, padding included."""
    return (sequence**2 * first).sum() + (final * second).sum() + (sequence * first).sum()


def built(name, bidirectional, **kwargs):
    layer = LAYERS[name](UNITS, bidirectional=bidirectional, **kwargs)
    layer.build((None, None, FEATURES))
    return layer


ALONE = pytest.param(False, marks=pytest.mark.once)
cases = pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
both_ways = pytest.mark.parametrize("bidirectional", [ALONE, True], ids=["one-way", "both-ways"])
kinds = pytest.mark.parametrize("name", ["lstm", "gru"])


@kinds
@cases
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_equals_torch(name, bidirectional, lengths):
    layer = built(name, bidirectional)
    x, wide = data(BATCH, STEPS, FEATURES), UNITS * (1 + bidirectional)
    first, second = data(BATCH, STEPS, wide, seed=1), data(BATCH, wide, seed=2)

    model = torch_model(name, layer)
    inputs = torch.tensor(x, requires_grad=True)
    true = np.full(BATCH, STEPS) if lengths is None else lengths
    expected = torch_outputs(model, inputs, true)
    score(*expected, torch.tensor(first), torch.tensor(second)).backward()

    for ours, theirs in zip(layer(x, lengths=lengths), expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs.detach().numpy(), atol=1e-5)

    def function(x, *weights):
        tensors = [ops.convert_to_tensor(y) for y in (first, second)]
        sequence, final = stateless(layer, weights, x, lengths)
        return ops.sum(sequence**2 * tensors[0] + sequence * tensors[0]) + ops.sum(
            final * tensors[1]
        )

    dx, *dweights = gradients(function, [x, *weights_of(layer)])
    np.testing.assert_allclose(dx, inputs.grad.numpy(), rtol=1e-4, atol=1e-5)
    carrier = built(name, bidirectional)
    carrier.set_weights(dweights)
    ours = torch_model(name, carrier).parameters()
    for mine, theirs in zip(ours, model.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


@kinds
@both_ways
def test_weights_are_those_of_keras_layers(name, bidirectional):
    options = {"recurrent_bias": False} if name == "lstm" else {}
    layer = built(name, bidirectional, **options)
    kind = getattr(keras.layers, name.upper())
    theirs = kind(UNITS, return_sequences=True)
    if bidirectional:
        theirs = keras.layers.Bidirectional(theirs)
    x = data(BATCH, STEPS, FEATURES)
    theirs(x)
    theirs.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(layer(x)[0]), numpy(theirs(x)), atol=1e-6)


@kinds
@both_ways
def test_padding_changes_no_number(name, bidirectional):
    layer = built(name, bidirectional)
    x = data(BATCH, STEPS, FEATURES)
    more = np.concatenate([x, data(BATCH, 50, FEATURES, seed=3)], axis=1)
    sequence, final = (numpy(y) for y in layer(x, lengths=LENGTHS))
    longer, same = (numpy(y) for y in layer(more, lengths=LENGTHS))
    np.testing.assert_allclose(same, final, atol=1e-6)
    np.testing.assert_allclose(longer[:, :STEPS], sequence, atol=1e-6)
    assert not longer[:, STEPS:].any()
    for row, length in enumerate(LENGTHS):
        alone, last = layer(x[row : row + 1, :length])
        np.testing.assert_allclose(sequence[row, :length], numpy(alone)[0], atol=1e-6)
        np.testing.assert_allclose(final[row], numpy(last)[0], atol=1e-6)
        assert not sequence[row, length:].any()


@kinds
@both_ways
def test_no_steps_give_zeros(name, bidirectional):
    layer = built(name, bidirectional)
    x = data(3, STEPS, FEATURES)
    sequence, final = (numpy(y) for y in layer(x, lengths=np.array([0, 1, 0], "int32")))
    assert not sequence[[0, 2]].any() and not final[[0, 2]].any()
    assert final[1].all()
    sequence, final = (numpy(y) for y in layer(x, lengths=np.zeros(3, "int32")))
    assert not sequence.any() and not final.any()
    sequence, final = (numpy(y) for y in layer(x[:, :1]))
    np.testing.assert_array_equal(sequence[:, 0], final)


def test_final_joins_last_forward_and_first_backward_state():
    layer = built("lstm", True)
    sequence, final = (numpy(y) for y in layer(data(BATCH, STEPS, FEATURES), lengths=LENGTHS))
    rows = np.arange(BATCH)
    np.testing.assert_array_equal(final[:, :UNITS], sequence[rows, LENGTHS - 1, :UNITS])
    np.testing.assert_array_equal(final[:, UNITS:], sequence[:, 0, UNITS:])


def squared_gradients(layer, lengths, with_inputs):
    """The squared norm of the gradients: its own gradient is of second order."""

    def function(*arrays):
        def inner(x, *weights):
            sequence, final = stateless(layer, weights, x, lengths)
            return ops.sum(sequence**2) + ops.sum(ops.tanh(final) ** 2)

        found = inner_gradients(inner, arrays)
        return sum(ops.sum(g**2) for g in found[0 if with_inputs else 1 :])

    return function


@kinds
@pytest.mark.parametrize(
    "lengths", [pytest.param(None, marks=pytest.mark.once), LENGTHS], ids=["full", "ragged"]
)
def test_second_order_equals_torch(name, lengths):
    """Both ways, which is one way twice."""
    layer = built(name, True)
    x = data(BATCH, STEPS, FEATURES)
    found = gradients(squared_gradients(layer, lengths, True), [x, *weights_of(layer)])

    model = torch_model(name, layer).double()
    inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    true = np.full(BATCH, STEPS) if lengths is None else lengths
    sequence, final = torch_outputs(model, inputs, true)
    loss = (sequence**2).sum() + (final.tanh() ** 2).sum()
    variables = [inputs, *model.parameters()]
    inner = torch.autograd.grad(loss, variables, create_graph=True)
    expected = torch.autograd.grad(sum((g**2).sum() for g in inner), variables)

    np.testing.assert_allclose(found[0], expected[0].numpy(), rtol=1e-3, atol=2e-4)
    carrier = built(name, True)
    carrier.set_weights(found[1:])
    ours = torch_model(name, carrier).parameters()
    for mine, theirs in zip(ours, expected[1:], strict=True):
        scale = np.abs(theirs.numpy()).max()
        np.testing.assert_allclose(mine.detach().numpy() / scale, theirs.numpy() / scale, atol=1e-5)


def test_gradient_of_length_zero_is_zero():
    layer = built("lstm", True)
    x = data(2, STEPS, FEATURES)
    lengths = np.array([0, 4], "int32")

    def function(x):
        sequence, final = layer(x, lengths=lengths)
        return ops.sum(sequence**2) + ops.sum(final)

    (dx,) = gradients(function, [x])
    assert not dx[0].any() and not dx[1, 4:].any() and dx[1, :4].all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles in the tests against torch")
def test_compiled_equals_eager():
    """First order both ways; second order one way, of which the other has nothing new."""
    import tensorflow as tf

    both, one = built("lstm", True), built("lstm", False)
    x = data(BATCH, STEPS, FEATURES)
    lengths = ops.convert_to_tensor(LENGTHS)

    def value(x, *weights):
        sequence, final = stateless(both, weights, x, lengths)
        return ops.sum(sequence**2) + ops.sum(final)

    for layer, function in ((both, value), (one, squared_gradients(one, lengths, True))):

        def run(*tensors, function=function):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            return tape.gradient(value, tensors)

        tensors = [tf.convert_to_tensor(array) for array in (x, *weights_of(layer))]
        expected = run(*tensors)
        compiled = tf.function(run, jit_compile=True)(*tensors)
        for ours, theirs in zip(compiled, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow leaves shapes open")
@pytest.mark.parametrize(("name", "xla"), [("lstm", False), ("gru", True)])
def test_unknown_batch_and_steps(name, xla):
    import tensorflow as tf

    layer = built(name, True)

    def value(x, lengths):
        with tf.GradientTape() as tape:
            tape.watch(x)
            sequence, final = layer(x, lengths=lengths)
            total = tf.reduce_sum(sequence**2) + tf.reduce_sum(final)
        return total, tape.gradient(total, x)

    signature = [tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None,), tf.int32)]
    run = tf.function(value, input_signature=signature, jit_compile=xla)
    for batch, steps in ((2, 3), (BATCH, STEPS)):
        x, lengths = data(batch, steps, FEATURES), np.minimum(LENGTHS[:batch], steps)
        for ours, theirs in zip(
            run(x, lengths), value(tf.constant(x), tf.constant(lengths)), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="`vmap` is JAX's")
@kinds
def test_replicas_by_vmap(name):
    import jax

    layer = built(name, True)
    x = data(3, BATCH, STEPS, FEATURES)
    lengths = np.stack([LENGTHS, LENGTHS - 1, np.minimum(LENGTHS, 2)])
    weights = [np.stack([w, 0.5 * w, -w]) for w in weights_of(layer)]

    def value(weights, x, lengths):
        sequence, final = stateless(layer, weights, x, lengths)
        return ops.sum(sequence**2) + ops.sum(final)

    found = jax.jit(jax.vmap(jax.grad(value)))(weights, x, lengths)
    for i in range(3):
        alone = jax.grad(value)([w[i] for w in weights], x[i], lengths[i])
        for ours, theirs in zip(found, alone, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), [("lstm", "bfloat16"), ("gru", "float16")])
def test_half_precision(name, dtype):
    layer = built(name, True, dtype=f"mixed_{dtype}")
    plain = built(name, True)
    plain.set_weights(layer.get_weights())
    x = data(BATCH, STEPS, FEATURES)
    results = layer(x, lengths=LENGTHS)
    for ours, theirs in zip(results, plain(x, lengths=LENGTHS), strict=True):
        assert keras.backend.standardize_dtype(ours.dtype) == dtype
        np.testing.assert_allclose(numpy(ops.cast(ours, "float32")), numpy(theirs), atol=0.03)

    def function(layer):
        def value(*weights):
            sequence, _ = stateless(layer, weights, x, LENGTHS)
            return ops.sum(ops.cast(sequence, "float32") ** 2)

        return gradients(value, weights_of(layer))

    for ours, theirs in zip(function(layer), function(plain), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=0.05 * np.abs(theirs).max())


@kinds
@both_ways
def test_shapes_are_known_without_a_step(name, bidirectional, monkeypatch):
    layer = built(name, bidirectional)
    inputs = {"inputs": keras.KerasTensor((None, 9, FEATURES)), "lengths": keras.KerasTensor((None,), "int32")}  # fmt: skip
    for method in ("_torch_kernel", "_loop"):
        monkeypatch.setattr(layer, method, None)
    wide = (2 if bidirectional else 1) * UNITS
    sequence, final = layer.compute_output_spec(**inputs)
    assert (sequence.shape, final.shape) == ((None, 9, wide), (None, wide))
    with pytest.raises(TypeError, match="not callable"):
        layer(data(BATCH, 9, FEATURES), lengths=LENGTHS)


@pytest.mark.parametrize("name", ["lstm", pytest.param("gru", marks=pytest.mark.once)])
def test_in_a_saved_model_that_was_fitted(name, tmp_path):
    inputs = {
        "x": keras.Input((None, FEATURES), name="x"),
        "lengths": keras.Input((), dtype="int32", name="lengths"),
    }
    layer = LAYERS[name](
        UNITS, bidirectional=True, recurrent_initializer="orthogonal", name="encoder"
    )
    sequence, final = layer(inputs["x"], lengths=inputs["lengths"])
    assert sequence.shape == (None, None, 2 * UNITS) and final.shape == (None, 2 * UNITS)
    model = keras.Model(inputs, keras.layers.Dense(1)(final))
    model.compile("adam", "mse")
    batch = {"x": data(8, STEPS, FEATURES), "lengths": np.arange(8, dtype="int32")}
    before = layer.get_weights()
    model.fit(batch, data(8, 1), batch_size=4, verbose=0)
    assert all((a != b).any() for a, b in zip(before, layer.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(batch, verbose=0), model.predict(batch, verbose=0))
    assert loaded.get_layer("encoder").get_config() == layer.get_config()


@pytest.mark.once
@kinds
def test_config_holds_every_argument(name):
    kind = LAYERS[name]
    arguments = [
        p for p in inspect.signature(kind.__init__).parameters if p not in ("self", "kwargs")
    ]
    values = {key: "orthogonal" for key in arguments if key.endswith("initializer")}
    values |= {"units": 2, "bidirectional": True}
    values |= {"recurrent_bias": False} if name == "lstm" else {}
    config = kind(**values).get_config()
    assert set(arguments) <= set(config)
    assert kind.from_config(config).get_config() == config


@pytest.mark.once
def test_names_and_shapes_of_weights():
    layer = LSTM(UNITS, bidirectional=True, name="rnn")
    layer.build((None, None, FEATURES))
    paths = {weight.path: weight.shape for weight in layer.weights}
    wide = 4 * UNITS
    expected = {
        "kernel": (FEATURES, wide),
        "recurrent_kernel": (UNITS, wide),
        "bias": (wide,),
        "recurrent_bias": (wide,),
    }
    assert paths == {
        f"rnn/{direction}/{weight}": shape
        for direction in ("forward_cell", "backward_cell")
        for weight, shape in expected.items()
    }


@pytest.mark.once
def test_initial_weights():
    layer = LSTM(16, bidirectional=True)
    layer.build((None, None, 9))
    for weight in layer.weights:
        values = numpy(weight)
        assert 0.2 < np.abs(values).max() <= 0.25
    assert (numpy(layer.forward_cell.bias) != numpy(layer.forward_cell.recurrent_bias)).all()
    assert (numpy(layer.forward_cell.kernel) != numpy(layer.backward_cell.kernel)).all()
    layer = LSTM(
        16, initializer="ones", recurrent_initializer="orthogonal", bias_initializer="zeros"
    )
    layer.build((None, None, 9))
    cell = layer.forward_cell
    recurrent = numpy(cell.recurrent_kernel)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(16), atol=1e-5)
    assert (numpy(cell.kernel) == 1).all() and not numpy(cell.bias).any()


def test_errors_say_what_arrived():
    layer = LSTM(UNITS)
    x = data(BATCH, STEPS, FEATURES)
    with pytest.raises(ValueError, match=r"`inputs` must be .*Received: shape=\(4, 7\)"):
        layer(x[:, :, 0])
    with pytest.raises(ValueError, match=r"`lengths` must be .*\(3,\) for inputs .*\(4, 7, 5\)"):
        layer(x, lengths=np.array([1, 2, 3], "int32"))
    with pytest.raises(ValueError, match=r"`lengths` must be .*\(4, 1\)"):
        layer(x, lengths=LENGTHS[:, None])
    with pytest.raises(ValueError, match=r"`units` must be .*units=0"):
        LSTM(0)
