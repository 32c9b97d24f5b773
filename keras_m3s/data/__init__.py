"""Data: data sets to splits, splits to batches, and what training on batches needs.

    splits = data.load("cmu_mosi", manual_dir="~/data/mosi")
    batches = data.Batches(splits["train"], 32, shuffle=True)

Names that need Keras are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_m3s.data.builders import inspect, label_lines, unlabelled
from keras_m3s.data.loading import load, prepare, prepare_own
from keras_m3s.data.missing_values import gaps, plot_gaps
from keras_m3s.data.split import SPLITS, Split, SplitLike
from keras_m3s.data.streaming import StreamedSplit, load_streamed

if TYPE_CHECKING:
    from keras_m3s.data.batches import Batches as Batches
    from keras_m3s.data.batches import as_tf_dataset as as_tf_dataset
    from keras_m3s.data.callbacks import NotFiniteError as NotFiniteError
    from keras_m3s.data.callbacks import SetEpoch as SetEpoch
    from keras_m3s.data.callbacks import StopNotFinite as StopNotFinite

_WITH_KERAS = {
    "Batches": "batches",
    "NotFiniteError": "callbacks",
    "SetEpoch": "callbacks",
    "StopNotFinite": "callbacks",
    "as_tf_dataset": "batches",
}
_MODULES = ("batches", "callbacks", "mmin_conditions")

__all__ = [
    "SPLITS",
    "Batches",
    "NotFiniteError",
    "SetEpoch",
    "Split",
    "SplitLike",
    "StopNotFinite",
    "StreamedSplit",
    "as_tf_dataset",
    "gaps",
    "inspect",
    "label_lines",
    "load",
    "load_streamed",
    "plot_gaps",
    "prepare",
    "prepare_own",
    "unlabelled",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _WITH_KERAS:
        return getattr(importlib.import_module(f"{__name__}.{_WITH_KERAS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
