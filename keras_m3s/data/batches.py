"""Batches of a split, in an order that depends on seed and epoch alone.

    batches = Batches(splits["train"], batch_size=32, shuffle=True, seed=0, double=True)
    model.fit(batches, shuffle=False, epochs=40, callbacks=[SetEpoch(batches)])

`shuffle=False` in `fit`, whose default would shuffle the batches again from Python's global random
state. `SetEpoch` tells the batches the number of the epoch, whichever `fit` starts with.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

from keras_m3s.data.split import SplitLike
from keras_m3s.modalities import DRAWS, TEXT_BERT, length_key

if TYPE_CHECKING:
    import tensorflow as tf

Batch: TypeAlias = tuple[dict[str, np.ndarray], np.ndarray]

WINDOW = 20
"""Number of batches that are sorted by length together: more save padding, fewer mix better."""

LEVELS = 8
"""Number of different lengths of a batch with `buckets`, each compiled once."""

SHORTEST = 8
"""Least number of steps of a batch: convolutions over time need some."""


class Batches(keras.utils.PyDataset):
    """Batches `(x, y)` of a dict of arrays and labels, float32 `(batch, 1)` or int `(batch,)`.

    Args:
        split: The data, in memory or on disk.
        batch_size: Rows per batch; with `double`, rows of support and of query each.
        shuffle: Whether to shuffle each epoch, with `np.random.default_rng((seed, epoch))`.
        seed: Non-negative int.
        double: Whether a batch holds `2 * batch_size` rows for `M3S` and `MetaModel`: support in
            rows 0::2 and query in 1::2, shuffled independently. An epoch still has
            `ceil(n / batch_size)` steps, and each example is once support and once query.
        draws: Float32 `(n, modalities, 2)`, fixed missingness of each row, for `x["draws"]`.
        drop_remainder: Whether to leave out a last batch that is not full.
        buckets: Whether to batch sequences of similar length and cut their common padding. Shuffled
            rows are sorted by length in windows of `WINDOW` batches, then the batches are shuffled.
            A batch keeps a multiple of 1 / `LEVELS` of the steps, the same share in all modalities,
            so that at most `LEVELS` shapes are compiled. The predictions of models that read
            padding (MMIN as published) depend on its length.
        epoch: Number of the first epoch.
        passes: Number of passes over the data per epoch, each in an order of its own.

    Attributes:
        epoch: Number of the current epoch; `fit` increments it after the last batch.
    """

    def __init__(
        self,
        split: SplitLike,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        double: bool = False,
        draws: np.ndarray | None = None,
        drop_remainder: bool = False,
        buckets: bool = False,
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
                "`double=True` must go with `shuffle=True`: without shuffling, support and query "
                "would be the same rows. Received: shuffle=False."
            )
        if draws is not None and draws.shape != (len(split), len(split.modalities), 2):
            raise ValueError(
                f"`draws` must be of shape ({len(split)}, {len(split.modalities)}, 2), one row per "
                f"example of {split.name!r} and the modalities {split.modalities}. "
                f"Received: {draws.shape}."
            )
        if drop_remainder and len(split) < batch_size:
            raise ValueError(
                f"`batch_size` must be at most {len(split)}, the size of {split.name!r}, with "
                f"`drop_remainder`: no batch is full. Received: {batch_size}."
            )
        if buckets and not split.lengths:
            raise ValueError(
                f"`buckets=True` must go with data that has lengths. Received: {split.name!r} with "
                f"{sorted(split.take(np.arange(1)))}."
            )
        self.split = split
        self.buckets = buckets
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
        return self.passes * self._batches_per_pass

    @property
    def _batches_per_pass(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (rest > 0 and not self.drop_remainder)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches. Received: index {index}.")
        self._served += 1
        rows = self.rows(index)
        x = self.split.take(rows)
        if self.buckets:
            x = trim_padding(x)
        if self.draws is not None:
            x[DRAWS] = self.draws[rows]
        y = self.split.labels[rows]
        return x, y[:, None] if y.dtype.kind == "f" else y

    def rows(self, index: int) -> np.ndarray:
        """Rows of the split in batch `index` of the current epoch, in order."""
        number, index = divmod(index, self._batches_per_pass)
        window = slice(index * self.batch_size, (index + 1) * self.batch_size)
        orders = self._orders if self.double else self._orders[number : number + 1]
        return np.stack([order[window] for order in orders], axis=1).reshape(-1)

    def on_epoch_end(self) -> None:
        # Keras also calls this after it took one batch to build a model.
        if self._served >= len(self):
            self.epoch += 1

    def _order(self, epoch: int) -> list[np.ndarray]:
        """Orders of all rows: one per pass, or two with `double`."""
        size, number = len(self.split), 2 if self.double else self.passes
        if not self.shuffle:
            return [np.arange(size)] * number
        rng = np.random.default_rng((self.seed, epoch))
        orders = [rng.permutation(size) for _ in range(number)]
        if self.buckets:
            # One order of batches for all: support and query of a step are of similar length.
            batch_order = rng.permutation(size // self.batch_size)
            orders = [self._bucketed(order, batch_order) for order in orders]
        return orders

    def _bucketed(self, order: np.ndarray, batch_order: np.ndarray) -> np.ndarray:
        """Sorts an order by length within windows; a last batch that is not full stays last."""
        lengths = self.split.lengths.values()
        length = np.max([steps / max(1, steps.max()) for steps in lengths], axis=0)
        full = order[: len(batch_order) * self.batch_size]
        window = WINDOW * self.batch_size
        parts = [full[start : start + window] for start in range(0, len(full), window)]
        parts = [part[np.argsort(length[part], kind="stable")] for part in parts]
        batches = np.concatenate([*parts, full[:0]]).reshape(-1, self.batch_size)[batch_order]
        return np.concatenate([batches.reshape(-1), order[len(full) :]])


def trim_padding(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts the padding that all rows have, down to a multiple of 1 / `LEVELS` of the steps.

    Args:
        x: Features of a batch. Modalities without lengths are not cut.
    """
    known = [m for m in x if length_key(m) in x]
    shares = [x[length_key(m)].max() / x[m].shape[1] for m in known]
    if TEXT_BERT in x:
        shares.append(x[TEXT_BERT][:, 1].sum(axis=1).max() / x[TEXT_BERT].shape[2])
    level = max(1, int(np.ceil(LEVELS * max(shares, default=1.0) - 1e-6)))

    def keep(steps: int) -> int:
        return min(steps, max(SHORTEST, -(-steps * level // LEVELS)))

    cut = {m: x[m][:, : keep(x[m].shape[1])] for m in known}
    if TEXT_BERT in x:
        cut[TEXT_BERT] = x[TEXT_BERT][:, :, : keep(x[TEXT_BERT].shape[2])]
    return {**x, **cut}


def as_tf_dataset(batches: Batches) -> "tf.data.Dataset":
    """The same batches as a `tf.data.Dataset`, prefetched; one pass over it is one epoch.

    Args:
        batches: Batches; their epoch is incremented at the end of a pass.

    Returns:
        A `tf.data.Dataset` of known cardinality, sharded by data under a distribution strategy.
    """
    import tensorflow as tf

    def generate() -> Iterator[Batch]:
        for index in range(len(batches)):
            yield batches[index]
        batches.on_epoch_end()

    def spec(array: np.ndarray, steps_axis: int | None = None) -> "tf.TensorSpec":
        shape = [None, *array.shape[1:]]
        if batches.buckets and steps_axis is not None:
            shape[steps_axis] = None
        return tf.TensorSpec(shape, array.dtype)

    x, y = batches[0]
    axes = {**{key: 1 for key in x if length_key(key) in x}, TEXT_BERT: 2}
    signature = ({key: spec(array, axes.get(key)) for key, array in x.items()}, spec(y))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
