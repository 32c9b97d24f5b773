"""What a meta step needs of a backend, chosen here and nowhere else.

Each backend's file gives `gradient`, `repeat`, `every_second`, `sum_over_replicas`,
`rows_of_this_replica`, and `MetaStep`, the training step of `MetaModel` as that backend's `fit`
calls it.
"""

import keras

from keras_m3s.meta.functional import Pass, State

if keras.backend.backend() == "jax":
    from keras_m3s.meta.backend import jax as _backend
elif keras.backend.backend() == "tensorflow":
    from keras_m3s.meta.backend import tensorflow as _backend  # type: ignore[no-redef]  # one of three
elif keras.backend.backend() == "torch":
    from keras_m3s.meta.backend import torch as _backend  # type: ignore[no-redef]  # one of three
else:
    raise ImportError(
        "keras_m3s trains on the Keras backends 'jax', 'tensorflow' and 'torch'. Received: "
        f"{keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND to one of them."
    )

MetaStep = _backend.MetaStep
Objective = _backend.Objective
every_second = _backend.every_second
gradient = _backend.gradient
repeat = _backend.repeat
rows_of_this_replica = _backend.rows_of_this_replica
sum_over_replicas = _backend.sum_over_replicas

__all__ = [
    "MetaStep",
    "Objective",
    "Pass",
    "State",
    "every_second",
    "gradient",
    "repeat",
    "rows_of_this_replica",
    "sum_over_replicas",
]
