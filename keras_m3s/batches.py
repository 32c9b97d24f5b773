"""Batches of a split: the same from the same seed on every backend, and after resuming.

    batches = Batches(splits["train"], batch_size=32, shuffle=True, seed=0, double=True)
    model.fit(batches, shuffle=False, epochs=40, callbacks=[SetEpoch(batches)])

`shuffle=False` in `fit`: its default would shuffle the batches once more, from Python's global
random state. `SetEpoch` makes the order of epoch e that of epoch e whichever epoch `fit` starts at,
and whatever else drew batches in between.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_m3s.data import Split
from keras_m3s.modalities import DRAWS, MODALITIES


class Batches(keras.utils.PyDataset):
    """Batches `(x, y)`: a dict of arrays, and labels float32 `(batch, 1)` or int `(batch,)`.

    Args:
        split: The data.
        batch_size: Rows a batch; with `double`, rows each of support and query.
        shuffle: Whether each epoch has a new order, that of `np.random.default_rng((seed, epoch))`.
        seed: Non-negative int.
        double: Whether a batch holds `2 * batch_size` rows for `M3S` and `MetaModel`: support in
            rows 0::2, query in 1::2, from two shuffles of their own. An epoch still has
            `ceil(n / batch_size)` steps, and each example is once support and once query.
        draws: Float32 `(n, modalities, 2)`, a fixed hole for each row; goes into `x["draws"]`.
        drop_remainder: Whether to leave out a last batch that is not full.
        epoch: The first epoch's number.
        passes: How often an epoch goes over the data, each time in an order of its own.

    Attributes:
        epoch: Number of the epoch whose batches come out; `fit` moves it on when all are used.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        double: bool = False,
        draws: np.ndarray | None = None,
        drop_remainder: bool = False,
        epoch: int = 0,
        passes: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(passes, int) or passes < 1 or (double and passes > 1):
            raise ValueError(
                "`passes` must be an int >= 1, and 1 with `double`. "
                f"Received: passes={passes!r}, double={double}."
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be an int >= 1. Received: {batch_size!r}.")
        if double and not shuffle:
            raise ValueError(
                "`double=True` must go with `shuffle=True`: in the order of the data, support and "
                "query would be the same rows. Received: shuffle=False."
            )
        if draws is not None and draws.shape != (len(split), len(MODALITIES), 2):
            raise ValueError(
                f"`draws` must be of shape ({len(split)}, {len(MODALITIES)}, 2), one row an "
                f"example of {split.name!r}. Received: {draws.shape}."
            )
        if drop_remainder and len(split) < batch_size:
            raise ValueError(
                f"`batch_size` must be at most {len(split)}, the size of {split.name!r}, with "
                f"`drop_remainder`: no batch is full. Received: {batch_size}."
            )
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.double = double
        self.draws = None if draws is None else draws.astype(np.float32, copy=False)
        self.drop_remainder = drop_remainder
        self.passes = passes
        self.epoch = epoch

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._orders = self._order(epoch)
        self._served = 0

    def __len__(self) -> int:
        return self.passes * self._batches_a_pass

    @property
    def _batches_a_pass(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (rest > 0 and not self.drop_remainder)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches. Received: index {index}.")
        self._served += 1
        rows = self.rows(index)
        x = {key: array[rows] for key, array in self.split.features.items()}
        if self.draws is not None:
            x[DRAWS] = self.draws[rows]
        y = self.split.labels[rows]
        return x, y[:, None] if y.dtype.kind == "f" else y

    def rows(self, index: int) -> np.ndarray:
        """The rows of the split in batch `index` of this epoch, in their order."""
        number, index = divmod(index, self._batches_a_pass)
        window = slice(index * self.batch_size, (index + 1) * self.batch_size)
        orders = self._orders if self.double else self._orders[number : number + 1]
        return np.stack([order[window] for order in orders], axis=1).reshape(-1)

    def on_epoch_end(self) -> None:
        # Keras also calls this after looking at one batch to build a model, which is no epoch.
        if self._served >= len(self):
            self.epoch += 1

    def _order(self, epoch: int) -> list[np.ndarray]:
        """One order of all rows for each pass, or two for `double`."""
        size, number = len(self.split), 2 if self.double else self.passes
        if not self.shuffle:
            return [np.arange(size)] * number
        rng = np.random.default_rng((self.seed, epoch))
        return [rng.permutation(size) for _ in range(number)]


class SetEpoch(keras.callbacks.Callback):
    """Keeps `Batches.epoch` equal to the epoch of `fit`, so that a resumed run goes on as it would.

    Args:
        batches: What `fit` trains on.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


def as_tf_dataset(batches: Batches) -> Any:
    """The same batches as a `tf.data.Dataset`, made ahead of use; one pass is one epoch.

    Args:
        batches: Moved on to its next epoch when a pass is over.

    Returns:
        A `tf.data.Dataset` of known cardinality, sharded by data under a distribution strategy.
    """
    import tensorflow as tf

    def generate() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        for index in range(len(batches)):
            yield batches[index]
        batches.on_epoch_end()

    def spec(array: np.ndarray) -> Any:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    x, y = batches[0]
    signature = ({key: spec(array) for key, array in x.items()}, spec(y))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
