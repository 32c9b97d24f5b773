"""MMIM, and what its mutual information losses are made of."""

from keras_m3s.models.mmim.mmim import MMIM

__all__ = ["MMIM"]
