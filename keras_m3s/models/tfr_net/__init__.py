"""TFR-Net: crossmodal attention, and frames that are missing reconstructed while training."""

from keras_m3s.models.tfr_net.presets import PRESETS
from keras_m3s.models.tfr_net.tfr_net import TFRNet

__all__ = ["PRESETS", "TFRNet"]
