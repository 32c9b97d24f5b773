"""Saved models load after `import keras_m3s` alone, which imports neither Keras nor a framework.

Keras finds a saved object's class in its table of custom objects. Classes get there when their
modules are imported, which takes seconds and needs Keras. So when Keras is imported, a stand-in
goes into that table for each class; whoever asks one for anything has the modules imported, and the
classes take the place of the stand-ins.
"""

import importlib
from typing import Any

import wrapt

CLASSES: tuple[str, ...] = (
    "Adam",
    "BatchNorm",
    "CPC",
    "Consistency",
    "DecoupledAdam",
    "Dropout",
    "GRU",
    "GradientReversal",
    "GroupedAdam",
    "HoldingAdam",
    "InnerRates",
    "LSTM",
    "LNLN",
    "Linear",
    "M3S",
    "MISA",
    "MMILB",
    "MMIM",
    "MMIN",
    "MetaModel",
    "MissingModality",
    "PearsonCorrelation",
    "RunningSumAdam",
    "SGD",
    "SelfMM",
    "SentimentAccuracy",
    "SentimentF1",
    "SevenClassAccuracy",
    "SpanDropout",
    "StackedRecurrence",
    "TFRNet",
    "TextStates",
    "TransformerEncoderLayer",
    "UnweightedAverageRecall",
    "UttFusion",
    "WeightedF1",
    "WithMissing",
    "WithSpanLayer",
    "XavierNormal",
)
"""Names under which classes are registered, without the package."""

MODULES: tuple[str, ...] = (
    "keras_m3s.models",
    "keras_m3s.meta.m3s",
    "keras_m3s.metrics",
    "keras_m3s.experiments.span_layer",
)
"""Modules whose import registers all of them."""


class _StandIn:
    """Takes a class's place among the custom objects until it is asked for something."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _load(self) -> Any:
        import keras

        for module in MODULES:
            importlib.import_module(module)
        return keras.saving.get_custom_objects()[self._name]

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # what Python itself looks for, as in `copy`
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._load()(*arguments, **keywords)


@wrapt.when_imported("keras")
def register(keras: Any) -> None:
    """Puts the stand-ins into Keras' table; called when Keras is imported, or at once if it is."""
    objects = keras.saving.get_custom_objects()
    for name in CLASSES:
        registered = f"keras_m3s>{name}"
        objects.setdefault(registered, _StandIn(registered))
