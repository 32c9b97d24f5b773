"""What tab completion and the reference show of the classes that users meet is what users call."""

import keras
import pytest

import keras_m3s as m3s

WRAPPED = {"compile", "evaluate", "export", "fit", "predict", "quantize"}
WRAPPER = {"consistency", "missing", "model", "site"}
OF_CLASS = {"adapt", "inner_rates"}
INNER = {
    *OF_CLASS,
    *("first_order", "inner_learning_rate", "inner_optimizer", "inner_steps", "learn_inner_rates"),
    *("outer", "same_rows", "support_missing", "tasks"),
}

# class: (names it adds to Keras' class, names it adds to an instance, methods with a docstring)
PUBLIC = {
    m3s.WithMissing: (set(), WRAPPER, WRAPPED),
    m3s.MetaModel: (OF_CLASS, WRAPPER | INNER, {*OF_CLASS, "fit"}),
    m3s.M3S: (OF_CLASS, WRAPPER | INNER, set()),
}
LAYER = {"adapt", "missing_rate", "modalities", "sample_draws", "share_fill"}


def public(names):
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("kind", PUBLIC)
def test_models_show_what_users_call(kind):
    of_class, of_instance, documented = PUBLIC[kind]
    assert public(dir(kind)) - set(dir(keras.Model)) == of_class
    made = kind(keras.Sequential([keras.layers.Dense(1)]))
    assert public(dir(made)) - set(dir(keras.Model())) == of_instance
    # The reference shows what has a docstring of its own.
    own = {name for name, value in vars(kind).items() if getattr(value, "__doc__", None)}
    assert public(own) == documented


@pytest.mark.once
def test_the_layer_shows_what_users_call():
    assert public(dir(m3s.MissingModality)) - set(dir(keras.layers.Layer)) == LAYER
