"""The four base models of the paper, one file each, and what loads their published weights."""

from keras_m3s.models.base import BaseModel
from keras_m3s.models.checkpoints import load_torch_checkpoint
from keras_m3s.models.misa import MISA
from keras_m3s.models.mmim import MMIM
from keras_m3s.models.mmin import MMIN
from keras_m3s.models.self_mm import SelfMM
from keras_m3s.models.utt_fusion import UttFusion

MODELS: dict[str, type[BaseModel]] = {"misa": MISA, "mmim": MMIM, "mmin": MMIN, "self_mm": SelfMM}
"""Model names as in `keras_m3s.experiment.MODELS`."""

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
