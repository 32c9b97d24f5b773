"""One vector per modality from sequences: LSTM for audio and vision, convolutions for text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_m3s.layers.recurrent import LSTM
from keras_m3s.layers.torch_defaults import Dropout
from keras_m3s.modalities import MODALITIES, length_key
from keras_m3s.models.mmin.residual_autoencoder import copied, initialized_dense, kaiming
from keras_m3s.models.torch_import.weights import TorchWeight, conv_over_words, linear, lstm

POOLINGS = ("max", "last")


class SequenceEncoder(keras.layers.Layer):
    """An LSTM and the largest (or last) of its states.

    Args:
        units: Width of the vector.
        pooling: `"max"` over time, or `"last"`, the final state.

    Call with `(batch, steps, dim)` and, where padding must not count, `lengths` `(batch,)`; a
    sample of length 0 gives zeros.

    Raises:
        ValueError: If `pooling` is none of these. (The published code offers `attention` as well;
            its softmax runs over an axis of size 1 and so weighs nothing.)
    """

    def __init__(self, units: int, pooling: str = "max", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: {pooling!r}.")
        self.units = units
        self.pooling = pooling
        self.rnn = LSTM(units, recurrent_bias=True, dtype=self.dtype_policy, name="rnn")

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        self.input_dim = inputs_shape[-1]
        self.rnn.build(inputs_shape)

    def call(self, inputs: Any, lengths: Any = None) -> Any:
        sequence, final = self.rnn(inputs, lengths)
        if self.pooling == "last":
            return final
        if lengths is not None:
            # States lie in (-1, 1), so -1 never wins; step 0 of an empty sample is 0 and stays.
            step = ops.arange(ops.shape(sequence)[1], dtype="int32")[None, :]
            true = step < ops.maximum(ops.cast(lengths, "int32"), 1)[:, None]
            low = ops.cast(-1, sequence.dtype)
            sequence = ops.where(ops.expand_dims(true, -1), sequence, low)
        return ops.max(sequence, axis=1)

    def compute_output_shape(self, inputs_shape: Any, lengths_shape: Any = None) -> Any:
        return (inputs_shape[0], self.units)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        yield from lstm(f"{prefix}.rnn", self.rnn)


class TextCNN(keras.layers.Layer):
    """Convolutions of several heights over whole word vectors, each one's maximum over time.

    Args:
        units: Width of the vector.
        channels: Filters of each height.
        heights: How many words a filter spans.
        dropout: Rate on the joined maxima.
        initializer: Keras initializer of every kernel; default `kaiming()`.

    Call with `(batch, steps, dim)` and, where padding must not count, `lengths` `(batch,)`.

    Reference: AIM3-RUC/MMIN 69a45fe, models/networks/textcnn.py.
    """

    def __init__(
        self,
        units: int,
        channels: int = 128,
        heights: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
        initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        initializer = initializer or kaiming()
        self.units = units
        self.heights = tuple(heights)
        self.convolutions = [
            keras.layers.Conv1D(
                channels,
                height,
                activation="relu",
                kernel_initializer=copied(initializer),
                dtype=self.dtype_policy,
                name=f"convolution_{height}",
            )
            for height in self.heights
        ]
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.project = initialized_dense(
            units, initializer, activation="relu", dtype=self.dtype_policy, name="project"
        )

    def build(self, inputs_shape: Any, lengths_shape: Any = None) -> None:
        self.input_dim = inputs_shape[-1]
        for layer in self.convolutions:
            layer.build((None, None, inputs_shape[-1]))
        self.project.build((None, sum(layer.filters for layer in self.convolutions)))

    def call(self, inputs: Any, lengths: Any = None, training: bool | None = None) -> Any:
        steps = ops.shape(inputs)[1]
        if lengths is None:
            lengths = ops.reshape(ops.cast(steps, "int32"), (1,))
        else:
            lengths = ops.minimum(ops.cast(lengths, "int32"), steps)
            true = ops.arange(steps, dtype="int32")[None, :] < lengths[:, None]
            zero = ops.zeros((), dtype=inputs.dtype)
            inputs = ops.where(ops.expand_dims(true, -1), inputs, zero)
        # The published code fails on texts shorter than its highest filter; here such a text is
        # filled up with zeros to the height of each filter, which then has one place to stand.
        inputs = ops.pad(inputs, [[0, 0], [0, max(self.heights) - 1], [0, 0]])
        maxima = []
        for height, layer in zip(self.heights, self.convolutions, strict=True):
            windows = layer(inputs)
            start = ops.arange(ops.shape(windows)[1], dtype="int32")[None, :]
            within = start <= ops.maximum(lengths - height, 0)[:, None]
            # After the ReLU no window is below 0, so one that is left out may count as 0.
            within = ops.cast(ops.expand_dims(within, -1), windows.dtype)
            maxima.append(ops.max(windows * within, axis=1))
        joined = self.dropout(ops.concatenate(maxima, axis=-1), training=training)
        return self.project(joined)

    def compute_output_shape(self, inputs_shape: Any, lengths_shape: Any = None) -> Any:
        return (inputs_shape[0], self.units)

    def torch_weights(self, prefix: str) -> Iterator[TorchWeight]:
        for number, layer in enumerate(self.convolutions, start=1):
            yield from conv_over_words(f"{prefix}.conv{number}", layer)
        yield from linear(f"{prefix}.embd.0", self.project)


TORCH_PREFIX = {"audio": "A", "vision": "V", "text": "L"}


class UtteranceEncoders(keras.layers.Layer):
    """The encoders of all modalities, as student, teacher and stage 1 have them.

    Args:
        sizes: Dict modality -> width of its vector; the keys are the modalities encoded.
        poolings: Dict with `audio` and `vision`, see `SequenceEncoder`.
        text: Further arguments of `TextCNN`.
        mask_padding: Whether `{modality}_length` bounds each sequence; if not, as published,
            LSTM and maxima run over the padding too.

    Call with a dict of sequences and, for `mask_padding`, lengths.

    Returns:
        Dict modality -> `(batch, size)`.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        poolings: Mapping[str, str],
        text: Mapping[str, Any],
        mask_padding: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.modalities = tuple(m for m in MODALITIES if m in sizes)
        self.mask_padding = mask_padding
        self.frozen = False
        for m in self.modalities:
            common = {"dtype": self.dtype_policy, "name": f"{m}_encoder"}
            if m == "text":
                encoder = TextCNN(sizes[m], **text, **common)
            else:
                encoder = SequenceEncoder(sizes[m], poolings[m], **common)
            setattr(self, f"{m}_encoder", encoder)

    def freeze(self) -> None:
        """Makes the weights non-trainable, whatever `trainable` an outer model is set to later."""
        keras.layers.Layer.trainable.fset(self, False)
        self.frozen = True

    @property
    def trainable(self) -> bool:
        return bool(keras.layers.Layer.trainable.fget(self))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value and not self.frozen)

    def __getitem__(self, modality: str) -> Any:
        return getattr(self, f"{modality}_encoder")

    def build(self, input_shape: Any) -> None:
        shapes = self.select(input_shape)
        for m in self.modalities:
            self[m].build(shapes[m])

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        encoded = {}
        for m in self.modalities:
            lengths = inputs[length_key(m)] if self.mask_padding else None
            extra = {"training": training} if m == "text" else {}
            encoded[m] = self[m](inputs[m], lengths, **extra)
        return encoded

    def select(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a batch that `call` reads.

        Raises:
            ValueError: If one is not there.
        """
        keys = list(self.modalities)
        if self.mask_padding:
            keys += [length_key(m) for m in self.modalities]
        if absent := [key for key in keys if key not in inputs]:
            raise ValueError(
                f"`inputs` must hold {tuple(keys)}; {tuple(absent)} not found. Received: "
                f"{tuple(inputs)}. For an absent modality pass zeros; lengths are not needed with "
                "`mask_padding=False`."
            )
        return {key: inputs[key] for key in keys}

    def torch_weights(self) -> Iterator[TorchWeight]:
        for m in self.modalities:
            yield from self[m].torch_weights(TORCH_PREFIX[m])
