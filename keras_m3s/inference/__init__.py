"""Inference with trained runs: predictions of new clips, and models exported for other programs.

    run = RunDirectory("runs/mine-misa-m3s-seed0-0123456789")
    model = inference.RunModel(run)
    for row in inference.predictions.rows(model, data.unlabelled("clips.npz")):
        print(row["id"], row["prediction"])
    inference.export.export(run, "onnx")

Names are imported on first use, since they need Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_m3s.inference import clips as clips
    from keras_m3s.inference import export as export
    from keras_m3s.inference import formats as formats
    from keras_m3s.inference import predictions as predictions
    from keras_m3s.inference import trained_model as trained_model
    from keras_m3s.inference.trained_model import RunModel as RunModel

_MODULES = ("clips", "export", "formats", "predictions", "trained_model")

__all__ = ["RunModel", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "RunModel":
        return importlib.import_module(f"{__name__}.trained_model").RunModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
