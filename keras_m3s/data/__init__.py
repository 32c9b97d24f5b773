"""Data sets to splits, splits to batches. Keras is imported with what needs it."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_m3s.data.builders import inspect, label_lines, unlabelled
from keras_m3s.data.loading import load, prepare, prepare_own
from keras_m3s.data.split import SPLITS, Split, SplitLike

if TYPE_CHECKING:
    from keras_m3s.data.batches import Batches as Batches
    from keras_m3s.data.batches import as_tf_dataset as as_tf_dataset
    from keras_m3s.data.callbacks import SetEpoch as SetEpoch
    from keras_m3s.data.callbacks import StopNotFinite as StopNotFinite

_WITH_KERAS = {
    "Batches": "batches",
    "SetEpoch": "callbacks",
    "StopNotFinite": "callbacks",
    "as_tf_dataset": "batches",
}

__all__ = [
    "SPLITS",
    "Batches",
    "SetEpoch",
    "Split",
    "SplitLike",
    "StopNotFinite",
    "as_tf_dataset",
    "inspect",
    "label_lines",
    "load",
    "prepare",
    "prepare_own",
    "unlabelled",
]


def __getattr__(name: str) -> Any:
    if name not in _WITH_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WITH_KERAS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
