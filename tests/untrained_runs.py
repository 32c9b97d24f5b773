"""Run directories that predict: the models as they are born, built on the tiny generated data."""

import dataclasses

import numpy as np

from keras_m3s import data
from keras_m3s.experiments.build import build, fixed_batches
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.registry import models
from tests.models import parity

SMALL = {
    "misa": {"hidden_size": 8, "transformer_size": 16},
    "mmim": {},
    "self_mm": {},
    "mmin": {"audio_size": 4, "vision_size": 4, "text_size": 4, "text_channels": 3,
             "classifier_layers": [5], "autoencoder_layers": [6, 4], "n_blocks": 2},
    "lnln": {"hidden_size": 8, "tokens": 2, "depth": 1, "heads": 2, "head_size": 4},
    "tfr_net": {"hidden_size": 4, "heads": 2, "attention_layers": 1, "self_attention_layers": 1,
                "text_size": 4, "audio_size": 4, "vision_size": 4, "gru_layers": 1, "classifier_size": 4},
}  # fmt: skip
assert set(SMALL) == set(models.CARDS)


def make(folder, model):
    """A run directory of `model`, and the splits that it is for."""
    return of(folder, model, data.load("synthetic_msa", folder / "data", config="tiny"))


def without(splits, modalities):
    """The same segments without some modalities, as data that lacks them is read."""
    stand_ins = {m: np.zeros((1, 1), "float32") for m in modalities}
    lengths = {f"{m}_length": np.int32(0) for m in modalities}

    def lacking(split):
        values = {**stand_ins, **lengths}
        repeated = {key: np.stack([value] * len(split)) for key, value in values.items()}
        return dataclasses.replace(split, features={**split.features, **repeated})

    return {name: lacking(split) for name, split in splits.items()}


def of(folder, model, splits):
    """As `make`, for splits that are there."""
    if model == "mmin":
        splits = {
            name: dataclasses.replace(split, labels=(split.labels > 0).astype("int32"))
            for name, split in splits.items()
        }
    experiment = Experiment.of(
        "synthetic_msa/tiny", model, "spl-trn", batch_size=8, model_arguments=SMALL[model]
    )
    run = RunDirectory(folder / model)
    run.start(experiment)
    outer = build(experiment, splits["train"])
    parity.built(outer, fixed_batches(experiment, splits["test"], 0)[0][0])
    with run.writing("best.keras") as path:
        outer.save(path, overwrite=True)
    return run, splits
