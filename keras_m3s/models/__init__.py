"""The four base models of the paper, one file each, and what loads their published weights."""

from keras_m3s.models.base import BaseModel
from keras_m3s.models.misa import MISA
from keras_m3s.models.mmim.mmim import MMIM
from keras_m3s.models.mmin.mmin import MMIN
from keras_m3s.models.mmin.utt_fusion import UttFusion
from keras_m3s.models.self_mm.self_mm import SelfMM
from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint

MODELS: dict[str, type[BaseModel]] = {"misa": MISA, "mmim": MMIM, "mmin": MMIN, "self_mm": SelfMM}
"""Model names as in `keras_m3s.experiments.config.MODELS`."""

__all__ = [
    "MISA",
    "MMIM",
    "MMIN",
    "MODELS",
    "BaseModel",
    "SelfMM",
    "UttFusion",
    "load_torch_checkpoint",
]
