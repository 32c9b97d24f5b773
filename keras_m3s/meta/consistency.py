"""Consistency: one row, two draws of its holes, one prediction.

    x1, x2 <- T(x) under two draws                          the same rows
    minimise l(f(x1), y) / 2 + l(f(x2), y) / 2 + weight * D(f(x1), f(x2))

or with a teacher, which sees what was measured and is not followed by the gradient:

    minimise l(f(x1), y) + weight * D(f(x1), stop(g(x)))    g: f itself, or its averaged weights

A difference of scores is divided by the variance of the batch's predictions: else the penalty is
least where all predictions are the mean. `DIVERGENCES` has the forms of D.

Reference: Sajjadi et al., Regularization with stochastic transformations, NeurIPS 2016, for two
draws; Tarvainen & Valpola, Mean teachers, NeurIPS 2017, for averaged weights.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_m3s.meta.functional import Tensor
from keras_m3s.missing import MissingModality

TEACHERS = ("complete", "average")

SMALL = 1e-6


def squared_difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of scores `(batch, ...)`."""
    return ops.mean(ops.square(first - second))


def over_variance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of scores over their variance in the batch: free of their scale."""
    both = ops.concatenate([first, second], axis=0)
    variance = ops.mean(ops.square(both - ops.mean(both, axis=0, keepdims=True)))
    return squared_difference(first, second) / (variance + SMALL)


def symmetric_kl(first: Tensor, second: Tensor) -> Tensor:
    """Mean of KL(p || q) and KL(q || p) of classes.

    Args:
        first: Logits or log probabilities `(batch, ..., classes)`.
        second: The same.
    """
    log_p, log_q = ops.log_softmax(first, axis=-1), ops.log_softmax(second, axis=-1)
    each = 0.5 * (ops.exp(log_p) - ops.exp(log_q)) * (log_p - log_q)
    return ops.mean(ops.sum(each, axis=-1))


def scaled_kl(first: Tensor, second: Tensor) -> Tensor:
    """`symmetric_kl` over that between the rows' and the batch's mean distribution."""
    both = ops.log_softmax(ops.concatenate([first, second], axis=0), axis=-1)
    mean = ops.log(ops.mean(ops.exp(both), axis=0, keepdims=True) + SMALL)
    return symmetric_kl(first, second) / (symmetric_kl(both, mean) + SMALL)


DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "variance": over_variance,
    "difference": squared_difference,
    "kl": symmetric_kl,
    "scaled_kl": scaled_kl,
}
OF_CLASSES = ("kl", "scaled_kl")


@keras.saving.register_keras_serializable(package="keras_m3s")
class Consistency:
    """Settings of the penalty.

    Args:
        weight: Its weight >= 0, or for a model with several outputs a dict from their names (the
            numbers of a list, as strings) to weights; outputs without one have no penalty.
        divergence: A key of `DIVERGENCES`, or `"auto"`: `"kl"` for outputs with a crossentropy loss
            or int labels, else `"variance"`.
        layer: Name of a layer whose output is compared instead of the model's.
        teacher: `None` for two draws; `"complete"` for the model on what was measured; `"average"`
            for the optimizer's averaged weights on it, which takes an optimizer with `use_ema`.

    Raises:
        ValueError: A value is none of these.
    """

    def __init__(
        self,
        weight: float | Mapping[str, float] = 1.0,
        divergence: str = "auto",
        layer: str | None = None,
        teacher: str | None = None,
    ) -> None:
        weights = weight.values() if isinstance(weight, Mapping) else [weight]
        if not all(isinstance(w, (int, float)) and 0 <= w < float("inf") for w in weights):
            raise ValueError(
                "`consistency` must be a finite float >= 0, a dict of such, or a `Consistency`. "
                f"Received: {weight!r}."
            )
        if divergence != "auto" and divergence not in DIVERGENCES:
            raise ValueError(
                f"`divergence` must be 'auto' or one of {list(DIVERGENCES)}. "
                f"Received: {divergence!r}."
            )
        if teacher is not None and teacher not in TEACHERS:
            raise ValueError(
                f"`teacher` must be None or one of {TEACHERS}. Received: teacher={teacher!r}."
            )
        if layer is not None and (isinstance(weight, Mapping) or divergence in OF_CLASSES):
            raise ValueError(
                "With `layer` there must be one weight, and a divergence of scores. "
                f"Received: weight={weight!r}, divergence={divergence!r}."
            )
        self.weight = weight
        self.divergence = divergence
        self.layer = layer
        self.teacher = teacher

    def penalty(self, model: keras.Model, y: Any, first: Any, second: Any) -> Tensor:
        """Weighted sum of the divergences of all outputs, a float32 scalar.

        Args:
            model: The model, for the names and losses of its outputs.
            y: Labels, in the structure of the outputs.
            first: Outputs under one draw, or what `recorded` found of a layer.
            second: Those of the same rows under the other, or the teacher's.
        """
        if self.layer is not None:
            form = DIVERGENCES["variance" if self.divergence == "auto" else self.divergence]
            pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
            terms = [form(*map(_float32, pair)) for pair in pairs]
            return self._weight_of("") * sum(terms) / max(1, len(terms))
        total = ops.zeros((), "float32")
        losses, labels = _by_output(first, model.loss), _by_output(first, y)
        for name, pair in _paired(first, second).items():
            if not self._weight_of(name):
                continue
            of_classes, are_logits = _kind(losses.get(name), labels.get(name))
            chosen = self.divergence
            if chosen == "auto":
                chosen = "kl" if of_classes else "variance"
            one, other = map(_float32, pair)
            if chosen in OF_CLASSES:
                one, other = _logits(one, are_logits), _logits(other, are_logits)
            total += self._weight_of(name) * DIVERGENCES[chosen](one, other)
        return total

    def check_names(self, outputs: Any) -> None:
        """Raises `ValueError` if a weight is for an output that there is not."""
        names = set(_paired(outputs, outputs))
        given = set(self.weight) if isinstance(self.weight, Mapping) else set()
        if given and names == {""}:
            raise ValueError(
                "`consistency` must be a number for a model with one output. "
                f"Received: weights for {sorted(given)}."
            )
        if given - names:
            raise ValueError(
                f"`consistency` must name outputs of the model, {sorted(names)}. "
                f"Received: {sorted(given)}."
            )

    def _weight_of(self, name: str) -> float:
        if isinstance(self.weight, Mapping):
            return float(self.weight.get(name, 0.0))
        return float(self.weight)

    def get_config(self) -> dict[str, Any]:
        weight = dict(self.weight) if isinstance(self.weight, Mapping) else self.weight
        return {
            "weight": weight,
            "divergence": self.divergence,
            "layer": self.layer,
            "teacher": self.teacher,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Consistency":
        return cls(**config)


def get(
    consistency: float | Mapping[str, float] | Consistency | None,
    teacher: str | None,
    missing: MissingModality | None,
) -> Consistency | None:
    """Settings from the arguments of a wrapper; `None` if neither is given.

    Raises:
        ValueError: They contradict one another, or there is no layer that cuts holes.
    """
    if missing is None and (consistency is not None or teacher is not None):
        raise ValueError(
            "`consistency` and `teacher` must go with `missing`, which cuts the holes. "
            "Received: missing=None."
        )
    if isinstance(consistency, Consistency):
        if teacher is not None and teacher != consistency.teacher:
            raise ValueError(
                "`teacher` must be left out where `consistency` has one. "
                f"Received: teacher={teacher!r}, {consistency.teacher!r}."
            )
        return consistency
    if consistency is None:
        return None if teacher is None else Consistency(teacher=teacher)
    return Consistency(consistency, teacher=teacher)


@contextlib.contextmanager
def recorded(model: keras.Model, name: str | None) -> Iterator[list[Tensor]]:
    """A list of what the layer of that name returns, in the order of its calls.

    Args:
        model: The model that has it, at any depth.
        name: Its name; `None` records nothing.

    Raises:
        ValueError: The model has no such layer.
    """
    outputs: list[Tensor] = []
    if name is None:
        yield outputs
        return
    layers = {layer.name: layer for layer in _all_layers(model)}
    if name not in layers:
        raise ValueError(f"`layer` must be one of {sorted(layers)}. Received: layer={name!r}.")
    layer, call = layers[name], layers[name].call

    def recording(*arguments: Any, **keywords: Any) -> Any:
        found = call(*arguments, **keywords)
        outputs.append(found)
        return found

    layer.call = recording
    try:
        yield outputs
    finally:
        del layer.call  # the method of its class is there again


def _all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        found.append(layer)
    return found


def halves(outputs: Any) -> tuple[Any, Any]:
    """Rows 0::2 and 1::2 of all outputs: those of either draw."""

    def part(array: Tensor, which: int) -> Tensor:
        pairs = ops.reshape(array, (-1, 2, *array.shape[1:]))
        return pairs[:, which]

    return (
        keras.tree.map_structure(lambda array: part(array, 0), outputs),
        keras.tree.map_structure(lambda array: part(array, 1), outputs),
    )


def twice(batch: Any) -> Any:
    """Each row of a batch twice, one after the other."""
    return keras.tree.map_structure(
        lambda array: None if array is None else ops.repeat(array, 2, axis=0), batch
    )


def _float32(values: Tensor) -> Tensor:
    return ops.cast(values, "float32")


def _paired(first: Any, second: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Name of an output -> both; of a single one ''."""
    if isinstance(first, Mapping):
        return {name: (first[name], second[name]) for name in first}
    if isinstance(first, Sequence):
        pairs = zip(first, second, strict=True)
        return {str(number): pair for number, pair in enumerate(pairs)}
    return {"": (first, second)}


def _by_output(outputs: Any, of_outputs: Any) -> dict[str, Any]:
    """What is given for each output, under the names of `_paired`."""
    if isinstance(outputs, Mapping):
        if isinstance(of_outputs, Mapping):
            return dict(of_outputs)
        return dict.fromkeys(outputs, of_outputs)
    if isinstance(outputs, Sequence):
        if isinstance(of_outputs, (list, tuple)):
            return {str(number): one for number, one in enumerate(of_outputs)}
        return {str(number): of_outputs for number in range(len(outputs))}
    return {"": of_outputs}


def _kind(loss: Any, labels: Any) -> tuple[bool, bool]:
    """Whether an output is of classes, and whether it has logits rather than probabilities."""
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    if "crossentropy" in str(name):
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
        return True, bool(config.get("from_logits", False))
    kind = "" if labels is None else keras.backend.standardize_dtype(labels.dtype)
    return "int" in kind, True


def _logits(values: Tensor, are_logits: bool) -> Tensor:
    """Logits, or log probabilities, of all classes; of one output those of two classes."""
    if values.shape[-1] == 1:
        if are_logits:
            return ops.concatenate([ops.zeros_like(values), values], axis=-1)
        values = ops.concatenate([1.0 - values, values], axis=-1)
    return values if are_logits else ops.log(values + SMALL)
