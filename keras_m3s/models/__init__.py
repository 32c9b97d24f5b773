"""The base models, a folder each, and what loads their published weights."""

from keras_m3s.models.base import BaseModel
from keras_m3s.models.lnln import LNLN
from keras_m3s.models.misa import MISA
from keras_m3s.models.mmim import MMIM
from keras_m3s.models.mmin import MMIN, UttFusion
from keras_m3s.models.self_mm import SelfMM
from keras_m3s.models.tfr_net import TFRNet
from keras_m3s.models.torch_import import load_torch_checkpoint

__all__ = [
    "LNLN",
    "MISA",
    "MMIM",
    "MMIN",
    "BaseModel",
    "SelfMM",
    "TFRNet",
    "UttFusion",
    "load_torch_checkpoint",
]
