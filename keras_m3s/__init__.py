"""keras-m3s: multimodal Keras models that hold up when parts of their input are missing.

>>> import keras_m3s as m3s
>>> model = m3s.M3S(m3s.models.MISA(), missing=m3s.MissingModality((0.4, 0.6), seed=0))
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_m3s.utils import lazy_registration  # noqa: F401  # for `load_model`

if TYPE_CHECKING:
    from keras_m3s import data as data
    from keras_m3s import evaluation as evaluation
    from keras_m3s import experiments as experiments
    from keras_m3s import features as features
    from keras_m3s import inference as inference
    from keras_m3s import layers as layers
    from keras_m3s import losses as losses
    from keras_m3s import meta as meta
    from keras_m3s import metrics as metrics
    from keras_m3s import missing as missing
    from keras_m3s import models as models
    from keras_m3s import optimizers as optimizers
    from keras_m3s import registry as registry
    from keras_m3s import report as report
    from keras_m3s import study as study
    from keras_m3s.evaluation.callback import RobustnessCallback as RobustnessCallback
    from keras_m3s.evaluation.compare import compare as compare
    from keras_m3s.evaluation.robustness import robustness as robustness
    from keras_m3s.experiments.replicas import fit_replicas as fit_replicas
    from keras_m3s.meta.m3s import M3S as M3S
    from keras_m3s.meta.meta_model import MetaModel as MetaModel
    from keras_m3s.meta.with_missing import WithMissing as WithMissing
    from keras_m3s.meta.with_missing import strip as strip
    from keras_m3s.missing.layer import MissingModality as MissingModality
    from keras_m3s.missing.schedule import MissingRateSchedule as MissingRateSchedule

__version__ = "0.1.0"

# Keras takes seconds to import; `keras-m3s --help` must not wait for it.
_CLASSES = {
    "M3S": "keras_m3s.meta.m3s",
    "MetaModel": "keras_m3s.meta.meta_model",
    "MissingModality": "keras_m3s.missing.layer",
    "MissingRateSchedule": "keras_m3s.missing.schedule",
    "RobustnessCallback": "keras_m3s.evaluation.callback",
    "WithMissing": "keras_m3s.meta.with_missing",
    "compare": "keras_m3s.evaluation.compare",
    "fit_replicas": "keras_m3s.experiments.replicas",
    "robustness": "keras_m3s.evaluation.robustness",
    "strip": "keras_m3s.meta.with_missing",
}
_MODULES = (
    "data",
    "evaluation",
    "experiments",
    "features",
    "inference",
    "layers",
    "losses",
    "meta",
    "metrics",
    "missing",
    "models",
    "optimizers",
    "registry",
    "report",
    "study",
)

__all__ = sorted((*_CLASSES, *_MODULES))


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_m3s.{name}")
    raise AttributeError(f"module 'keras_m3s' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
