"""The README's picture: what a plain model, one with random holes and M3S withstand on HAR.

python docs/examples/har_robustness.py har.npz docs/pictures/har.png

`har.npz` has windows of four inertial sensors, split by subject, as `keras-m3s prepare --from`
takes them. All models take as many steps; one of M3S has the gradients of two batches.
"""

import dataclasses
import sys

import keras
import numpy as np
from har import build

import keras_m3s as m3s
from keras_m3s.experiments.spec import Spec, spec_of

SEEDS, EPOCHS, BATCH, CLASSES = range(5), 40, 32, 5
RATES = (0.0, 0.2, 0.4, 0.6, 0.8)
KINDS = ("plain", "random holes", "M3S")


def main(data: str, picture: str) -> None:
    splits = m3s.data.load(data)
    spec = spec_of(splits["train"], CLASSES)
    arrays = {name: (_standardised(one, spec), one.labels) for name, one in splits.items()}
    models = {kind: [_trained(kind, seed, _unit(spec), arrays) for seed in SEEDS] for kind in KINDS}
    found = m3s.compare(models, *arrays["test"], rates=RATES, draws=5, absent=False)
    print(found)
    found.plot(picture)


def _standardised(split: m3s.data.Split, spec: Spec) -> dict[str, np.ndarray]:
    """Sensors with mean 0 and variance 1 in training, so that a hole of zeros is the mean."""
    scale = {name: np.sqrt(variance) for name, variance in spec.variance.items()}
    return {n: (split.features[n] - spec.mean[n]) / scale[n] for n in split.modalities}


def _unit(spec: Spec) -> Spec:
    """The same data, standardised."""
    zeros = {name: np.zeros_like(values) for name, values in spec.mean.items()}
    ones = {name: np.ones_like(values) for name, values in spec.variance.items()}
    return dataclasses.replace(spec, mean=zeros, variance=ones)


def _trained(
    kind: str, seed: int, spec: Spec, arrays: dict[str, tuple[dict[str, np.ndarray], np.ndarray]]
) -> keras.Model:
    """A model trained from a seed, of the epoch that is best on validation data."""
    keras.utils.set_random_seed(seed)
    model = build(spec)
    valid, labels = arrays["valid"]
    if kind != KINDS[0]:
        holes = m3s.MissingModality((0.0, 0.8), pattern={"span": 0.7, "modality": 0.3}, seed=seed)
        valid = {**valid, "draws": m3s.missing.fixed_draws(len(labels), len(valid), seed=0)}
        if kind == KINDS[1]:
            model = m3s.WithMissing(model, holes)
        else:
            model = m3s.M3S(model, holes, inner_learning_rate=1e-2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    best = keras.callbacks.EarlyStopping(
        "val_loss", patience=EPOCHS, restore_best_weights=True, mode="min"
    )
    model.fit(
        *arrays["train"],
        batch_size=2 * BATCH if kind == KINDS[2] else BATCH,
        epochs=EPOCHS * (2 if kind == KINDS[2] else 1),
        validation_data=(valid, labels),
        callbacks=[best],
        verbose=0,
    )
    print(kind, seed, flush=True)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:])
