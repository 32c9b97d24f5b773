"""Small forms of the models, and data of classes, for tests of whole runs."""

import dataclasses

import numpy as np

from keras_m3s.experiments.config import Experiment

SMALL = {
    "misa": {"hidden_size": 4, "transformer_size": 8},
    "mmim": {"hidden_size": 8, "audio_hidden_size": 4, "vision_hidden_size": 4, "audio_size": 4, "vision_size": 4},
    "self_mm": {
        "audio_hidden_size": 4, "vision_hidden_size": 4, "audio_size": 4, "vision_size": 4,
        "post_fusion_size": 8, "post_text_size": 8, "post_audio_size": 4, "post_vision_size": 4,
    },
    "mmin": {
        "audio_size": 4, "vision_size": 4, "text_size": 4, "text_channels": 4,
        "classifier_layers": [4], "autoencoder_layers": [8, 4], "n_blocks": 2,
    },
    "lnln": {"hidden_size": 4, "tokens": 2, "depth": 1, "heads": 1, "head_size": 4},
    "tfr_net": {
        "hidden_size": 4, "heads": 1, "attention_layers": 1, "self_attention_layers": 1, "text_size": 4,
        "audio_size": 4, "vision_size": 4, "gru_layers": 1, "classifier_size": 4,
    },
}  # fmt: skip


def small(model, method="m3s", **overrides):
    """An experiment of a few seconds on `synthetic_msa/tiny`."""
    values = {"epochs": 4, "batch_size": 8, "model_arguments": SMALL[model]}
    if model == "mmin":
        values["first_stage_epochs"] = 2
    if model == "self_mm":
        values["batch_size"] = 4  # 6 batches an epoch: a step of 4, and 2 left over
    return Experiment.of("synthetic_msa/tiny", model, method, **{**values, **overrides})


def classes(splits):
    """The same segments with three classes for labels: negative, neutral, positive."""
    return {
        name: dataclasses.replace(split, labels=(np.digitize(split.labels, [-0.7, 0.7])).astype("int32"))
        for name, split in splits.items()
    }  # fmt: skip


def fitting(splits, model):
    return classes(splits) if model == "mmin" else splits
