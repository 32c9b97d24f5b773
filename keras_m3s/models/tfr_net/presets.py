"""Published arguments and training settings of TFR-Net by data set.

Reference: config/config_regression.py of thuiar/TFR-Net 00f06a6; for `*_mmsa`,
src/MMSA/config/config_regression.json of thuiar/MMSA a94e65d.
"""

from typing import Any

_SIMS = {
    "attention_layers": 2,
    "relu_dropout": 0.0,
    "embedding_dropout": 0.1,
    "classifier_dropout": 0.1,
    "text_weight": 1.0,
    "audio_weight": 0.01,
    "vision_weight": 1e-4,
}
PRESETS: dict[str, dict[str, Any]] = {
    "mosi": {},
    "sims": _SIMS,
    "mosi_mmsa": {"similarity_weight": 5.0},
    "mosei_mmsa": {
        "similarity_weight": 5.0,
        "text_weight": 5e-6,
        "audio_weight": 2e-6,
        "vision_weight": 2e-5,
    },
    "sims_mmsa": {**_SIMS, "similarity_weight": 5.0},
}
"""Published arguments that differ from the defaults: TFR-Net's two data sets, MMSA's three."""

TRAINING: dict[str, tuple[float, float, int]] = {
    "mosi": (2e-3, 1e-5, 5),
    "sims": (2e-3, 1e-5, 10),
    "mosi_mmsa": (1e-3, 2e-6, 5),
    "mosei_mmsa": (2e-3, 1e-5, 5),
    "sims_mmsa": (2e-3, 1e-5, 10),
}
"""Published learning rate, that of the BERT, and epochs before the rate falls."""
