"""Gradient reversal, for adversarial losses in one backward pass.

Reference: Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015.
"""

from typing import Any

import keras
from keras import ops

from keras_m3s.layers.torch_defaults import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_m3s")
class GradientReversal(keras.layers.Layer):
    """Identity in the forward pass; multiplies the gradient by `-scale` in the backward pass.

    Args:
        scale: Factor of the reversed gradient, >= 0.
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Tensor) -> Tensor:
        # The value of x + 0 with the gradient of -scale * x. Unlike a custom gradient, this works
        # on every backend and can be differentiated again. For finite x the added term is 0.
        reversed_part = -(1.0 + self.scale) * inputs
        return inputs + (reversed_part - ops.stop_gradient(reversed_part))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}
