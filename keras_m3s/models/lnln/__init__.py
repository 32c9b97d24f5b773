"""LNLN, its transformers, what its losses compare, and its training."""

from keras_m3s.models.lnln.lnln import LNLN

__all__ = ["LNLN"]
