"""`GRU`, the gated recurrent unit over sequences of true lengths."""

from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent.base import TORCH_ARGUMENTS, Recurrent, Weights
from keras_m3s.layers.recurrent.cells import GRUCell


@keras.saving.register_keras_serializable(package="keras_m3s")
class GRU(Recurrent):
    """Gated recurrent unit over sequences of true lengths; as `LSTM`.

    Its weights are those of `keras.layers.GRU` with `reset_after=True`, the form of PyTorch and
    cuDNN: `kernel` `(features, 3 * units)`, `recurrent_kernel` `(units, 3 * units)`, `bias`
    `(2, 3 * units)`, row 0 for the inputs and row 1 for the recurrence; gate order z, r, h.

    Args:
        units: Width of one direction's output.
        bidirectional: Adds a second GRU that reads from each sequence's last true step to its
            first.
        initializer: Of all weights; by default uniform in +-1/sqrt(units), as PyTorch's.
        kernel_initializer: Of `kernel`, in place of `initializer`.
        recurrent_initializer: Of `recurrent_kernel`, as a whole, in place of `initializer`.
        bias_initializer: Of `bias`, in place of `initializer`.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder (2014).
    """

    _cell = GRUCell

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        return (2, 3 * self.units), False

    def _split_bias(self, weights: Weights) -> tuple[Any, list[Any]]:
        bias = ops.convert_to_tensor(weights.bias)
        # The reset gate multiplies the candidate's recurrent bias, so that one stays inside.
        outer = ops.concatenate([bias[1, : 2 * self.units], ops.zeros_like(bias[1, -self.units :])])
        return bias[0] + outer, [bias[1:, -self.units :]]

    def _torch_kernel(self, x: Any, weights: Weights) -> Any:
        import torch

        def reset_first(array: Any) -> Any:  # PyTorch's gate order is r, z, n
            z, r, h = torch.split(array, self.units)
            return torch.cat([r, z, h])

        bias = ops.convert_to_tensor(weights.bias)
        arrays = [
            ops.convert_to_tensor(weights.kernel).T,
            ops.convert_to_tensor(weights.recurrent_kernel).T,
            *bias,
        ]
        zeros = x.new_zeros((1, x.shape[0], self.units))
        arrays = [reset_first(array) for array in arrays]
        return torch._VF.gru(x, zeros, arrays, *TORCH_ARGUMENTS)[0]
