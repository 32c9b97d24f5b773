"""`GRU`, the gated recurrent unit over sequences of true lengths."""

import keras
from keras import ops

from keras_m3s.layers.recurrent.base import TORCH_ARGUMENTS, DirectionWeights, Recurrent
from keras_m3s.layers.recurrent.cells import GRUCell, Tensor


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
        initializer: Initializer of all weights; by default uniform in +-1/sqrt(units), as in
            PyTorch.
        kernel_initializer: Initializer of `kernel`, in place of `initializer`.
        recurrent_initializer: Initializer of `recurrent_kernel`, as one matrix, in place of
            `initializer`.
        bias_initializer: Initializer of `bias`, in place of `initializer`.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder (2014).
    """

    _cell = GRUCell

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        return (2, 3 * self.units), False

    def _split_bias(self, weights: DirectionWeights) -> tuple[Tensor, list[Tensor]]:
        bias = ops.convert_to_tensor(weights.bias)
        # The reset gate multiplies the candidate's recurrent bias, so the recurrence adds that.
        outer = ops.concatenate([bias[1, : 2 * self.units], ops.zeros_like(bias[1, -self.units :])])
        return bias[0] + outer, [bias[1:, -self.units :]]

    def _torch_kernel(self, x: Tensor, weights: DirectionWeights) -> Tensor:
        import torch

        def reset_first(array: Tensor) -> Tensor:  # PyTorch's gate order is r, z, n
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
