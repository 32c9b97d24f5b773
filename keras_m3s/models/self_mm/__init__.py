"""Self-MM, and the unimodal labels that it makes for itself."""

from keras_m3s.models.self_mm.self_mm import PRESETS, SelfMM

__all__ = ["PRESETS", "SelfMM"]
