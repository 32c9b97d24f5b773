"""The model of an `Experiment`, wrapped and compiled, and its batches."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_m3s import registry
from keras_m3s.data.batches import Batches
from keras_m3s.data.split import SplitLike
from keras_m3s.experiments import own_model
from keras_m3s.experiments.config import SITES, Experiment
from keras_m3s.experiments.span_layer import WithSpanLayer
from keras_m3s.experiments.spec import Spec, spec_of
from keras_m3s.meta.m3s import M3S
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import LEARNED, MissingModality
from keras_m3s.missing.transform import fixed_draws
from keras_m3s.modalities import MODALITIES
from keras_m3s.models.hooks import compile_for_task, take_optimizer
from keras_m3s.registry import methods, models


def build(
    experiment: Experiment,
    train_split: SplitLike,
    num_classes: int | None = None,
    spec: Spec | None = None,
) -> WithMissing:
    """The experiment's model, wrapped and compiled, not trained.

    Args:
        experiment: What to build.
        train_split: Training data, for constructor arguments that follow from it.
        num_classes: Number of classes of the data set; by default of the training data.
        spec: Of the data, where it is known already.
    """
    if spec is None and needs_spec(experiment):
        spec = spec_of(train_split, num_classes)
    if spec is not None and models.is_own(experiment.model):
        model, optimizer = own_model.build(experiment, spec)
    else:
        cls = registry.load(models.CARDS[experiment.model].model)
        from_data = cls.data_arguments(train_split.labels, num_classes)
        model = cls(**{**from_data, **experiment.model_arguments})
        compile_for_task(model, train_split.task, num_classes or 1)
        optimizer = take_optimizer(model, experiment.learning_rate, experiment.averaging)
    method = methods.CARDS[experiment.method]
    holes: dict[str, Any] = {
        "missing_rate": experiment.missing_rate,
        "pattern": experiment.pattern,
        "fill": _filling(experiment, spec),
        **method.holes,
    }
    missing = transform(
        site=experiment.site,
        seed=experiment.seed,
        modalities=_cut_modalities(experiment, train_split),
        **holes,
    )
    wrap = registry.load(method.wrapper)
    wrapped: WithMissing = wrap(model, missing, experiment)
    wrapped.compile(optimizer)
    return wrapped


def needs_spec(experiment: Experiment) -> bool:
    """Whether an experiment's model or its holes depend on statistics of the data."""
    return models.is_own(experiment.model) or experiment.fill == "mean"


def _filling(experiment: Experiment, spec: Spec | None) -> Any:
    """`fill` of `MissingModality`."""
    if experiment.fill == "mean" and spec is not None:
        return {name: values.tolist() for name, values in spec.mean.items()}
    return {"zero": 0.0, "learned": LEARNED}.get(str(experiment.fill), experiment.fill)


def _cut_modalities(experiment: Experiment, split: SplitLike) -> tuple[str, ...] | None:
    """Modalities with a draw each; `None` for those that the layer finds in its first inputs.

    A model of one's own need not take all modalities of the data.
    """
    own = models.is_own(experiment.model) and experiment.site == SITES[0]
    return split.modalities if own else None


def with_missing(
    model: keras.Model, missing: MissingModality, experiment: Experiment
) -> WithMissing:
    """Wrapper of the methods ORIG and SPL-TRN: plain training steps on incomplete input."""
    options = methods.CARDS[experiment.method].options
    return WithMissing(model, missing, experiment.site, **options)


def span_layer(
    model: keras.Model, missing: MissingModality, experiment: Experiment
) -> WithSpanLayer:
    """Wrapper of the control with a plain layer before the model."""
    return WithSpanLayer(
        model, missing, experiment.missing_rate, experiment.seed, site=experiment.site
    )


def m3s(model: keras.Model, missing: MissingModality, experiment: Experiment) -> M3S:
    """Wrapper of the method M3S: Algorithm 1."""
    return M3S(
        model,
        missing,
        inner_steps=experiment.inner_steps,
        inner_learning_rate=experiment.inner_learning_rate,
        first_order=experiment.first_order,
        site=experiment.site,
        **methods.CARDS[experiment.method].options,
    )


def transform(
    missing_rate: tuple[float, float],
    site: str,
    seed: int | None,
    pattern: Any,
    fill: Any = 0.0,
    modalities: Sequence[str] | None = None,
    modality_rates: Iterable[tuple[str, tuple[float, float]]] = (),
    **settings: Any,
) -> MissingModality:
    """The transform of a site: along time on raw sequences, else along features.

    Args:
        missing_rate: Range of rates `(low, high)`.
        site: One of `keras_m3s.experiments.config.SITES`.
        seed: Of its draws.
        pattern: Name of a pattern, or shares of several.
        fill: What stands in a hole.
        modalities: Names; `None` for those of the first inputs.
        modality_rates: Modalities with a range of their own.
        **settings: More arguments of the layer.
    """
    axis = "time" if site == SITES[0] else "feature"
    own = dict(modality_rates)
    names = modalities or MODALITIES
    rates = {m: own.get(m, missing_rate) for m in names} if own else missing_rate
    return MissingModality(
        rates,
        axis=axis,
        seed=seed,
        pattern=pattern,
        fill=fill,
        modalities=modalities,
        **settings,
    )


def train_batches(experiment: Experiment, split: SplitLike) -> Batches:
    """Shuffled training batches, with fixed draws or double batches as the method needs."""
    draws = None
    method = methods.CARDS[experiment.method]
    if method.fixed_draws:
        draws = fixed_draws(
            len(split),
            len(split.modalities),
            seed=_stream(experiment.hole_seed, 2 + experiment.seed),
        )
    return Batches(
        split,
        experiment.batch_size,
        shuffle=True,
        seed=experiment.seed,
        double=method.double_batches,
        draws=draws,
        passes=experiment.passes_per_epoch,
    )


def fixed_batches(experiment: Experiment, split: SplitLike, stream: int, draw: int = 0) -> Batches:
    """Batches in order, with the same missingness for every method and seed.

    Args:
        experiment: Gives `hole_seed` and `batch_size`.
        split: The data.
        stream: Number of the random stream; another one for each split.
        draw: Number of the draw of the holes; 0 is the one that runs are tested on.
    """
    seed = _stream(experiment.hole_seed, stream, *[draw] * (draw > 0))
    draws = fixed_draws(len(split), len(split.modalities), seed=seed)
    return Batches(split, experiment.batch_size, draws=draws)


def validation_batches(experiment: Experiment, splits: Mapping[str, SplitLike]) -> Batches:
    """Batches of the validation data; see `fixed_batches`."""
    return fixed_batches(experiment, splits["valid"], stream=1)


def _stream(seed: int, *numbers: int) -> int:
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])
