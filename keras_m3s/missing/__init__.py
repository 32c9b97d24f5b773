"""Missing modalities: patterns of missingness, random draws, the transform and its layer."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_m3s.missing import layer as layer
    from keras_m3s.missing import patterns as patterns
    from keras_m3s.missing import schedule as schedule
    from keras_m3s.missing import transform as transform
    from keras_m3s.missing import value_patterns as value_patterns
    from keras_m3s.missing.layer import MissingModality as MissingModality
    from keras_m3s.missing.patterns import MMIN_CONDITIONS as MMIN_CONDITIONS
    from keras_m3s.missing.schedule import MissingRateSchedule as MissingRateSchedule
    from keras_m3s.missing.transform import apply as apply
    from keras_m3s.missing.transform import fixed_draws as fixed_draws
    from keras_m3s.missing.transform import sample_draws as sample_draws

_WHERE = {
    "MMIN_CONDITIONS": "patterns",
    "MissingModality": "layer",
    "MissingRateSchedule": "schedule",
    "apply": "transform",
    "fixed_draws": "transform",
    "sample_draws": "transform",
}

_MODULES = ("layer", "patterns", "schedule", "transform", "value_patterns")

__all__ = sorted((*_WHERE, *_MODULES))


def __getattr__(name: str) -> Any:
    """Imports on first use: Keras takes seconds to import."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
