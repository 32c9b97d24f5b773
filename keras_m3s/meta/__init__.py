"""Meta-training of any Keras model: `WithMissing`, `MetaModel`, `M3S` and other gradients."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_m3s.meta import consistency as consistency
    from keras_m3s.meta import inner_optimizers as inner_optimizers
    from keras_m3s.meta import m3s as m3s
    from keras_m3s.meta import maml as maml
    from keras_m3s.meta import maml_plus_plus as maml_plus_plus
    from keras_m3s.meta import meta_model as meta_model
    from keras_m3s.meta import mldg as mldg
    from keras_m3s.meta import reptile as reptile
    from keras_m3s.meta import with_missing as with_missing

_MODULES = (
    "consistency",
    "inner_optimizers",
    "m3s",
    "maml",
    "maml_plus_plus",
    "meta_model",
    "mldg",
    "reptile",
    "with_missing",
)


def __getattr__(name: str) -> Any:
    """Imports on first use: Keras takes seconds to import."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(_MODULES)
