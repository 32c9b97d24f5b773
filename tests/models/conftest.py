"""Fixtures of the tests that hold models against PyTorch."""

from typing import Any

import pytest


@pytest.fixture
def double_precision(monkeypatch: Any) -> None:
    """Keras takes products of float64 in float32, on PyTorch as on JAX."""
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
