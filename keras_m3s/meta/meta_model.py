"""`MetaModel`: Algorithm 1 of M3S for any `keras.Model`, as a training step of `fit`.

    Require: a batch that holds support and query rows, K, inner rate alpha
    theta_0 <- theta
    for n = 0 .. K-1:                                        meta-train, on the support rows
        theta_{n+1} <- theta_n - alpha grad_{theta_n} l(f(X1; theta_n), Y1)
    g <- grad_{theta_K} l(f(X2; theta_K), Y2)                meta-update, on the query rows
    theta <- optimizer(theta, g)

The paper's eq. (2) takes the gradient at theta_K and applies it to theta: that is first-order MAML,
the default. `first_order=False` takes it with respect to theta instead, through the inner steps.

Everything here is a pure function of values; what differs between backends (taking a gradient,
looping, where the state lives between steps) is in `primitives`.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_m3s.meta import backend
from keras_m3s.meta.with_missing import WithMissing


@keras.saving.register_keras_serializable(package="keras_m3s")
class MetaModel(backend.MetaStep, WithMissing):
    """Trains a model so that a few steps on support rows serve it well on query rows.

    In a batch, rows 0::2 are support and rows 1::2 query; a batch of one row is both. Non-trainable
    state (batch statistics, seeds) runs through all K + 1 passes, except what the model lists as
    `memories`: these only the query pass writes. Metrics are those of the query rows at theta_K.

    Args:
        model: Any `keras.Model`; its own loss counts, with `add_loss` and regularisers.
        inner_steps: K >= 0. With 0 the query rows are trained on as they are.
        inner_learning_rate: alpha, a float >= 0, or a dict from patterns to floats: the first
            pattern that `re.search` finds in a variable's path gives its rate.
        first_order: False for the exact, second order gradient.

    Raises:
        ValueError: If an argument is out of range, a pattern fits no variable or a variable no
            pattern.

    Reference: M3S, Algorithm 1, eqs. (1) and (2); Finn et al., ICML 2017 (MAML).
    """

    def __init__(
        self,
        model: keras.Model,
        inner_steps: int = 1,
        inner_learning_rate: float | Mapping[str, float] = 1e-4,
        first_order: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, **kwargs)
        if not isinstance(inner_steps, int) or isinstance(inner_steps, bool) or inner_steps < 0:
            raise ValueError(
                f"`inner_steps` must be an int >= 0. Received: inner_steps={inner_steps!r}."
            )
        rates = inner_learning_rate
        rates = dict(rates) if isinstance(rates, Mapping) else {"": rates}
        for pattern, rate in rates.items():
            if not isinstance(rate, (int, float)) or not 0 <= rate < float("inf"):
                raise ValueError(
                    "`inner_learning_rate` must be a finite float >= 0, or a dict from patterns of "
                    f"variable paths to such floats. Received: {rate!r} for {pattern!r}."
                )
        self.inner_steps = inner_steps
        self.inner_learning_rate = inner_learning_rate
        self.first_order = first_order
        self._inner_rates = {re.compile(pattern): float(r) for pattern, r in rates.items()}

    def inner_rates(self) -> list[float]:
        """alpha of each of `trainable_variables`, in their order."""
        paths = [v.path for v in self.trainable_variables]
        found = [next((p for p in self._inner_rates if p.search(path)), None) for path in paths]
        unused = [p.pattern for p in self._inner_rates if p not in found]
        left = [path for path, pattern in zip(paths, found, strict=True) if pattern is None]
        if left or (unused and paths):
            raise ValueError(
                "`inner_learning_rate` must give a rate to every trainable variable, and each "
                f"pattern must be the first to fit some. Received: Variables without "
                f"one: {left}; patterns without a variable: {unused}. "
                "Add a last pattern '' for all the rest."
            )
        return [self._inner_rates[pattern] for pattern in found if pattern is not None]

    def meta_gradient(
        self, trainable: list[Any], state: backend.State, data: Any, scale: Any
    ) -> tuple[list[Any], backend.Pass, Any]:
        """Lines 3 to 11 of Algorithm 1 up to the gradient: no variable is read or written.

        Args:
            trainable: Values of `trainable_variables`, theta.
            state: Values of `non_trainable_variables` and `metrics_variables`.
            data: `(x, y, sample_weight)` of a batch, support and query rows interleaved.
            scale: The factor that the optimizer wants on the loss (mixed precision), or `None`.

        Returns:
            Gradients of the scaled query loss, what the query pass left behind, and its data.
        """
        support, query = split_rows(data)
        state, (support, query) = self._drawn(trainable, state, (support, query))
        rates = self.inner_rates()

        def inner_step(theta: list[Any], state: backend.State, holed: Any) -> tuple[Any, Any]:
            def loss(values: list[Any]) -> tuple[Any, Any]:
                done = self.objective(values, state, holed)
                return done.loss if scale is None else done.loss * scale, done

            gradients, done = backend.gradient(loss, theta, again=not self.first_order)
            gradients = backend.sum_over_replicas(gradients)
            if scale is not None:
                gradients = _unscale(gradients, scale)
            theta = [t - a * g for t, a, g in zip(theta, rates, gradients, strict=True)]
            # Metrics count the query pass alone.
            return theta, backend.State(done.state.non_trainable, state.metrics)

        def adapt(theta: list[Any]) -> tuple[list[Any], backend.State]:
            # Made once for all K steps, and gone before the query rows have theirs.
            x, *others = support
            step = functools.partial(inner_step, holed=(self.prepare(x), *others))
            adapted, after = backend.repeat(
                step, (theta, state), self.inner_steps, again=not self.first_order
            )
            return adapted, self._with_memories_of(state, after)

        def outer_loss(values: list[Any]) -> tuple[Any, Any]:
            theta, after = (values, adapted_state) if self.first_order else adapt(values)
            done = self.objective(theta, after, query)
            return done.loss if scale is None else done.loss * scale, done

        if self.first_order:
            trainable, adapted_state = adapt(trainable)
        gradients, done = backend.gradient(outer_loss, trainable)
        return gradients, done, query

    def _drawn(
        self, trainable: list[Any], state: backend.State, batches: tuple[Any, Any]
    ) -> tuple[backend.State, list[Any]]:
        """Support and query with the draws of their holes (line 3), and the seed state after."""
        with self.scope(trainable, state) as scope:
            drawn = [(self.draw(x), y, weight) for x, y, weight in batches]
        return self.state_after(scope, state), drawn

    def _with_memories_of(self, before: backend.State, after: backend.State) -> backend.State:
        memories = {id(v) for v in getattr(self.model, "memories", ())}
        values = [
            old if id(v) in memories else new
            for v, old, new in zip(
                self.non_trainable_variables, before.non_trainable, after.non_trainable, strict=True
            )
        ]
        return backend.State(values, after.metrics)

    def get_config(self) -> dict[str, Any]:
        rates = self.inner_learning_rate
        config = {
            **super().get_config(),
            "inner_steps": self.inner_steps,
            "inner_learning_rate": dict(rates) if isinstance(rates, Mapping) else rates,
            "first_order": self.first_order,
        }
        if type(self) is MetaModel and self.missing is None:
            del config["missing"], config["site"]
        return config


def split_rows(data: Any) -> tuple[Any, Any]:
    """Rows 0::2 and rows 1::2 of every array; of a single row, that row twice."""
    support = keras.tree.map_structure(_support_rows, data)
    return support, keras.tree.map_structure(_query_rows, data)


def _support_rows(rows: Any) -> Any:
    return None if rows is None else backend.every_second(rows, 0)


def _query_rows(rows: Any) -> Any:
    if rows is None:
        return None
    size = ops.shape(rows)[0]
    if isinstance(size, int):
        return backend.every_second(rows, min(1, size - 1))
    return backend.every_second(rows, ops.minimum(ops.cast(1, size.dtype), size - 1))


def _unscale(gradients: list[Any], scale: Any) -> list[Any]:
    """Takes the loss scale out; where an overflow left no number, this inner step is skipped."""
    gradients = [g / ops.cast(scale, g.dtype) for g in gradients]
    finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in gradients]))
    return [ops.where(finite, g, ops.zeros_like(g)) for g in gradients]
