"""The layer `MissingModality`: T(X;F) of M3S, section 3.2, with draws of its own.

Draws come from the layer's seed state, or with the batch; `transform.apply` cuts the holes that
they decide.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s import registry
from keras_m3s.missing.transform import apply, sample_draws
from keras_m3s.modalities import DRAWS, MODALITIES, TEXT_BERT, length_key
from keras_m3s.registry import patterns

AXES = ("time", "feature")


@keras.saving.register_keras_serializable(package="keras_m3s")
class MissingModality(keras.layers.Layer):
    """Zeroes random parts of each modality of a dict, anew at each call: by default one run.

    In training (and where `training` is not said) fresh draws come from the layer's seed state;
    if the inputs hold `draws`, those decide instead, in training and in evaluation alike, so that
    fixed holes are a matter of the data. Without them evaluation leaves the inputs as they are.

    Examples:
        >>> layer = MissingModality(missing_rate=(0.4, 0.6), seed=0)
        >>> holed = layer({"audio": a, "vision": v, "text": t, "audio_length": n})

        The protocols that are in use beside the paper's:

        >>> MissingModality((0, 1), pattern="frames")          # P1 in training: r ~ U(0, 1)
        >>> MissingModality(0.3, pattern="frames")             # P1 in testing, at one of its rates
        >>> six = patterns.MMIN_CONDITIONS.values()
        >>> MissingModality(pattern="modality", conditions=six)     # P3: MMIN's six conditions
        >>> MissingModality((0, 0.7), pattern="modality")      # P3: at random, one modality kept
        >>> MissingModality({"audio": 0.7, "vision": 0.4, "text": 0.1})   # P4: imbalanced rates

    Args:
        missing_rate: Range `(low, high)` within [0, 1] or a single number for every modality, or a
            dict modality -> range or number; the dict's keys then are the modalities, and others
            stay whole.
        axis: `"time"` or `"feature"`, see `apply`.
        seed: Int or `None`.
        modalities: Names of the modalities, where `missing_rate` is one range for all.
        pattern: What is missing at a rate: `"span"`, one run as in the paper; `"frames"`, each
            position by itself; `"modality"`, each modality as a whole, though never all of them.
        conditions: With `pattern="modality"`, sets of modalities that are missing together: one of
            them, each with the same chance, holds for a sample, and the rates do not count. An
            empty set is a complete sample.

    Raises:
        ValueError: If a rate is no range within [0, 1], a modality is missing from the inputs or
            has too few axes, batch sizes differ, the draws' shape does not fit, or conditions do
            not go with the pattern or the modalities.

    Reference: M3S, section 3.2 and Algorithm 1, line 3; for the patterns
        `keras_m3s.missing.patterns`.
    """

    def __init__(
        self,
        missing_rate: Any = (0.4, 0.6),
        axis: str = "time",
        seed: int | None = None,
        modalities: Sequence[str] = MODALITIES,
        pattern: str = patterns.PAPER,
        conditions: Iterable[Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        # Neither features nor draws may be cast on the way in: float16 cannot hold a uniform well.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        if axis not in AXES:
            raise ValueError(f"`axis` must be one of {AXES}. Received: axis={axis!r}")
        if not isinstance(missing_rate, Mapping):
            missing_rate = dict.fromkeys(modalities, missing_rate)
        if not missing_rate:
            raise ValueError("`missing_rate` must name at least one modality. Received: none.")
        self.missing_rate = {name: _rate_range(name, r) for name, r in missing_rate.items()}
        registry.require("pattern", pattern, patterns.CARDS)
        self.axis = axis
        self.pattern = pattern
        self.conditions = _conditions(conditions, pattern, tuple(self.missing_rate))
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the draws."""
        return tuple(self.missing_rate)

    def sample_draws(self, batch_size: Any) -> Any:
        """Fresh draws `(batch_size, modalities, 2)` from the layer's seed state."""
        return sample_draws(batch_size, len(self.missing_rate), self.seed_generator)

    def call(self, inputs: Mapping[str, Any], training: bool | None = True) -> dict[str, Any]:
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"`inputs` must be a dict with the modalities {self.modalities}. "
                f"Received: {type(inputs).__name__}."
            )
        features = {name: value for name, value in inputs.items() if name != DRAWS}
        draws = inputs.get(DRAWS)
        if draws is None and training is False:
            return features
        batch_size = self._check(features)
        if draws is None:
            draws = self.sample_draws(batch_size)
        elif tuple(draws.shape[1:]) != (len(self.missing_rate), 2):
            raise ValueError(
                f"`draws` must have shape (batch, {len(self.missing_rate)}, 2), two uniforms for "
                f"each of {self.modalities}. Received: shape {tuple(draws.shape)}."
            )
        how = (self.axis, self.pattern, self.conditions)
        return apply(features, draws, self.missing_rate, *how)

    def _check(self, inputs: Mapping[str, Any]) -> Any:
        """Raises what the class docstring says; returns the batch size."""
        tokens = self.axis == "time" and "text" in self.missing_rate and TEXT_BERT in inputs
        absent = [m for m in self.missing_rate if m not in inputs and not (m == "text" and tokens)]
        if absent:
            raise ValueError(
                f"`inputs` must hold the modalities {self.modalities}. Received: "
                f"{tuple(inputs)}. For an absent modality pass zeros."
            )
        present = {m: inputs[m] for m in self.missing_rate if m in inputs}
        least = 3 if self.axis == "time" else 2
        wanted = "(batch, steps, ...)" if self.axis == "time" else "(batch, ..., dim)"
        for name, value in present.items():
            if len(value.shape) < least:
                raise ValueError(
                    f"With axis={self.axis!r} `{name}` must have shape {wanted}. Received: shape "
                    f"{tuple(value.shape)}. Vectors take axis='feature'."
                )
        if tokens:
            present[TEXT_BERT] = inputs[TEXT_BERT]
            if tuple(inputs[TEXT_BERT].shape[1:2]) != (3,):
                raise ValueError(
                    "`text_bert` must have shape (batch, 3, steps): token ids, mask, segments. "
                    f"Received: shape {tuple(inputs[TEXT_BERT].shape)}."
                )
        lengths = (length_key(m) for m in self.missing_rate)
        counted = {**present, **{key: inputs[key] for key in lengths if key in inputs}}
        sizes = {name: value.shape[0] for name, value in counted.items()}
        if len({size for size in sizes.values() if size is not None}) > 1:
            raise ValueError(f"All inputs must have the same batch size. Received: {sizes}.")
        return ops.shape(next(iter(present.values())))[0]

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {name: shape for name, shape in input_shape.items() if name != DRAWS}

    def save_own_variables(self, store: Any) -> None:
        """Keeps the seed state, which Keras leaves out: a resumed run goes on to new holes."""
        super().save_own_variables(store)
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        self.seed_generator.state.assign(store["seed_state"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "missing_rate": {name: list(rate) for name, rate in self.missing_rate.items()},
            "axis": self.axis,
            "seed": self.seed,
            "pattern": self.pattern,
            "conditions": None if self.conditions is None else [list(c) for c in self.conditions],
        }


def _rate_range(name: str, rate: Any) -> tuple[float, float]:
    """`rate` as `(low, high)`; a single number means both."""
    try:
        low, high = (float(rate), float(rate)) if np.ndim(rate) == 0 else map(float, rate)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise ValueError(
            "`missing_rate` must be a range (low, high) with 0 <= low <= high <= 1. "
            f"Received: missing_rate={rate!r} for {name!r}."
        )
    return low, high


def _conditions(
    conditions: Iterable[Sequence[str]] | None, pattern: str, modalities: tuple[str, ...]
) -> tuple[tuple[str, ...], ...] | None:
    """`conditions` as tuples, checked."""
    if conditions is None:
        return None
    if not patterns.CARDS[pattern].takes_conditions:
        taking = [name for name, card in patterns.CARDS.items() if card.takes_conditions]
        raise ValueError(
            f"`conditions` must go with a pattern that takes them, one of {taking}. "
            f"Received: pattern={pattern!r}."
        )
    # A single word is a sequence of letters, hardly what is meant.
    found = tuple((c,) if isinstance(c, str) else tuple(c) for c in conditions)
    if not found or any(not set(c) < set(modalities) for c in found):
        raise ValueError(
            "`conditions` must be one or more sets of missing modalities, each leaving one of "
            f"{modalities}. Received: {found}."
        )
    return found
