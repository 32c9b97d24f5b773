"""LNLN and TFR-Net inside M3S: a step is that of Algorithm 1 on their own losses, worked out by hand.

Their losses read what the holes removed, in the inner steps and in the outer one, at both sites.
"""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import keras_m3s as m3s
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.models import LNLN, TFRNet
from tests.models import parity

pytestmark = pytest.mark.once

STEPS, ALPHA, BETA = 2, 1e-2, 0.1
WIDTHS = {"audio": (9, 3), "vision": (8, 4), "text": (7, 5)}
NO_DROPOUT = (
    *("text_dropout", "attention_dropout", "audio_attention_dropout", "vision_attention_dropout"),
    *("relu_dropout", "residual_dropout", "embedding_dropout", "fusion_dropout"),
)
MODELS: dict[str, Any] = {
    "lnln": lambda: LNLN(hidden_size=6, tokens=2, depth=1, heads=2, head_size=4),
    "tfr_net": lambda: TFRNet(
        hidden_size=4, heads=2, attention_layers=1, self_attention_layers=1, text_size=4,
        audio_size=4, vision_size=4, gru_layers=1, classifier_size=4,
        **dict.fromkeys(NO_DROPOUT, 0.0),
    ),
}  # fmt: skip


def numpy(tensor: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(tensor))


def rows(x: dict[str, Any], start: int) -> dict[str, Any]:
    return {name: value[start::2] for name, value in x.items()}


@pytest.mark.parametrize("site", ["raw", "encoded"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_worked_out_by_hand(name: str, site: str) -> None:
    rng = np.random.default_rng(0)
    x: dict[str, Any] = {m: rng.normal(size=(6, *s)).astype("float32") for m, s in WIDTHS.items()}
    y = rng.normal(size=(6, 1)).astype("float32")
    model = parity.built(MODELS[name](), x)
    x["draws"] = m3s.missing.fixed_draws(6, seed=0)
    missing = m3s.MissingModality(0.5, "time" if site == "raw" else "feature")
    plain = WithMissing(model, missing, site=site)
    plain.compile()
    weights = model.trainable_variables
    running = [v for v in model.non_trainable_variables if "moving" in v.path]
    assert bool(running) == (name == "tfr_net")
    theta, start = [numpy(v) for v in weights], [numpy(v) for v in running]

    terms = plain(rows(x, 0), training=True)
    found = {k: float(numpy(v)) for k, v in model.loss_terms(rows(x, 0), y[0::2], terms).items()}
    # At the site of the vectors the sequences have no holes, so TFR-Net has nothing to reconstruct.
    expected = name == "lnln" or site == "raw"
    assert all((value > 0) == expected for value in found.values()), found
    for variable, value in zip(running, start, strict=True):
        variable.assign(value)
    for _ in range(STEPS):
        gradients = parity.gradients(plain, rows(x, 0), y[0::2], weights)
        plain(rows(x, 0), training=True)  # the running statistics go through all passes
        for variable, gradient in zip(weights, gradients, strict=True):
            variable.assign(numpy(variable) - ALPHA * gradient)
    outer = parity.gradients(plain, rows(x, 1), y[1::2], weights)
    plain(rows(x, 1), training=True)
    statistics = [numpy(v) for v in running]
    stepped = [before - BETA * g for before, g in zip(theta, outer, strict=True)]
    for variables, values in ((weights, theta), (running, start)):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    meta = m3s.M3S(model, missing, STEPS, ALPHA, site=site)
    meta.compile(keras.optimizers.SGD(BETA))
    meta.train_on_batch(x, y)
    for variable, after in zip(weights, stepped, strict=True):
        np.testing.assert_allclose(numpy(variable), after, rtol=1e-5, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(theta, stepped, strict=True)) > 1e-3
    for variable, value in zip(running, statistics, strict=True):
        np.testing.assert_allclose(numpy(variable), value, rtol=1e-5, atol=1e-6)
