"""Replicas of a model trained as one program: `fit_replicas`, `jax.vmap` over their states.

    state_s <- state of build(seed_s)                              for each seed s
    for each epoch:
        for each step:
            state_1 .. state_S <- train_step of all, one program   each on its own batch
        validation of all, one program
        for each s: write state_s into model s, call its callbacks

Within an epoch there is one program; between epochs there are S ordinary Keras models, each with
its own callbacks, which read, save, stop or change that model alone.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.experiments.replica_batches import Source, Validation, aligned_batches, is_dataset
from keras_m3s.experiments.replica_program import Program
from keras_m3s.utils import keras_private
from keras_m3s.utils.backend import set_random_seed

Callbacks = Callable[[int], Sequence[keras.callbacks.Callback]]


def fit_replicas(
    build: Callable[[int], keras.Model],
    seeds: Sequence[int],
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    initial_epoch: int = 0,
    shuffle: bool = True,
    validation_data: Any = None,
    callbacks: Callbacks | None = None,
    validate_averages: bool = False,
) -> list[keras.Model]:
    """Trains a model from several seeds at once, each replica to the numbers of a run by itself.

    Replica s is, up to rounding, the model that `keras.utils.set_random_seed(s)`, `build(s)` and
    its `fit` with the same arguments give. It has its own initial weights, draws, dropout, data
    order, callbacks and history. One that stops early keeps its state while the others go on. On a
    GPU that a single model does not fill, S replicas take little longer than one; on a CPU nothing
    is gained.

    Examples:
        >>> def build(seed):
        ...     holes = m3s.MissingModality((0.4, 0.6), seed=seed)
        ...     model = m3s.M3S(your_model(), missing=holes)
        ...     model.compile(keras.optimizers.Adam(1e-3), loss="mse")
        ...     return model
        >>> models = m3s.fit_replicas(build, range(10), x, y, epochs=10, validation_data=(vx, vy))
        >>> histories = [model.history.history for model in models]

    Args:
        build: Function of a seed that returns a compiled model: any `keras.Model`, `WithMissing`,
            `MetaModel` or `M3S`. The models may differ only in the values of their variables
            (weights, seed states, learning rates), because the first one's code trains all. Their
            randomness must come from seed states, as in Keras' own layers.
        seeds: An int for each replica.
        x: Arrays as for `fit`, which each replica shuffles for itself; or a function of the seed
            that returns a replica's dataset, such as `lambda seed: Batches(split, 32, True, seed)`.
            All must have the same number of batches, of the same shapes.
        y: Labels, if `x` is arrays.
        batch_size: Rows of a batch, if `x` is arrays.
        epochs: Number of the epoch to stop before.
        initial_epoch: Number of the first epoch.
        shuffle: As for `fit`; a dataset brings its own order.
        validation_data: `(x, y)` or a dataset, the same for all; or a function of the seed.
        callbacks: Function of a seed that returns the replica's callbacks. Their `on_train_*` and
            `on_epoch_*` hooks are called, those of single batches included. Hooks of batches get
            logs, but find the weights as they were when the epoch began, and `stop_training` takes
            effect at the end of the epoch. `on_test_*` and `on_predict_*` are not called.
        validate_averages: Whether to validate on the averaged weights of an optimizer with
            `use_ema`, as `keras.callbacks.SwapEMAWeights` does in `fit`.

    Returns:
        The trained models in the order of `seeds`, as `fit` leaves them, with `history`.

    Raises:
        RuntimeError: On a backend other than JAX.
        ValueError: If there is no seed, the models or their batches differ in structure, or a
            dataset is given where each replica needs its own.
    """
    check_backend()
    seeds = list(seeds)
    if not seeds:
        raise ValueError("`seeds` must hold at least one int. Received: none.")
    if not callable(x) and is_dataset(x):
        raise ValueError(
            f"`x` must be arrays or a function of the seed. Received: {type(x).__name__}, of "
            "which each replica must have its own. Pass `lambda seed: ...` that makes it."
        )
    source = Source(x, y, batch_size, shuffle)
    replicas = [_Replica(seed, build, source, callbacks, epochs) for seed in seeds]
    _check_alike(replicas)
    validation = None
    if validation_data is not None:
        validation = Validation(validation_data, batch_size, seeds)
    program = Program(replicas[0].model, len(replicas), validate_averages)
    for epoch in range(initial_epoch, epochs):
        if any(replica.running for replica in replicas):
            _run_epoch(program, replicas, validation, epoch)
    for replica in replicas:
        if replica.running:
            replica.finish()
    return [replica.model for replica in replicas]


def check_backend() -> None:
    """Raises `RuntimeError` on a backend other than JAX."""
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            "Replicas must be trained on JAX, which alone maps a training step over states. "
            f"Received: KERAS_BACKEND={keras.backend.backend()!r}. Set it to jax, or train one "
            "seed after the other."
        )


def runs_on_accelerator() -> bool:
    """Whether Keras runs on JAX with an accelerator, where replicas are faster together."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() != "cpu"


def build_variables(model: keras.Model, batch: Any) -> None:
    """Creates the variables that `fit` would create at its first batch, with the current seed.

    Args:
        model: Compiled.
        batch: A training batch `(x, y)`.
    """
    keras_private.symbolic_build(model, batch)


def _run_epoch(
    program: Program, replicas: "list[_Replica]", validation: Validation | None, epoch: int
) -> None:
    running = [replica.running for replica in replicas]
    active = [replica for replica in replicas if replica.running]
    for replica in active:
        replica.begin(epoch)
    state = program.stacked([replica.state() for replica in replicas])
    logs: list[dict[str, Any]] = [{} for _ in replicas]
    tests = logs
    batches = aligned_batches([replica.batches() for replica in replicas], running)
    for step, rows in enumerate(batches):
        for replica in active:
            replica.callbacks.on_train_batch_begin(step)
        logs, state = program.train(state, rows)
        for replica, log in zip(replicas, logs, strict=True):
            if replica.running:
                replica.callbacks.on_train_batch_end(step, log)
    if validation is not None:
        tests, state = program.validate(state, validation, running)
    for replica, *left in zip(replicas, program.unstacked(state), logs, tests, strict=True):
        if replica.running:
            replica.end(epoch, *left)


class _Replica:
    """A model with its data, its callbacks and its own global random state."""

    def __init__(
        self,
        seed: int,
        build: Callable[[int], keras.Model],
        source: Source,
        callbacks: Callbacks | None,
        epochs: int,
    ) -> None:
        self.seed = seed
        self.running = True
        self.logs: dict[str, Any] = {}
        self._random: Any = None
        with self._own_random_state():
            set_random_seed(seed)
            self.model = build(seed)
            self.model._assert_compile_called("fit_replicas")
            self.data = source.iterator(seed)
            self.model._symbolic_build(iterator=self.data)
            self.data.reset()
            self.callbacks = keras.callbacks.CallbackList(
                list(callbacks(seed)) if callbacks else [],
                add_history=True,
                model=self.model,
                verbose=0,
                epochs=epochs,
                steps=self.data.num_batches,
            )
            self.model.stop_training = False
            self.callbacks.on_train_begin()

    @contextlib.contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Scope in which the global random state of Python and NumPy is this replica's."""
        outside = random.getstate(), np.random.get_state()  # noqa: NPY002
        if self._random is not None:
            _set_random_state(self._random)
        try:
            yield
        finally:
            self._random = random.getstate(), np.random.get_state()  # noqa: NPY002
            _set_random_state(outside)

    def begin(self, epoch: int) -> None:
        """Resets metrics and tells the callbacks that an epoch begins."""
        with self._own_random_state():
            self.model.reset_metrics()
            self.callbacks.on_epoch_begin(epoch)

    def batches(self) -> Iterator[Any]:
        """The batches of an epoch."""
        with self.data.catch_stop_iteration():
            steps = iter(self.data)
            while True:
                with self._own_random_state():
                    step = next(steps, None)
                    batch = None if step is None else next(step[2])
                if step is None:
                    return
                yield batch

    def state(self) -> Any:
        """Values of trainable, non-trainable, optimizer and metrics variables."""
        return self.model._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )

    def end(self, epoch: int, state: Any, logs: Any, tests: Any) -> None:
        """Writes the state after an epoch into the model, then calls the callbacks."""
        names = ("trainable", "non_trainable", "optimizer", "metrics")
        self.model._jax_state = {
            f"{name}_variables": values for name, values in zip(names, state, strict=True)
        }
        self.model._jax_state_synced = False
        self.model.jax_state_sync()
        self.model._jax_state = None
        self.logs = {**_as_numbers(logs), **_as_numbers(tests, "val_")}
        with self._own_random_state():
            self.callbacks.on_epoch_end(epoch, self.logs)
        if self.model.stop_training:
            self.finish()

    def finish(self) -> None:
        """Ends the training of this replica."""
        self.running = False
        self.model.optimizer.finalize_variable_values(self.model.trainable_weights)
        with self._own_random_state():
            self.callbacks.on_train_end(self.logs)


def _check_alike(replicas: list[_Replica]) -> None:
    def kind(replica: _Replica) -> Any:
        return [[(v.shape, str(v.dtype)) for v in part] for part in replica.state()]

    first, *others = replicas
    for other in others:
        if type(other.model) is not type(first.model) or kind(other) != kind(first):
            raise ValueError(
                "`build` must make the same model from every seed, up to the values of its "
                f"variables. Received: a {type(other.model).__name__} for seed {other.seed} whose "
                f"variables are not those of the {type(first.model).__name__} for {first.seed}."
            )
        if other.data.num_batches != first.data.num_batches:
            raise ValueError(
                "All replicas must have the same number of batches. Received: "
                f"{other.data.num_batches} for seed {other.seed}, {first.data.num_batches} for "
                f"seed {first.seed}."
            )


def _as_numbers(logs: Any, prefix: str = "") -> dict[str, Any]:
    numbers = keras_private.pythonify_logs(logs)
    return {f"{prefix}{name}": value for name, value in numbers.items()}


def _set_random_state(state: Any) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
