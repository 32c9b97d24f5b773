"""`LSTM`, long short-term memory over sequences of true lengths."""

from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent.base import TORCH_ARGUMENTS, DirectionWeights, Recurrent
from keras_m3s.layers.recurrent.cells import LSTMCell, Tensor


@keras.saving.register_keras_serializable(package="keras_m3s")
class LSTM(Recurrent):
    """Long short-term memory over sequences of true lengths.

    Weights are in `forward_cell` and `backward_cell`, each with `kernel` `(features, 4 * units)`,
    `recurrent_kernel` `(units, 4 * units)`, `bias` and `recurrent_bias` `(4 * units,)`; gate order
    i, f, g, o, that of PyTorch and Keras. With `recurrent_bias=False` they are those of
    `keras.layers.LSTM`.

    Args:
        units: Width of one direction's output.
        bidirectional: Adds a second LSTM that reads from each sequence's last true step to its
            first.
        recurrent_bias: Whether to have PyTorch's second bias. The layer can compute the same
            without it, but an optimizer updates two biases instead of one.
        initializer: Initializer of all weights; by default uniform in +-1/sqrt(units), as in
            PyTorch.
        kernel_initializer: Initializer of `kernel`, in place of `initializer`.
        recurrent_initializer: Initializer of `recurrent_kernel`, as one matrix, in place of
            `initializer`.
        bias_initializer: Initializer of the biases, in place of `initializer`.

    Call arguments:
        inputs: Float tensor `(batch, steps, features)`.
        lengths: Int tensor `(batch,)`, true steps of each sequence, or None where all are true.

    Returns:
        The outputs of all steps `(batch, steps, units * directions)`, zero past each length; and
        `(batch, units * directions)`, the forward output at the last true step, concatenated with
        the backward output at the first. Both are zero for a sequence of length 0.

    Raises:
        ValueError: On `inputs` of another rank, or `lengths` that do not match them.

    Reference: Hochreiter & Schmidhuber, Long short-term memory (1997).
    """

    _cell = LSTMCell

    def __init__(
        self,
        units: int,
        bidirectional: bool = False,
        recurrent_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        self.recurrent_bias = recurrent_bias
        super().__init__(units, bidirectional, **kwargs)

    def _bias_shape(self) -> tuple[tuple[int, ...], bool]:
        return (4 * self.units,), self.recurrent_bias

    def _split_bias(self, weights: DirectionWeights) -> tuple[Tensor, list[Tensor]]:
        if weights.recurrent_bias is None:
            return weights.bias, []
        return ops.add(weights.bias, weights.recurrent_bias), []

    def _torch_kernel(self, x: Tensor, weights: DirectionWeights) -> Tensor:
        import torch

        zeros = x.new_zeros((1, x.shape[0], self.units))
        bias = ops.convert_to_tensor(weights.bias)
        second = weights.recurrent_bias
        arrays = [
            ops.convert_to_tensor(weights.kernel).T,
            ops.convert_to_tensor(weights.recurrent_kernel).T,
            bias,
            torch.zeros_like(bias) if second is None else ops.convert_to_tensor(second),
        ]
        return torch._VF.lstm(x, (zeros, zeros), arrays, *TORCH_ARGUMENTS)[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "recurrent_bias": self.recurrent_bias}
