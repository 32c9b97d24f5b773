"""keras-m3s: multimodal Keras models that hold up when parts of their input are missing.

>>> import keras_m3s as m3s
>>> model = m3s.M3S(m3s.models.MISA(), missing=m3s.MissingModality((0.4, 0.6), seed=0))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_m3s import models as models
    from keras_m3s.experiments.replicas import fit_replicas as fit_replicas
    from keras_m3s.meta.m3s import M3S as M3S
    from keras_m3s.meta.meta_model import MetaModel as MetaModel
    from keras_m3s.meta.with_missing import WithMissing as WithMissing
    from keras_m3s.missing import MissingModality as MissingModality

__version__ = "0.1.0"

# Keras takes seconds to import; `keras-m3s --help` must not wait for it.
_WHERE = {
    "M3S": "keras_m3s.meta.m3s",
    "MetaModel": "keras_m3s.meta.meta_model",
    "MissingModality": "keras_m3s.missing",
    "WithMissing": "keras_m3s.meta.with_missing",
    "fit_replicas": "keras_m3s.experiments.replicas",
}
_MODULES = ("data", "features", "losses", "metrics", "missing", "models", "optimizers", "stream")

__all__ = ["M3S", "MetaModel", "MissingModality", "WithMissing", "fit_replicas", "models"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_m3s.{name}")
    raise AttributeError(f"module 'keras_m3s' has no attribute {name!r}")
