"""Many replicas of a model trained as one program: `fit_replicas`, `jax.vmap` over their states.

    state_s <- state of build(seed_s)                              for each seed s
    for each epoch:
        for each step:
            state_1 .. state_S <- train_step of all, one program   each on a batch of its own
        validation of all, one program
        for each s: write state_s into model s, call its callbacks

So within an epoch there is one program, and between epochs S ordinary Keras models, each in the
hands of its own callbacks: what they read, save, stop or change is that model's own.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

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
) -> list[keras.Model]:
    """Trains a model from several seeds at once, each replica to the numbers of a run by itself.

    Replica s is what this leaves, to rounding:

    >>> keras.utils.set_random_seed(s)
    >>> model = build(s)
    >>> model.fit(x, y, ...)                              # the same arguments

    It has initial weights, draws, dropout, data order, callbacks and history of its own. One that
    stops early keeps what it then has, while the others go on. On a GPU that a single model does
    not fill, S replicas take little longer than one; on a CPU they gain nothing.

    Example:

    >>> def build(seed):
    ...     holes = m3s.MissingModality((0.4, 0.6), seed=seed)
    ...     model = m3s.M3S(your_model(), missing=holes)
    ...     model.compile(keras.optimizers.Adam(1e-3), loss="mse")
    ...     return model
    >>> models = m3s.fit_replicas(build, range(10), x, y, epochs=10, validation_data=(vx, vy))
    >>> histories = [model.history.history for model in models]

    Args:
        build: Seed to a compiled model: any `keras.Model`, `WithMissing`, `MetaModel` or `M3S`. The
            models may differ in the values of their variables only (weights, seed states, learning
            rates), for it is the first one's code that trains all; and what is random in them must
            come from seed states, as in Keras' own layers.
        seeds: An int for each replica.
        x: Arrays as for `fit`, shuffled by each replica for itself; or a function of the seed that
            gives a replica its dataset, as `lambda seed: Batches(split, 32, True, seed)`. All must
            have as many batches, of the same shapes.
        y: Labels, where `x` is arrays.
        batch_size: Rows of a batch, where `x` is arrays.
        epochs: The epoch to stop before.
        initial_epoch: The first epoch's number.
        shuffle: As of `fit`; a dataset brings its own order.
        validation_data: `(x, y)` or a dataset, the same for all; or a function of the seed.
        callbacks: Seed to the callbacks of its replica. At batches they get logs, but find the
            weights as the epoch began; those for single batches of evaluation are not called, and
            `stop_training` counts when the epoch ends.

    Returns:
        The trained models in the order of `seeds`, as `fit` leaves them, `history` and all.

    Raises:
        RuntimeError: On a backend other than JAX.
        ValueError: If there is no seed, the models or their batches are not alike, or a dataset is
            given where each replica must have its own.
    """
    check_backend()
    seeds = list(seeds)
    if not seeds:
        raise ValueError("`seeds` must hold at least one int. Received: none.")
    if not callable(x) and _is_dataset(x):
        raise ValueError(
            f"`x` must be arrays or a function of the seed. Received: {type(x).__name__}, of "
            "which each replica must have its own. Pass `lambda seed: ...` that makes it."
        )
    training = _Data(x, y, batch_size, shuffle)
    replicas = [_Replica(seed, build, training, callbacks, epochs) for seed in seeds]
    _check_alike(replicas)
    validation = None
    if validation_data is not None:
        validation = _Validation(validation_data, batch_size, replicas)
    program = _Program(replicas[0].model, len(replicas))
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


def worth_it() -> bool:
    """Whether replicas are faster together than one by one here: on JAX, with an accelerator."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() != "cpu"


def build_variables(model: keras.Model, batch: Any) -> None:
    """Makes all variables now that `fit` would make at its first batch, from the random state now.

    Args:
        model: Compiled.
        batch: `(x, y)` as it is trained on.
    """
    model._symbolic_build(data_batch=batch)


def _run_epoch(
    program: "_Program", replicas: "list[_Replica]", validation: "_Validation | None", epoch: int
) -> None:
    running = [replica for replica in replicas if replica.running]
    for replica in running:
        replica.begin(epoch)
    state = program.stacked([replica.state() for replica in replicas])
    logs: list[dict[str, Any]] = [{} for _ in replicas]
    tests = logs
    for step, batches in enumerate(_side_by_side(replicas, [r.batches() for r in replicas])):
        for replica in running:
            replica.callbacks.on_train_batch_begin(step)
        logs, state = program.train(state, batches)
        for replica, log in zip(replicas, logs, strict=True):
            if replica.running:
                replica.callbacks.on_train_batch_end(step, log)
    if validation is not None:
        tests, state = validation.run(program, state)
    for replica, *left in zip(replicas, program.unstacked(state), logs, tests, strict=True):
        if replica.running:
            replica.end(epoch, *left)


def share_predict(first: keras.Model, other: keras.Model) -> None:
    """Lets a model predict by the program of another one that is like it, its own values in it.

    Args:
        first: A model.
        other: The same but for the values of its variables.
    """
    first.make_predict_function()
    other.predict_function = first.predict_function


class _Data:
    """Where a replica's batches come from: the iterator of `fit`, over the same arguments."""

    def __init__(self, x: Any, y: Any, batch_size: int | None, shuffle: bool) -> None:
        self.x, self.y, self.batch_size, self.shuffle = x, y, batch_size, shuffle

    def iterator(self, seed: int) -> Any:
        if callable(self.x):
            return keras_private.jax_epoch_iterator(self.x(seed), shuffle=False)
        x, y, weight = keras.utils.unpack_x_y_sample_weight(
            self.x if isinstance(self.x, tuple) else (self.x, self.y)
        )
        return keras_private.jax_epoch_iterator(x, y, weight, self.batch_size, shuffle=self.shuffle)


class _Replica:
    """A model with its data and callbacks, and the global random state it would have alone."""

    def __init__(
        self,
        seed: int,
        build: Callable[[int], keras.Model],
        data: _Data,
        callbacks: Callbacks | None,
        epochs: int,
    ) -> None:
        self.seed = seed
        self.running = True
        self.logs: dict[str, Any] = {}
        self._random: Any = None
        with self._alone():
            set_random_seed(seed)
            self.model = build(seed)
            self.model._assert_compile_called("fit_replicas")
            self.data = data.iterator(seed)
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
    def _alone(self) -> Iterator[None]:
        """In this scope Python's and NumPy's random numbers are those of this replica."""
        outside = random.getstate(), np.random.get_state()  # noqa: NPY002
        if self._random is not None:
            _set_random_state(self._random)
        try:
            yield
        finally:
            self._random = random.getstate(), np.random.get_state()  # noqa: NPY002
            _set_random_state(outside)

    def begin(self, epoch: int) -> None:
        with self._alone():
            self.model.reset_metrics()
            self.callbacks.on_epoch_begin(epoch)

    def batches(self) -> Iterator[Any]:
        """The batches of an epoch."""
        with self.data.catch_stop_iteration():
            steps = iter(self.data)
            while True:
                with self._alone():
                    step = next(steps, None)
                    batch = None if step is None else next(step[2])
                if step is None:
                    return
                yield batch

    def state(self) -> Any:
        """Trainable, non-trainable, optimizer's and metrics' values."""
        return self.model._get_jax_state(True, True, True, True)

    def end(self, epoch: int, state: Any, logs: Any, tests: Any) -> None:
        """Takes over what an epoch left, and lets the callbacks see it."""
        names = ("trainable", "non_trainable", "optimizer", "metrics")
        self.model._jax_state = {
            f"{name}_variables": values for name, values in zip(names, state, strict=True)
        }
        self.model._jax_state_synced = False
        self.model.jax_state_sync()
        self.model._jax_state = None
        self.logs = {**_as_numbers(logs), **_as_numbers(tests, "val_")}
        with self._alone():
            self.callbacks.on_epoch_end(epoch, self.logs)
        if self.model.stop_training:
            self.finish()

    def finish(self) -> None:
        self.running = False
        self.model.optimizer.finalize_variable_values(self.model.trainable_weights)
        with self._alone():
            self.callbacks.on_train_end(self.logs)


class _Validation:
    """Validation of all replicas: on one dataset that they share, or each on its own."""

    def __init__(self, data: Any, batch_size: int | None, replicas: list[_Replica]) -> None:
        self.shared = not callable(data)
        self.replicas = replicas
        source = _Data(data, None, batch_size, shuffle=False)
        if self.shared and _is_dataset(data):
            source.x = lambda _: data
        seeds = [replica.seed for replica in (replicas[:1] if self.shared else replicas)]
        self.iterators = [source.iterator(seed) for seed in seeds]

    def run(self, program: "_Program", state: Any) -> tuple[list[dict[str, Any]], Any]:
        """Each replica's logs, and the state after it."""
        trainable, non_trainable, optimizer, _ = state
        test_state = (trainable, non_trainable, program.fresh_metrics())
        logs: list[dict[str, Any]] = [{} for _ in self.replicas]
        for iterator in self.iterators:
            iterator.reset()
        sources = [_each(iterator) for iterator in self.iterators]
        batches = sources[0] if self.shared else _side_by_side(self.replicas, sources)
        for batch in batches:
            logs, test_state = program.test(test_state, batch, self.shared)
        trainable, non_trainable, metrics = test_state
        return logs, (trainable, non_trainable, optimizer, metrics)


def _each(iterator: Any) -> Iterator[Any]:
    with iterator.catch_stop_iteration():
        for _, _, batches in iterator:
            yield next(batches)


class _Program:
    """The compiled functions of S replicas: the steps of `model`, mapped over a first axis.

    Args:
        model: Its code is every replica's.
        size: S.
    """

    def __init__(self, model: keras.Model, size: int) -> None:
        import jax

        model.reset_metrics()
        fresh = [np.stack([np.asarray(v)] * size) for v in model.metrics_variables]

        def stack(parts: Any) -> Any:
            return jax.tree.map(lambda *one: jax.numpy.stack(one), *parts)

        def unstack(whole: Any) -> list[Any]:
            def one(i: int) -> Any:
                return jax.tree.map(lambda value: value[i], whole)

            return [one(i) for i in range(size)]

        def train(state: Any, batches: Any) -> Any:
            logs, state = jax.vmap(model.train_step)(state, stack(batches))
            return unstack(logs), state

        def test(state: Any, batches: Any, shared: bool) -> Any:
            data = batches if shared else stack(batches)
            logs, state = jax.vmap(model.test_step, (0, None if shared else 0))(state, data)
            return unstack(logs), state

        self.stacked, self.unstacked = jax.jit(stack), jax.jit(unstack)
        self.train = jax.jit(train, donate_argnums=0)
        self.test = jax.jit(test, donate_argnums=0, static_argnums=2)
        self.fresh_metrics = lambda: [jax.numpy.array(value) for value in fresh]


def _side_by_side(replicas: list[_Replica], sources: list[Iterator[Any]]) -> Iterator[Any]:
    """A list of all replicas' batches a step; one that has stopped goes on with another's."""
    import jax

    running = [source for r, source in zip(replicas, sources, strict=True) if r.running]
    for batches in zip(*running, strict=True):
        shapes = [jax.tree.map(np.shape, batch) for batch in batches]
        if any(one != shapes[0] for one in shapes):
            raise ValueError(
                "All replicas must get batches of the same shapes. Received: "
                f"{shapes[0]} and {next(one for one in shapes if one != shapes[0])}. Leave out "
                "what cuts or drops rows and steps by their order (`buckets=True`)."
            )
        left = iter(batches)
        yield [next(left) if r.running else batches[0] for r in replicas]


def _check_alike(replicas: list[_Replica]) -> None:
    def kind(replica: _Replica) -> Any:
        return [[(v.shape, str(v.dtype)) for v in part] for part in replica.state()]

    first, *others = replicas
    for other in others:
        if type(other.model) is not type(first.model) or kind(other) != kind(first):
            raise ValueError(
                "`build` must make the same model from every seed, but for the values of its "
                f"variables. Received: a {type(other.model).__name__} for seed {other.seed} whose "
                f"variables are not those of the {type(first.model).__name__} for {first.seed}."
            )
        if other.data.num_batches != first.data.num_batches:
            raise ValueError(
                "All replicas must have as many batches. Received: "
                f"{other.data.num_batches} for seed {other.seed}, {first.data.num_batches} for "
                f"seed {first.seed}."
            )


def _is_dataset(x: Any) -> bool:
    """Whether `x` brings its own batches, rather than rows."""
    return not isinstance(x, (dict, list, tuple)) and not hasattr(x, "shape")


def _as_numbers(logs: Any, prefix: str = "") -> dict[str, Any]:
    numbers = keras_private.pythonify_logs(logs)
    return {f"{prefix}{name}": value for name, value in numbers.items()}


def _set_random_state(state: Any) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
