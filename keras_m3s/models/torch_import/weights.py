"""How a PyTorch weight becomes a Keras one: one `TorchWeight` per Keras variable.

A model lists its own in `torch_weights()`, built from the functions below:

```python
def torch_weights(self):
    yield from linear("project.0", self.project)
    yield from lstm("encoder.rnn", self.rnn)
```

Layouts: PyTorch keeps a matrix as `(out, in)`, Keras as `(in, out)`. Both order an LSTM's gates
i, f, g, o; for a GRU PyTorch has r, z, n and Keras z, r, h. All conversions here are linear and
permute entries only, so they turn a gradient as well as a value.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _same(array: Array) -> Array:
    return array


@dataclass(frozen=True)
class TorchWeight:
    """One Keras variable and where its value lies in a PyTorch state dict.

    Attributes:
        name: Name in the state dict; a tuple where several arrays make up one variable. Several
            weights may read the same name, where PyTorch keeps as one array what Keras splits.
        variable: The `keras.Variable` to fill.
        to_keras: Turns the PyTorch array(s), or their gradients, into the variable's layout.
    """

    name: str | tuple[str, ...]
    variable: Any
    to_keras: Callable[..., Array] = _same

    @property
    def names(self) -> tuple[str, ...]:
        """The names read, always as a tuple."""
        return (self.name,) if isinstance(self.name, str) else self.name


def linear(prefix: str, dense: Any) -> Iterator[TorchWeight]:
    """`nn.Linear` to a `Dense` (or any layer with `kernel` and maybe `bias`)."""
    yield TorchWeight(f"{prefix}.weight", dense.kernel, np.transpose)
    if getattr(dense, "bias", None) is not None:
        yield TorchWeight(f"{prefix}.bias", dense.bias)


def embedding(prefix: str, layer: Any) -> Iterator[TorchWeight]:
    """`nn.Embedding` to `keras.layers.Embedding`."""
    yield TorchWeight(f"{prefix}.weight", layer.embeddings)


def layer_norm(prefix: str, norm: Any) -> Iterator[TorchWeight]:
    """`nn.LayerNorm` to `LayerNormalization`; give that `epsilon=1e-5`, Keras' own is 1e-3."""
    yield TorchWeight(f"{prefix}.weight", norm.gamma)
    yield TorchWeight(f"{prefix}.bias", norm.beta)


def batch_norm(prefix: str, norm: Any) -> Iterator[TorchWeight]:
    """`nn.BatchNorm*` to `BatchNormalization`; `num_batches_tracked` has no counterpart."""
    yield TorchWeight(f"{prefix}.weight", norm.gamma)
    yield TorchWeight(f"{prefix}.bias", norm.beta)
    yield TorchWeight(f"{prefix}.running_mean", norm.moving_mean)
    yield TorchWeight(f"{prefix}.running_var", norm.moving_variance)


def conv(prefix: str, layer: Any) -> Iterator[TorchWeight]:
    """`nn.Conv1d`, `Conv2d`, `Conv3d`: kernel `(out, in, *window)` to `(*window, in, out)`."""

    def kernel(array: Array) -> Array:
        return np.moveaxis(array, (0, 1), (-1, -2))

    yield TorchWeight(f"{prefix}.weight", layer.kernel, kernel)
    if getattr(layer, "bias", None) is not None:
        yield TorchWeight(f"{prefix}.bias", layer.bias)


def conv_over_words(prefix: str, layer: Any) -> Iterator[TorchWeight]:
    """`nn.Conv2d(1, out, (words, dim))`, a text CNN's, to `Conv1D(out, words)` over `dim`."""

    def kernel(array: Array) -> Array:
        return np.transpose(np.squeeze(array, axis=1), (1, 2, 0))

    yield TorchWeight(f"{prefix}.weight", layer.kernel, kernel)
    if getattr(layer, "bias", None) is not None:
        yield TorchWeight(f"{prefix}.bias", layer.bias)


def _directions(prefix: str, rnn: Any, layer: int) -> Iterator[tuple[Any, Callable[[str], str]]]:
    """The cells of one recurrent layer, each with its naming of a part such as `weight_ih`."""
    yield rnn.forward_cell, lambda part: f"{prefix}.{part}_l{layer}"
    if getattr(rnn, "backward_cell", None) is not None:
        yield rnn.backward_cell, lambda part: f"{prefix}.{part}_l{layer}_reverse"


def lstm(prefix: str, rnn: Any, layer: int = 0) -> Iterator[TorchWeight]:
    """One layer of `nn.LSTM` to `keras_m3s.layers.recurrent.LSTM` with `recurrent_bias=True`.

    Raises:
        ValueError: The layer has a single bias: a step of an optimizer would then not be PyTorch's.
    """
    for cell, name in _directions(prefix, rnn, layer):
        if getattr(cell, "recurrent_bias", None) is None:
            raise ValueError(
                "The layer must have PyTorch's two biases to take its weights. "
                f"Received: {rnn!r}. Make it with `recurrent_bias=True`."
            )
        yield TorchWeight(name("weight_ih"), cell.kernel, np.transpose)
        yield TorchWeight(name("weight_hh"), cell.recurrent_kernel, np.transpose)
        yield TorchWeight(name("bias_ih"), cell.bias)
        yield TorchWeight(name("bias_hh"), cell.recurrent_bias)


def _gru_gates(array: Array) -> Array:
    """Rows r, z, n (PyTorch) to z, r, h (Keras); a matrix is also transposed."""
    reset, update, new = np.split(array, 3, axis=0)
    return np.concatenate([update, reset, new], axis=0).T


def _gru_biases(bias_ih: Array, bias_hh: Array) -> Array:
    return np.stack([_gru_gates(bias_ih), _gru_gates(bias_hh)])


def gru(prefix: str, rnn: Any, layer: int = 0) -> Iterator[TorchWeight]:
    """One layer of `nn.GRU` to `keras_m3s.layers.recurrent.GRU`."""
    for cell, name in _directions(prefix, rnn, layer):
        yield TorchWeight(name("weight_ih"), cell.kernel, _gru_gates)
        yield TorchWeight(name("weight_hh"), cell.recurrent_kernel, _gru_gates)
        yield TorchWeight((name("bias_ih"), name("bias_hh")), cell.bias, _gru_biases)


def transformer_encoder_layer(prefix: str, layer: Any) -> Iterator[TorchWeight]:
    """`nn.TransformerEncoderLayer` to `keras_m3s.layers.TransformerEncoderLayer`."""
    attention = f"{prefix}.self_attn"
    yield TorchWeight(f"{attention}.in_proj_weight", layer.projection.kernel, np.transpose)
    yield TorchWeight(f"{attention}.in_proj_bias", layer.projection.bias)
    yield from linear(f"{attention}.out_proj", layer.output_projection)
    yield from linear(f"{prefix}.linear1", layer.inner)
    yield from linear(f"{prefix}.linear2", layer.outer)
    yield from layer_norm(f"{prefix}.norm1", layer.attention_norm)
    yield from layer_norm(f"{prefix}.norm2", layer.dense_norm)
