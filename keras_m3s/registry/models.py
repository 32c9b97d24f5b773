"""The base models by name: their published settings and what studies take of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_m3s.registry import require


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A base model.

    Attributes:
        title: As reports print it.
        model: Import path of its class, a `keras_m3s.models.BaseModel`.
        dataset: Data set that studies train it on, that of its rows in Table 2 of the paper if it
            has any; `None` for no studies.
        settings: Fields of an `Experiment` as published: section 4.4 of the paper, else the model's
            own training script.
        bert_inner_learning_rate: alpha of a BERT inside the model; `None` for that of the rest.
        quick_settings: Fields of an `Experiment` for small and short runs (`reproduce --quick`).
        selects_on: What the published script reads to choose the epoch it reports: `"validation"`,
            `"test"`, or `"validation and test"`. Here validation decides, unless asked otherwise.
        in_paper: Whether the paper has results of it.
        studies: The paper's tables and figures that have runs of it, beside Tables 2 and 5.
        both_tasks: Whether it predicts classes or scores, whichever the labels are, and not only
            what `dataset` has.
        seconds: Of 1000 rows, a gradient each, and validation: a guess, of one core and no BERT.
    """

    title: str
    model: str
    dataset: str | None
    settings: Mapping[str, Any]
    bert_inner_learning_rate: float | None = None
    quick_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    selects_on: str = "validation"
    in_paper: bool = True
    studies: tuple[str, ...] = ()
    both_tasks: bool = False
    seconds: float = 4.0


CARDS: dict[str, ModelCard] = {
    # Section 4.4 gives {alpha, beta, batch_size} and epochs. Self-MM has one alpha per modality
    # {A, V, L} and stops early, with the published patience; that of text, 5e-5, is its BERT's, and
    # its heads have the published 1e-3. MISA stops when nothing has come for 30 of its 500 epochs:
    # the best of validation counts in any case.
    "self_mm": ModelCard(
        title="Self-MM",
        model="keras_m3s.models.self_mm:SelfMM",
        dataset="ch_sims",
        settings={
            "inner_learning_rate": {"audio_encoder/": 5e-3, "vision_encoder/": 5e-3, "": 1e-3},
            "learning_rate": None,
            "batch_size": 32,
            "epochs": 200,
            "patience": 8,
        },
        bert_inner_learning_rate=5e-5,
        quick_settings={
            "learning_rate": None,  # a rate for each group
            "batch_size": 16,  # a step takes 4 batches
            "model_arguments": {
                "audio_hidden_size": 8,
                "vision_hidden_size": 8,
                "audio_size": 8,
                "vision_size": 8,
                "post_fusion_size": 16,
                "post_text_size": 16,
                "post_audio_size": 8,
                "post_vision_size": 8,
            },
        },
        seconds=3.0,
    ),
    "mmin": ModelCard(
        title="MMIN",
        model="keras_m3s.models.mmin:MMIN",
        dataset="iemocap",
        settings={
            "inner_learning_rate": 2e-4,
            "learning_rate": 1e-4,
            "batch_size": 256,
            "epochs": 60,
            # The teacher's, published with the script that has the paper's batch size and epochs.
            "first_stage_epochs": 20,
        },
        quick_settings={
            "first_stage_epochs": 2,
            "model_arguments": {
                "audio_size": 8,
                "vision_size": 8,
                "text_size": 8,
                "text_channels": 8,
                "classifier_layers": [8],
                "autoencoder_layers": [16, 8],
                "n_blocks": 2,
            },
        },
        selects_on="test",
        both_tasks=True,
        studies=("table3", "table4", "figure1", "figure4"),
        seconds=5.0,
    ),
    "misa": ModelCard(
        title="MISA",
        model="keras_m3s.models.misa:MISA",
        dataset="cmu_mosi",
        settings={
            "inner_learning_rate": 1e-4,
            "learning_rate": 1e-4,
            "batch_size": 128,
            "epochs": 500,
            "patience": 30,
        },
        quick_settings={"model_arguments": {"hidden_size": 8, "transformer_size": 16}},
        both_tasks=True,
        seconds=3.0,
    ),
    "mmim": ModelCard(
        title="MMIM",
        model="keras_m3s.models.mmim:MMIM",
        dataset="cmu_mosi",
        settings={
            # Stage 0 alone trains `mi_*`.
            "inner_learning_rate": {"/mi_": 0.0, "": 1e-3},
            "learning_rate": 1e-3,
            "batch_size": 32,
            "epochs": 40,
        },
        quick_settings={
            "model_arguments": {
                "hidden_size": 16,
                "audio_hidden_size": 8,
                "vision_hidden_size": 8,
                "audio_size": 8,
                "vision_size": 8,
            }
        },
        selects_on="validation and test",
        studies=("table3", "table4", "figure3"),
        seconds=4.0,
    ),
    # Made for input with missing parts, and not in the paper: alpha is MISA's. TFR-Net's script has
    # no limit of epochs; its patience ends it long before this one.
    "lnln": ModelCard(
        title="LNLN",
        model="keras_m3s.models.lnln:LNLN",
        dataset="cmu_mosi",
        settings={
            "inner_learning_rate": 1e-4,
            "learning_rate": 1e-4,
            "batch_size": 64,
            "epochs": 200,
        },
        quick_settings={
            # At least 3 epochs: in the first the rate is 0.
            "model_arguments": {
                "hidden_size": 16,
                "tokens": 4,
                "depth": 1,
                "heads": 2,
                "head_size": 8,
            },
        },
        selects_on="test",
        in_paper=False,
        seconds=40.0,
    ),
    "tfr_net": ModelCard(
        title="TFR-Net",
        model="keras_m3s.models.tfr_net:TFRNet",
        dataset="cmu_mosi",
        settings={
            "inner_learning_rate": {"": 1e-4},
            "learning_rate": 2e-3,
            "batch_size": 24,
            "epochs": 100,
            "patience": 6,
        },
        bert_inner_learning_rate=1e-5,
        quick_settings={
            "learning_rate": 2e-3,
            "model_arguments": {
                "hidden_size": 8,
                "heads": 2,
                "attention_layers": 1,
                "self_attention_layers": 1,
                "text_size": 8,
                "audio_size": 8,
                "vision_size": 8,
                "gru_layers": 1,
                "classifier_size": 16,
            },
        },
        in_paper=False,
        seconds=40.0,
    ),
}
"""In the order of the paper's Table 2, then those that are not in it."""

OWN = ModelCard(
    title="a model of one's own",
    model="keras_m3s.experiments.own_model:build",
    dataset=None,
    settings={
        "inner_learning_rate": 1e-2,
        "learning_rate": None,  # its own optimizer's, else that of `keras_m3s.models.hooks`
        "batch_size": 32,
        "epochs": 50,
        "patience": 10,
        "fill": "mean",
    },
)
"""Of all models that a function in the user's code makes, `file.py:function`."""


def is_own(name: str) -> bool:
    """Whether a model is named by a function in the user's code, instead of by a card."""
    return ":" in name


def find(name: str) -> ModelCard:
    """The card of a model; `OWN` for one of the user's own.

    Raises:
        ValueError: There is none.
    """
    if is_own(name):
        return OWN
    require("model", name, CARDS)
    return CARDS[name]


def in_study(name: str) -> tuple[str, ...]:
    """Models of one of the paper's tables or figures beside Tables 2 and 5."""
    return tuple(model for model, card in CARDS.items() if name in card.studies)
