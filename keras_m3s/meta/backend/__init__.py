"""What a meta step needs of a backend. The backend is chosen here and nowhere else.

Each backend's file defines:

    gradient               gradients of a function of a list of tensors
    repeat                 a step applied K times, with memory flat in K
    all_reduce_sum         sum of gradients over the replicas of a distribution strategy
    over_all_replicas      a replica's loss as that of the whole batch
    map_tasks              a function of each task, vectorised where the backend can
    rows_of_this_replica   random rows of which each replica has its own
    every_other            every second row of an array
    several_passes         a scope in which `fit` compiles a step of several passes
    train_step             `keras.Model.train_step` that follows a given gradient
    weights_survive        a scope of `fit` whose failure leaves the weights
    exporting              the context of an export; an error for those that Keras does not offer
    TrainerOverrides       methods of Keras' trainer that must be overridden on this backend
"""

import keras

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

TrainerOverrides = _backend.TrainerOverrides
all_reduce_sum = _backend.all_reduce_sum
every_other = _backend.every_other
exporting = _backend.exporting
gradient = _backend.gradient
map_tasks = _backend.map_tasks
over_all_replicas = _backend.over_all_replicas
repeat = _backend.repeat
rows_of_this_replica = _backend.rows_of_this_replica
several_passes = _backend.several_passes
train_step = _backend.train_step
weights_survive = _backend.weights_survive

__all__ = [
    "TrainerOverrides",
    "all_reduce_sum",
    "every_other",
    "exporting",
    "gradient",
    "map_tasks",
    "over_all_replicas",
    "repeat",
    "rows_of_this_replica",
    "several_passes",
    "train_step",
    "weights_survive",
]
