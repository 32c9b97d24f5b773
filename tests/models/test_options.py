"""Options of the meta step and of consistency on every base model, several at a time.

On PyTorch all of them, but for the two models that take longest. Elsewhere each model has one of the
combinations, and on JAX, where a step takes long to compile, it is traced and not run: that each
option computes what it says, on every backend, is tested on small models in `tests/meta`.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta.consistency import Consistency
from keras_m3s.utils import keras_private
from keras_m3s.utils.backend import set_random_seed
from tests.test_contract import COMPILED, EAGERLY, ROWS, SMALL, batch

LAYERS = {
    "misa": "fusion",
    "mmim": "fusion_1",
    "self_mm": "fusion_head",
    "mmin": "logits",
    "lnln": "multimodal",
    "tfr_net": "vision_text",
}
"""Of each model, a layer whose output is compared."""

TWO_DRAWS = {"consistency": 1.0, "same_rows": True}
LONG = ("lnln", "tfr_net")

OPTIONS = {
    "both": {"outer": "both", **TWO_DRAWS, "inner_optimizer": "adam", "learn_inner_rates": True},
    "every_step": {"outer": "every_step", "inner_steps": 2},
    "reptile": {"outer": "reptile", "teacher": "average"},
}

assert set(LAYERS) == set(SMALL)


def wrapped(name, options):
    set_random_seed(0)
    if "consistency" not in options and "teacher" not in options:
        compared = Consistency(layer=LAYERS[name], teacher="complete")
        options = {**options, "consistency": compared}
    missing = m3s.MissingModality((0.3, 0.7), seed=0)
    # The rates of what is not trained cannot be learned, and MMIM trains `mi_*` by itself.
    arguments = {"mi_gradients": True} if name == "mmim" else {}
    outer = m3s.M3S(SMALL[name](**arguments), missing, inner_learning_rate=1e-3, **options)
    optimizer = keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5)
    outer.compile(optimizer, run_eagerly=EAGERLY)
    return outer


def everything(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", SMALL)
def test_a_step_saved_and_gone_on_with(name, options, tmp_path):
    if (COMPILED or name in LONG) and list(OPTIONS).index(options) != list(SMALL).index(name) % len(
        OPTIONS
    ):
        pytest.skip("this model has another combination")
    x, y = batch(name)
    outer = wrapped(name, OPTIONS[options])
    if keras.backend.backend() == "jax":
        traced(outer, x, y)
        return
    outer(x)
    outer.optimizer.build(outer.trainable_variables)
    before = [np.array(ops.convert_to_numpy(v)) for v in outer.trainable_variables]
    logs = outer.train_on_batch(x, y, return_dict=True)
    assert set(logs) >= {"loss", "adapted_loss", "consistency"}
    assert np.isfinite([float(value) for value in logs.values()]).all()
    after = [np.array(ops.convert_to_numpy(v)) for v in outer.trainable_variables]
    moved = {v.path for v, a, b in zip(outer.trainable_variables, before, after, strict=True) if (a != b).any()}  # fmt: skip
    rates = {path for path in moved if "inner_rates" in path}
    assert bool(rates) == OPTIONS[options].get("learn_inner_rates", False)
    assert len(moved - rates) > 4

    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = EAGERLY
    holed = {**x, "draws": m3s.missing.fixed_draws(ROWS, seed=1)}
    np.testing.assert_array_equal(loaded.predict_on_batch(holed), outer.predict_on_batch(holed))
    for model in (outer, loaded):
        model.reset_metrics()
        model.train_on_batch(x, y)
    for a, b in zip(everything(outer), everything(loaded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_rates_of_what_ceases_to_be_trained_are_refused():
    """MMIM makes `mi_*` trainable, for TensorFlow's sake, and then not: it trains them otherwise."""
    x, y = batch("mmim")
    missing = m3s.MissingModality((0.3, 0.7), seed=0)
    outer = m3s.M3S(SMALL["mmim"](), missing, learn_inner_rates=True)
    outer.compile("sgd")
    with pytest.raises(ValueError, match="Received: 44 then, 24 now.*for MMIM `mi_gradients=True`"):
        outer.train_on_batch(x, y)


def traced(outer, x, y):
    """The step's types: logs that are scalars, and a state as it was, which another can follow."""
    import jax

    keras_private.symbolic_build(outer, (x, y))
    state = outer._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    logs, after = jax.eval_shape(outer.train_step, state, (x, y))
    assert set(logs) >= {"loss", "adapted_loss", "consistency"}
    assert all(value.shape == () for value in logs.values())
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
