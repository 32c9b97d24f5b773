"""`MetaModel`: meta-training for any `keras.Model`, as the training step of `fit`.

    Require: a batch of support and query rows, model f(.; theta), loss l
    D1 <- rows 0::2, D2 <- rows 1::2
    draw the holes of D1 and D2                              if there is a `missing` layer
    g <- gradient(l, theta, D1, D2)                          one of `GRADIENTS`; K inner steps
    theta <- optimizer(theta, g)

Reference: M3S, Algorithm 1.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_m3s.meta import (
    backend,
    functional,
    inner_optimizers,
    maml,
    maml_plus_plus,
    mldg,
    passes,
    reptile,
    rows,
)
from keras_m3s.meta.arguments import check_missing, check_steps
from keras_m3s.meta.copying import copy_of
from keras_m3s.meta.functional import Batch, LossOutput, OfOptimizer, State, Tensor, Values
from keras_m3s.meta.inner_optimizers import InnerOptimizer
from keras_m3s.meta.inner_rates import InnerRates
from keras_m3s.meta.inputs import is_modality
from keras_m3s.meta.warn_of_inner_rate import WarnOfInnerRate
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import LEARNED, MissingModality

GRADIENTS: Mapping[str, maml.MetaGradient] = {
    "query": maml.gradient,
    "both": mldg.gradient,
    "every_step": maml_plus_plus.gradient,
    "reptile": reptile.gradient,
}
"""`outer` -> the meta-gradient."""


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
            pattern that `re.search` finds in a variable's path gives its rate. With 0 for all but
            the last layers this is ANIL, `{"head": 0.1, "": 0.0}`.
        first_order: False for the exact, second order gradient.
        outer: What is followed: `"query"`, the gradient of the query loss at theta_K (MAML);
            `"both"`, that and the gradient of the support loss at theta (MLDG); `"every_step"`, the
            mean of the query losses after each inner step (MAML++); `"reptile"`, the sum of all
            gradients on the way.
        inner_optimizer: `"sgd"`, `"adam"`, or an object as in `keras_m3s.meta.inner_optimizers`. It
            starts afresh in each step of `fit`.
        learn_inner_rates: Whether alpha is learned, one for each weight, `inner_learning_rate` at
            first (Meta-SGD).
        same_rows: Whether all rows of a batch are support and query both, under holes of their own.
        tasks: Number of tasks in a batch, each a block of as many rows, whose gradients are
            averaged. Non-trainable state becomes the mean of what the tasks leave.
        support_missing: `MissingModality` for the support rows if it is not the query's, with other
            rates or patterns; for `site="raw"`.

    Raises:
        ValueError: If an argument is out of range, a pattern matches no variable or a variable no
            pattern.

    Reference: M3S, Algorithm 1, eqs. (1) and (2); Finn et al., ICML 2017 (MAML). The files of the
        other gradients name their papers.
    """

    # A subclass with another meta-gradient sets this to another function.
    _gradient: ClassVar[maml.MetaGradient | None] = None

    _objects = (*WithMissing._objects, "inner_optimizer", "support_missing")

    def __init__(
        self,
        model: keras.Model,
        inner_steps: int = 1,
        inner_learning_rate: float | Mapping[str, float] = 1e-4,
        first_order: bool = True,
        outer: str = "query",
        inner_optimizer: str | InnerOptimizer = "sgd",
        learn_inner_rates: bool = False,
        same_rows: bool = False,
        tasks: int = 1,
        support_missing: MissingModality | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, **kwargs)
        check_steps(inner_steps, "inner_steps")
        rates = inner_learning_rate
        rates = dict(rates) if isinstance(rates, Mapping) else {"": rates}
        for pattern, rate in rates.items():
            if not isinstance(rate, (int, float)) or not 0 <= rate < float("inf"):
                raise ValueError(
                    "`inner_learning_rate` must be a finite float >= 0, or a dict from patterns of "
                    f"variable paths to such floats. Received: {rate!r} for {pattern!r}."
                )
        if outer not in GRADIENTS:
            raise ValueError(
                f"`outer` must be one of {list(GRADIENTS)}. Received: outer={outer!r}."
            )
        if not isinstance(tasks, int) or isinstance(tasks, bool) or tasks < 1:
            raise ValueError(f"`tasks` must be an int >= 1. Received: tasks={tasks!r}.")
        check_missing(support_missing, "support_missing")
        if support_missing is not None and (self.missing is None or self.site != "raw"):
            raise ValueError(
                "`support_missing` must go with `missing`, which cuts the query rows, and with "
                f"site='raw'. Received: missing={self.missing}, site={self.site!r}."
            )
        self.inner_steps = inner_steps
        self.inner_learning_rate = inner_learning_rate
        self.first_order = first_order
        self.outer = outer
        self.inner_optimizer = inner_optimizers.get(inner_optimizer)
        self.learn_inner_rates = learn_inner_rates
        self.same_rows = same_rows
        self.tasks = tasks
        self.support_missing = support_missing
        self.built = self.built and self._missing_is_built(self._inputs.shapes)
        self._adapted_loss = keras.metrics.Mean(name="adapted_loss")
        self._rates = {re.compile(pattern): float(rate) for pattern, rate in rates.items()}
        self._learned_rates = InnerRates() if learn_inner_rates else None
        self._build_rates()

    def _missing_is_built(self, shapes: Mapping[str, Any]) -> bool:
        support = getattr(self, "support_missing", None)
        if support is not None and not support.built:
            known = {name: shape for name, shape in shapes.items() if is_modality(name)}
            if not known or not set(support.modalities) <= set(known):
                return False
            support.build(known)
        return super()._missing_is_built(shapes)

    def _build_rates(self) -> None:
        if self._learned_rates is None or self._learned_rates.built or not self.model.built:
            return
        self._learned_rates.build_for(self._adapted_variables(), self.inner_rates())

    def _adapted_variables(self) -> list[keras.Variable]:
        """What the inner loop may change: the trainable variables, but no learned rates."""
        own = () if self._learned_rates is None else self._learned_rates.trainable_variables
        rates = {id(v) for v in own}
        return [v for v in self.trainable_variables if id(v) not in rates]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = super().call(inputs, training)
        self._build_rates()
        return outputs

    def inner_rates(self) -> list[float]:
        """The inner learning rate of each trainable variable, in their order.

        Where rates are learned these are the first ones, and the variables without the rates.
        """
        paths = [v.path for v in self._adapted_variables()]
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

    def train_step(self, *arguments: Any) -> Any:
        return backend.train_step(self, self._batch_gradient, *arguments)

    def _batch_gradient(
        self, theta: Values, state: State, batch: Batch, of_optimizer: OfOptimizer
    ) -> tuple[Values, LossOutput, Batch]:
        """The meta-gradient of a batch, as a pure function; a `functional.BatchGradient`."""
        support, query = (batch, batch) if self.same_rows else rows.split(batch, self.tasks)
        layers = self.support_missing or self.missing, self.missing
        pairs = zip((support, query), layers, strict=True)
        (support, query), state = passes.with_draws(self, theta, state, *pairs)
        loss = passes.loss_of(self, of_optimizer)
        gradient = type(self)._gradient or GRADIENTS[self.outer]
        inner = self._inner_loop(theta, state, of_optimizer.loss_scale)
        if self.tasks > 1:
            results = backend.map_tasks(
                lambda one, other: gradient(loss, theta, state, one, other, inner),
                rows.by_task(support, self.tasks),
                rows.by_task(query, self.tasks),
            )
            gradients, output, at_theta = rows.mean_of_tasks(results)
        else:
            gradients, output, at_theta = gradient(loss, theta, state, support, query, inner)
        output = passes.with_mean_penalty(self, theta, output, query)
        adapted = backend.over_all_replicas(output.loss)
        output = passes.with_mean(self, theta, output, query, self._adapted_loss, adapted)
        return gradients, output._replace(loss=at_theta), query

    def _inner_loop(self, theta: Values, state: State, loss_scale: Tensor | None) -> maml.InnerLoop:
        """Settings of the inner loop, given all values."""
        layer = self.support_missing or self.missing
        # What is learned of T changes from step to step: then each pass applies it.
        once = layer is not None and layer.fill != LEARNED

        def transform(batch: Batch) -> Batch:
            if not once:
                return batch
            with functional.stateless_scope(self, theta, state):
                return (self._transform(batch[0], layer), *batch[1:])

        memories = {id(v) for v in getattr(self.model, "memories", ())}
        rates, learned = self.inner_rates(), None
        if self._learned_rates is not None:
            positions = {id(v): i for i, v in enumerate(self.trainable_variables)}
            own, adapted = self._learned_rates.rates, self._adapted_variables()
            if len(own) != len(adapted):
                raise ValueError(
                    "With `learn_inner_rates` the same variables must be trainable in the first "
                    f"call and ever after. Received: {len(own)} then, {len(adapted)} now. Set "
                    "`trainable` before the first call, for MMIM `mi_gradients=True`."
                )
            of = dict(zip(map(id, adapted), own, strict=True))
            first = dict(zip(of, rates, strict=True))
            rates = [first.get(id(v), 0.0) for v in self.trainable_variables]
            learned = [
                positions[id(of[id(v)])] if id(v) in of else None for v in self.trainable_variables
            ]
        return maml.InnerLoop(
            steps=self.inner_steps,
            rates=rates,
            first_order=self.first_order,
            loss_scale=loss_scale,
            transform=transform,
            optimizer=self.inner_optimizer,
            learned=learned,
            query_only=[id(v) in memories for v in self.non_trainable_variables],
        )

    def adapt(
        self, x: Any, y: Any, steps: int | None = None, sample_weight: Any = None
    ) -> keras.Model:
        """A copy of the model, adapted to a few rows: `steps` inner steps on them.

        Args:
            x: Inputs of the support rows, as they are; no holes are cut but NaN.
            y: Their labels.
            steps: Number of inner steps; `inner_steps` by default.
            sample_weight: Weights of the rows, or `None`.

        Returns:
            A model of the same kind as the wrapped one, compiled with its loss and metrics; inside
            `WithMissing` if this has a `missing` layer.

        Raises:
            ValueError: `steps` is not an int >= 0, or the model cannot be copied, which takes a
                `get_config`.
        """
        steps = self.inner_steps if steps is None else steps
        check_steps(steps, "steps")
        if not self.model.built:
            self(x, training=False)
        batch = keras.tree.map_structure(
            lambda a: None if a is None else ops.convert_to_tensor(a), (x, y, sample_weight)
        )
        theta = [ops.convert_to_tensor(v.value) for v in self.trainable_variables]
        state = State(
            [ops.convert_to_tensor(v.value) for v in self.non_trainable_variables],
            [ops.convert_to_tensor(v.value) for v in self.metrics_variables],
        )
        inner = self._inner_loop(theta, state, None)
        inner = dataclasses.replace(
            inner, steps=steps, transform=lambda given: given, first_order=True
        )
        loss = functools.partial(functional.compute_loss, self)
        adapted = maml.adapt(loss, theta, state, batch, inner)
        missing = None if self.missing is None else copy_of(self.missing)
        model = copy_of(self.model)
        copied = model if missing is None else WithMissing(model, missing, self.site)
        if missing is not None:
            copied.compile()
        values = {
            **dict(zip(map(id, self.trainable_variables), adapted.theta, strict=True)),
            **dict(zip(map(id, self.non_trainable_variables), adapted.state[0], strict=True)),
        }
        for source, target in ((self.model, model), (self.missing, missing)):
            if source is not None and target is not None:
                for old, new in zip(source.variables, target.variables, strict=True):
                    new.assign(ops.convert_to_numpy(values.get(id(old), old)))
        return copied

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
            "outer": self.outer,
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "learn_inner_rates": self.learn_inner_rates,
            "same_rows": self.same_rows,
            "tasks": self.tasks,
            "support_missing": keras.saving.serialize_keras_object(self.support_missing),
        }
        if type(self) is MetaModel and self.missing is None:
            del config["missing"], config["site"], config["consistency"]
        return config
