"""Batches of replicas: one iterator each for training, and shared or separate validation data."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.utils import keras_private


class Source:
    """Data that each replica iterates as `fit` would.

    Args:
        x: Arrays, `(x, y)`, or a function of the seed that returns a dataset.
        y: Labels, if `x` is arrays.
        batch_size: Rows of a batch, if `x` is arrays.
        shuffle: As for `fit`, if `x` is arrays.
    """

    def __init__(self, x: Any, y: Any, batch_size: int | None, shuffle: bool) -> None:
        self.x, self.y, self.batch_size, self.shuffle = x, y, batch_size, shuffle

    def iterator(self, seed: int) -> Any:
        """Keras' epoch iterator over the data of a replica."""
        if callable(self.x):
            return keras_private.jax_epoch_iterator(self.x(seed), shuffle=False)
        x, y, weight = keras.utils.unpack_x_y_sample_weight(
            self.x if isinstance(self.x, tuple) else (self.x, self.y)
        )
        return keras_private.jax_epoch_iterator(x, y, weight, self.batch_size, shuffle=self.shuffle)


class Validation:
    """Validation data of all replicas.

    Args:
        data: `(x, y)` or a dataset, shared by all; or a function of the seed.
        batch_size: Rows of a batch, if `data` is arrays.
        seeds: The replicas' seeds.

    Attributes:
        shared: Whether all replicas are validated on the same batches.
    """

    def __init__(self, data: Any, batch_size: int | None, seeds: Sequence[int]) -> None:
        self.shared = not callable(data)
        source = Source(data, None, batch_size, shuffle=False)
        if self.shared and is_dataset(data):
            source.x = lambda _: data
        self._iterators = [source.iterator(s) for s in (seeds[:1] if self.shared else seeds)]

    def batches(self, running: Sequence[bool]) -> Iterator[Any]:
        """Batches that all replicas share, or lists of one batch for each.

        Args:
            running: Whether each replica still trains.
        """
        for iterator in self._iterators:
            iterator.reset()
        sources = [_each_batch(iterator) for iterator in self._iterators]
        return sources[0] if self.shared else aligned_batches(sources, running)


def aligned_batches(
    sources: Sequence[Iterator[Any]], running: Sequence[bool]
) -> Iterator[list[Any]]:
    """Lists of one batch for each replica; one that has stopped gets another's batch.

    Args:
        sources: The batches of each replica.
        running: Whether each replica still trains.

    Raises:
        ValueError: If the shapes of batches in a list differ.
    """
    active = [source for source, runs in zip(sources, running, strict=True) if runs]
    for batches in zip(*active, strict=True):
        shapes = [keras.tree.map_structure(np.shape, batch) for batch in batches]
        different = [shape for shape in shapes if shape != shapes[0]]
        if different:
            raise ValueError(
                "All replicas must get batches of the same shapes. Received: "
                f"{shapes[0]} and {different[0]}. Leave out what cuts or drops rows and steps by "
                "their order (`buckets=True`)."
            )
        left = iter(batches)
        yield [next(left) if runs else batches[0] for runs in running]


def is_dataset(x: Any) -> bool:
    """Whether `x` yields batches itself, rather than being arrays of rows."""
    return not isinstance(x, (dict, list, tuple)) and not hasattr(x, "shape")


def _each_batch(iterator: Any) -> Iterator[Any]:
    with iterator.catch_stop_iteration():
        for _, _, batches in iterator:
            yield next(batches)
