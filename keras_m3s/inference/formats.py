"""Formats of exported models and of predictions. Imports no Keras, so the command can read it."""

import dataclasses
import importlib.util


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A format that models are exported to.

    Attributes:
        backend: Keras backend that writes it.
        filename: Default name of the file or folder.
        packages: Modules that writing and checking it import.
        writer: Import path `module:name` of a function `(model, signature, path)` that writes the
            model and returns a function which runs it; see `keras_m3s.inference.onnx.write`.
    """

    backend: str
    filename: str
    packages: tuple[str, ...]
    writer: str


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(
        backend="torch",
        filename="model.onnx",
        packages=("torch", "onnx", "onnxruntime"),
        writer="keras_m3s.inference.onnx:write",
    ),
    "saved_model": ExportFormat(
        backend="tensorflow",
        filename="saved_model",
        packages=("tensorflow",),
        writer="keras_m3s.inference.saved_model:write",
    ),
}
"""The preferred one first."""

PREDICTION_FORMATS: tuple[str, ...] = ("csv", "jsonl")
"""A table with a header, or a JSON object per line."""


def default_export_format() -> str:
    """The first export format whose packages are installed, else the last one."""
    for name, card in EXPORT_FORMATS.items():
        if all(importlib.util.find_spec(package) for package in card.packages):
            return name
    return name
