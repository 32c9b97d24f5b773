"""MMIN, its teacher UttFusion, and the stage that trains the teacher."""

from keras_m3s.models.mmin.mmin import MMIN
from keras_m3s.models.mmin.utt_fusion import UttFusion

__all__ = ["MMIN", "UttFusion"]
