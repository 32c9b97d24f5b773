"""The compiled steps of replicas: one model's, mapped over a leading axis of their states."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s.experiments.replica_batches import Validation
from keras_m3s.utils import keras_private


class Program:
    """Compiled steps of S replicas: those of one model, mapped over a leading axis of size S.

    Args:
        model: The model whose code all replicas run.
        size: S.
        validate_averages: As of `fit_replicas`.
    """

    def __init__(self, model: keras.Model, size: int, validate_averages: bool) -> None:
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
        # `test` reuses the memory of what it is given, and averages are needed again.
        self.copied = lambda values: [jax.numpy.copy(value) for value in values]
        self.averages = _places_of_averages(model) if validate_averages else None

    def validate(
        self, state: Any, validation: Validation, running: Sequence[bool]
    ) -> tuple[list[dict[str, Any]], Any]:
        """Logs of each replica on its validation data, and the state afterwards."""
        trainable, non_trainable, optimizer, _ = state
        tested = trainable
        if self.averages is not None:
            tested = self.copied(optimizer[place] for place in self.averages)
        test_state = (tested, non_trainable, self.fresh_metrics())
        logs: list[dict[str, Any]] = [{} for _ in running]
        for batches in validation.batches(running):
            logs, test_state = self.test(test_state, batches, validation.shared)
        tested, non_trainable, metrics = test_state
        trainable = tested if self.averages is None else trainable
        return logs, (trainable, non_trainable, optimizer, metrics)


def _places_of_averages(model: keras.Model) -> list[int] | None:
    """Where in the optimizer's variables the averages of the weights are, if it keeps them."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return None
    places = {id(variable): place for place, variable in enumerate(model.optimizer.variables)}
    kept = keras_private.averages(optimizer, model.trainable_variables)
    return [places[id(variable)] for variable in kept]
