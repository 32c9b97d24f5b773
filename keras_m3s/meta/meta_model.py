"""`MetaModel`: meta-training for any `keras.Model`, as the training step of `fit`.

    Require: a batch of support and query rows, model f(.; theta), loss l
    D1 <- rows 0::2, D2 <- rows 1::2
    draw the holes of D1 and D2                              if there is a `missing` layer
    g <- maml.gradient(l, theta, D1, D2)                     K inner steps, then the gradient
    theta <- optimizer(theta, g)

Reference: M3S, Algorithm 1.
"""

import functools
import re
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_m3s.meta import backend, functional, maml
from keras_m3s.meta.draws import add_draws
from keras_m3s.meta.functional import Batch, LossOutput, State, Tensor, Values
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import LEARNED

APART = 2.0
"""How many times the loss at theta_K that at theta may be before `fit` warns."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class MetaModel(WithMissing):
    """Trains a model so that a few steps on support rows serve it well on query rows.

    In a batch, rows 0::2 are support and rows 1::2 query; a batch of one row is both. Non-trainable
    state (batch statistics, seeds) is updated by all K + 1 passes, except what the model lists as
    `memories`, which only the query pass updates. Metrics are those of the query rows at theta_K.
    The log has two losses: `loss` at theta, of the weights that are saved and served, on the
    support rows; and `adapted_loss` at theta_K, on the query rows.

    Args:
        model: Any `keras.Model`; its own loss is used, with `add_loss` and regularisers.
        inner_steps: K >= 0. With 0 this is plain training on the query rows.
        inner_learning_rate: alpha, a float >= 0, or a dict from patterns to floats: the first
            pattern that `re.search` finds in a variable's path gives its rate.
        first_order: False for the exact, second order gradient.

    Raises:
        ValueError: If an argument is out of range, a pattern matches no variable or a variable no
            pattern.

    Reference: M3S, Algorithm 1, eqs. (1) and (2); Finn et al., ICML 2017 (MAML).
    """

    # A subclass with another meta-gradient sets this to another function.
    _gradient: ClassVar[maml.MetaGradient] = staticmethod(maml.gradient)

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
        self._adapted_loss = keras.metrics.Mean(name="adapted_loss")
        self._rates = {re.compile(pattern): float(rate) for pattern, rate in rates.items()}

    def inner_rates(self) -> list[float]:
        """The inner learning rate of each of `trainable_variables`, in their order."""
        paths = [v.path for v in self.trainable_variables]
        found = [next((p for p in self._rates if p.search(path)), None) for path in paths]
        unused = [p.pattern for p in self._rates if p not in found]
        left = [path for path, pattern in zip(paths, found, strict=True) if pattern is None]
        if left or (unused and paths):
            raise ValueError(
                "`inner_learning_rate` must give a rate to every trainable variable, and each "
                f"pattern must be the first to fit some. Received: Variables without "
                f"one: {left}; patterns without a variable: {unused}. "
                "Add a last pattern '' for all the rest."
            )
        return [self._rates[pattern] for pattern in found if pattern is not None]

    def make_train_function(self, force: bool = False) -> Any:
        with backend.several_passes():
            return super().make_train_function(force)

    # Keras calls it with `(state, data)` on JAX, elsewhere with `(data)`.
    def train_step(self, *arguments: Any) -> Any:
        return backend.train_step(self, self._batch_gradient, *arguments)

    def _batch_gradient(
        self, theta: Values, state: State, batch: Batch, loss_scale: Tensor | None
    ) -> tuple[Values, LossOutput, Batch]:
        """The meta-gradient of a batch, as a pure function; a `functional.BatchGradient`."""
        support, query = split_rows(batch)
        if self.missing is not None:
            with functional.stateless_scope(self, theta, state) as scope:
                support, query = (
                    (add_draws(self._features(x), self.missing), *others)
                    for x, *others in (support, query)
                )
            state = functional.updated_state(self, state, scope)
        # What is learned of T changes from step to step: then each pass applies it.
        once = self.missing is not None and self.missing.fill != LEARNED

        def transform(batch: Batch) -> Batch:
            if not once:
                return batch
            with functional.stateless_scope(self, theta, state):
                return (self._transform(batch[0]), *batch[1:])

        memories = {id(v) for v in getattr(self.model, "memories", ())}
        inner = maml.InnerLoop(
            steps=self.inner_steps,
            rates=self.inner_rates(),
            first_order=self.first_order,
            loss_scale=loss_scale,
            transform=transform,
            query_only=[id(v) in memories for v in self.non_trainable_variables],
        )
        loss = functools.partial(functional.compute_loss, self)
        gradients, output, at_theta = self._gradient(loss, theta, state, support, query, inner)
        return gradients, self._with_both_losses(theta, output, at_theta, query), query

    def _with_both_losses(
        self, theta: Values, output: LossOutput, at_theta: Tensor, query: Batch
    ) -> LossOutput:
        """The output with the loss at theta, and the mean of those at theta_K among the logs."""
        rows = functional.batch_size(query[0])
        with functional.stateless_scope(self, theta, output.state) as scope:
            loss = backend.over_all_replicas(output.loss)
            self._adapted_loss.update_state(loss, sample_weight=rows)
            mean = self._adapted_loss.result()
        state = functional.updated_state(self, output.state, scope)
        logs = {self._adapted_loss.name: mean}
        return LossOutput(at_theta, output.outputs, state, logs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*super().metrics, self._adapted_loss] if self.compiled else []

    def fit(self, x: Any = None, y: Any = None, *arguments: Any, **settings: Any) -> Any:
        """As `WithMissing.fit`. The log has the loss at theta, of the weights that are saved and
        served, as `loss`, and that at theta_K, after the inner steps, as `adapted_loss`.
        """
        callbacks = settings.get("callbacks") or []
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            each = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            settings["callbacks"] = [*each, WarnOfInnerRate()]
        return super().fit(x, y, *arguments, **settings)

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


class WarnOfInnerRate(keras.callbacks.Callback):
    """Warns once when adapted weights do much better than those that are served."""

    def __init__(self) -> None:
        super().__init__()
        self.warned = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        served, adapted = ((logs or {}).get(name) for name in ("loss", "adapted_loss"))
        if self.warned or epoch == 0 or served is None or adapted is None:
            return
        if float(served) > APART * float(adapted) > 0:
            self.warned = True
            warnings.warn(
                f"The loss of the weights that are served is {float(served):.4g}, after the inner "
                f"steps it is {float(adapted):.4g}: the model needs the inner steps, which serving "
                "does not take. Lower `inner_learning_rate`, or use `WithMissing`.",
                stacklevel=2,
            )


def split_rows(batch: Batch) -> tuple[Batch, Batch]:
    """Support and query rows, 0::2 and 1::2 of every array; of a single row, that row twice."""
    support: Batch = keras.tree.map_structure(_support_rows, batch)
    return support, keras.tree.map_structure(_query_rows, batch)


def _support_rows(array: Tensor | None) -> Tensor | None:
    return None if array is None else backend.every_other(array, 0)


def _query_rows(array: Tensor | None) -> Tensor | None:
    if array is None:
        return None
    size = ops.shape(array)[0]
    if isinstance(size, int):
        return backend.every_other(array, min(1, size - 1))
    return backend.every_other(array, ops.minimum(ops.cast(1, size.dtype), size - 1))
