"""Self-MM, and the unimodal labels that it makes for itself."""

from keras_m3s.models.self_mm.self_mm import SelfMM

__all__ = ["SelfMM"]
