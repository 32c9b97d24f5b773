"""The layer `MissingModality`: T(X;F) of M3S, section 3.2, with draws of its own.

Draws come from the layer's seed state, or with the batch; `transform.cut` makes the holes that they
decide, beside those that the data has by itself (NaN).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_m3s.missing import mixture, views
from keras_m3s.missing.arguments import (
    as_axes,
    as_conditions,
    as_fillings,
    as_groups,
    as_range,
    check_channels,
    check_inputs,
    grouped_columns,
)
from keras_m3s.missing.filling import Filling, channel_axis
from keras_m3s.missing.patterns import as_rates
from keras_m3s.missing.transform import Axis, Holes, axis_of, cut, sample_draws
from keras_m3s.modalities import DRAWS, modalities_in, presence_key
from keras_m3s.registry import patterns

LEARNED = "learned"

RECORDED_ROWS = 1024
"""Rows that `adapt` keeps at most."""


@keras.saving.register_keras_serializable(package="keras_m3s")
class MissingModality(keras.layers.Layer):
    """Cuts random holes into each modality in training, and fills those that the data has.

    With `training=True` fresh draws come from the layer's seed state. If the inputs hold `draws`,
    those decide instead, in training and in evaluation alike, so that fixed holes are a matter of
    the data. Otherwise nothing is cut, as in every Keras layer.

    NaN is a value that was never measured: a hole, whatever the mode. Infinity is a fault of the
    data, which the layer lets pass; `WithMissing` refuses it in arrays.

    Examples:
        >>> layer = MissingModality(missing_rate=(0.4, 0.6), seed=0)
        >>> holed = layer({"audio": a, "vision": v, "text": t, "audio_length": n}, training=True)

        The protocols that are in use beside the paper's:

        >>> MissingModality((0, 1), pattern="frames")          # P1 in training: r ~ U(0, 1)
        >>> MissingModality(0.3, pattern="frames")             # P1 in testing, at one of its rates
        >>> six = patterns.MMIN_CONDITIONS.values()
        >>> MissingModality(pattern="modality", conditions=six)     # P3: MMIN's six conditions
        >>> MissingModality((0, 0.7), pattern="modality")      # P3: at random, one modality kept
        >>> MissingModality({"audio": 0.7, "vision": 0.4, "text": 0.1})   # P4: imbalanced rates

        Sensors: mostly short drop-outs, at times a whole sensor, the watch as one device, and
        complete windows:

        >>> MissingModality(
        ...     (0, 0.8),
        ...     pattern={"span": 0.6, "modality": 0.2, "none": 0.2},
        ...     groups=[("watch_acc", "watch_gyro")],
        ...     fill="learned",
        ... )

    Args:
        missing_rate: Range `(low, high)` within [0, 1] or a single number for every modality, or a
            dict modality -> range or number; the dict's keys then are the modalities, and others
            stay whole.
        axis: Where holes lie: `"time"`, axis 1 (of a vector its only axis); `"feature"`, the last
            axis; an int, that axis of the batch (2 for sequences with channels first); or a dict
            modality -> one of these.
        seed: Int or `None`.
        modalities: Names of the modalities, where `missing_rate` is one range for all; or a dict of
            names to slices of the last axis, for inputs that are a single tensor. `None`: those of
            the first inputs.
        pattern: What is missing at a rate: a name (`"span"`, one run as in the paper; `"frames"`,
            each position by itself; `"modality"`, each modality as a whole, though never all of
            them; `"mar"`, `"mnar"`, depending on the values; `"recorded"`, see `adapt`; `"none"`);
            a dict of names to shares, drawn for each sample; or a dict modality -> either.
        conditions: With `pattern="modality"`, sets of modalities that are missing together: one of
            them, each with the same chance, holds for a sample, and the rates do not count. An
            empty set is a complete sample.
        groups: Tuples of modalities that share their draws, and so are missing together: sensors of
            one device.
        fill: What stands in a hole: a number, a dict modality -> number or a list of one for each
            channel, or `"learned"`: a trainable vector for each modality, one number a channel,
            that begins at 0.
        rescale: Whether what is left of a modality is multiplied by 1 / (share left), as
            `keras.layers.Dropout` does.
        presence: Whether to add `{modality}_present`, of the modality's shape: 1 where a value was
            measured and kept, 0 elsewhere.

    Raises:
        ValueError: If an argument is out of range, a modality is missing from the inputs, batch
            sizes differ, the draws' shape does not fit, or conditions do not go with the pattern or
            the modalities.

    Reference: M3S, section 3.2 and Algorithm 1, line 3; for the patterns
        `keras_m3s.missing.patterns`.
    """

    def __init__(
        self,
        missing_rate: Any = (0.4, 0.6),
        axis: Axis | Mapping[str, Axis] = "time",
        seed: int | None = None,
        modalities: Sequence[str] | Mapping[str, Any] | None = None,
        pattern: mixture.Spec = patterns.PAPER,
        conditions: Iterable[Sequence[str]] | None = None,
        groups: Iterable[Sequence[str]] | None = None,
        fill: float | str | Mapping[str, Any] = 0.0,
        rescale: bool = False,
        presence: bool = False,
        **kwargs: Any,
    ) -> None:
        # Neither features nor draws may be cast on the way in: float16 cannot hold a uniform well.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.view = views.InputView(modalities)
        names: tuple[str, ...] | None = self.view.names
        if isinstance(missing_rate, Mapping):
            if not missing_rate:
                raise ValueError("`missing_rate` must name at least one modality. Received: none.")
            names = tuple(missing_rate)
        else:
            as_range("all", missing_rate)
        self._rate_of_all = None if isinstance(missing_rate, Mapping) else missing_rate
        self.axis, self.pattern = axis, pattern
        self._pattern_names, *_ = mixture.parse(pattern, names)
        self.conditions = as_conditions(conditions, self._pattern_names, names)
        self.groups = as_groups(groups)
        self.fill = fill if fill == LEARNED else as_fillings(fill)
        self.rescale, self.presence = rescale, presence
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self._rates: dict[str, tuple[float, float]] = {}
        self._fill_vectors: dict[str, keras.Variable] = {}
        self._recorded: dict[str, np.ndarray] = {}
        if names is not None:
            self._name(names, missing_rate if isinstance(missing_rate, Mapping) else {})
            if not isinstance(self.fill, (str, Mapping)):
                self.built = True
        else:
            as_axes(axis, None)

    def _name(self, names: Sequence[str], rates: Mapping[str, Any]) -> None:
        """Takes the names of the modalities, and makes the state that depends on them."""
        names = tuple(names)
        self._rates = {name: as_range(name, rates.get(name, self._rate_of_all)) for name in names}
        self._axes = as_axes(self.axis, names)
        self.conditions = as_conditions(self.conditions, self._pattern_names, names)
        self._columns = grouped_columns(self.groups, self._rates)
        _, shares, self._joint = mixture.parse(self.pattern, names)
        self._rate_state = self._state("rates", as_rates(self._rates))
        self._share_state = None if shares is None else self._state("shares", shares)

    def _state(self, name: str, values: np.ndarray) -> keras.Variable:
        """A variable that is not trained; it may be made in the scope of a compiled step."""
        return self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype),
            trainable=False,
            dtype="float32",
            autocast=False,
            name=name,
        )

    def build(self, input_shape: Any) -> None:
        shapes = self.view.split_shapes(input_shape)
        if not self._rates:
            self._name(modalities_in(shapes), {})
        for name, axis in zip(self._rates, self._axes, strict=True):
            if name not in shapes:
                continue
            shape = shapes[name]
            channels = shape[channel_axis(axis_of(axis, len(shape)), len(shape))]
            if self.fill == LEARNED:
                self._fill_vectors[name] = self.add_weight(
                    shape=(channels,), initializer="zeros", name=f"fill_{name}"
                )
            elif isinstance(self.fill, Mapping):
                check_channels(self.fill, name, channels)
        self.built = True

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the draws."""
        return tuple(self._rates)

    @property
    def missing_rate(self) -> dict[str, tuple[float, float]]:
        """Modality -> `(low, high)`. To change it compiles nothing anew.

        Set it to a range or number for all modalities, or to a dict.
        """
        return dict(self._rates)

    @missing_rate.setter
    def missing_rate(self, missing_rate: Any) -> None:
        if not isinstance(missing_rate, Mapping):
            as_range("all", missing_rate)
            if not self._rates:
                self._rate_of_all = missing_rate
            missing_rate = dict.fromkeys(self._rates, missing_rate)
        unknown = set(missing_rate) - set(self._rates)
        if unknown:
            raise ValueError(
                f"`missing_rate` must be of the modalities {self.modalities}. "
                f"Received: {sorted(unknown)}."
            )
        changed = {name: as_range(name, rate) for name, rate in missing_rate.items()}
        rates = {**self._rates, **changed}
        self._columns = grouped_columns(self.groups, rates) if rates else None
        self._rates = rates
        if rates:
            self._rate_state.assign(as_rates(rates))

    def adapt(self, recorded: Any, rows: int = RECORDED_ROWS) -> None:
        """Takes the holes of recorded data, for `pattern="recorded"`; call it before `fit`.

        Args:
            recorded: Inputs with NaN where nothing was measured, as the layer is called with.
            rows: How many rows to keep at most, evenly spread over the data.
        """
        features = self.view.split(recorded)
        if not self.built:
            self.build({name: np.shape(value) for name, value in features.items()})
        for name in self._rates:
            if name not in features:
                raise ValueError(
                    f"`recorded` must hold the modalities {self.modalities}. "
                    f"Received: {tuple(features)}."
                )
            values = np.asarray(features[name])
            kept = np.unique(np.linspace(0, len(values) - 1, min(rows, len(values))).astype(int))
            self._recorded[name] = np.isnan(values[kept])

    def share_fill(self, other: "MissingModality") -> None:
        """Fills holes as another layer of the same modalities has learned to.

        Args:
            other: A layer with `fill="learned"` that is built; its vectors are shared.
        """
        self._fill_vectors = other._fill_vectors
        self.built = True

    def sample_draws(self, batch_size: Any) -> Any:
        """Fresh draws `(batch_size, modalities, 2)` from the layer's seed state."""
        return sample_draws(batch_size, len(self._rates), self.seed_generator)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features = self.view.split(inputs)
        draws = features.pop(DRAWS, None)
        batch_size = check_inputs(features, self._rates, self._axes)
        if draws is None and training:
            draws = self.sample_draws(batch_size)
        elif draws is not None and tuple(draws.shape[1:]) != (len(self._rates), 2):
            raise ValueError(
                f"`draws` must have shape (batch, {len(self._rates)}, 2), two uniforms for "
                f"each of {self.modalities}. Received: shape {tuple(draws.shape)}."
            )
        return self.view.merge(inputs, cut(features, draws, self._holes()))

    def _holes(self) -> Holes:
        upto = None if self._share_state is None else ops.convert_to_tensor(self._share_state)
        fillings = self._fill_vectors if self.fill == LEARNED else self.fill
        values = {
            name: fillings[name] if isinstance(fillings, Mapping) else fillings
            for name in self._rates
            if not isinstance(fillings, Mapping) or name in fillings
        }
        values = {n: np.array(v) if isinstance(v, list) else v for n, v in values.items()}
        return Holes(
            names=self.modalities,
            rates=ops.convert_to_tensor(self._rate_state),
            axes=self._axes,
            mixture=mixture.Mixture(self._pattern_names, upto, self._joint),
            columns=self._columns,
            conditions=self.conditions,
            filling=Filling(values, self.rescale, self.presence),
            recorded=self._recorded,
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        if not isinstance(input_shape, Mapping):
            return input_shape
        shapes = {name: shape for name, shape in input_shape.items() if name != DRAWS}
        if self.presence:
            names = self._rates or modalities_in(shapes)
            shapes |= {presence_key(name): shapes[name] for name in names if name in shapes}
        return shapes

    def save_own_variables(self, store: Any) -> None:
        """Keeps the seed state, which Keras leaves out: a resumed run goes on to new holes."""
        for name, vector in self._fill_vectors.items():
            store[f"fill_{name}"] = ops.convert_to_numpy(vector)
        for name, holes in self._recorded.items():
            store[f"recorded_{name}"] = holes
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        for name, vector in self._fill_vectors.items():
            vector.assign(store[f"fill_{name}"])
        for name in self._rates:
            if f"recorded_{name}" in store.keys():  # noqa: SIM118  # an HDF5 group
                self._recorded[name] = np.asarray(store[f"recorded_{name}"]).astype(bool)
        self.seed_generator.state.assign(store["seed_state"])

    def get_config(self) -> dict[str, Any]:
        rates: Any = {name: list(rate) for name, rate in self._rates.items()}
        axis, conditions = self.axis, self.conditions
        return {
            **super().get_config(),
            "missing_rate": rates or self._rate_of_all,
            "axis": dict(axis) if isinstance(axis, Mapping) else axis,
            "seed": self.seed,
            "modalities": self.view.get_config(),
            "pattern": self.pattern,
            "conditions": None if conditions is None else [list(c) for c in conditions],
            "groups": [list(group) for group in self.groups] or None,
            "fill": self.fill if isinstance(self.fill, (str, float)) else dict(self.fill),
            "rescale": self.rescale,
            "presence": self.presence,
        }
