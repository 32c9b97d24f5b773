"""The model of an `Experiment`, wrapped and compiled, and its batches."""

from collections.abc import Iterable, Mapping

import numpy as np

from keras_m3s import registry
from keras_m3s.data.batches import Batches
from keras_m3s.data.split import SplitLike
from keras_m3s.experiments.config import Experiment
from keras_m3s.meta.m3s import M3S
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import MissingModality
from keras_m3s.missing.transform import fixed_draws
from keras_m3s.modalities import MODALITIES
from keras_m3s.models.base import BaseModel
from keras_m3s.registry import methods, models


def build(
    experiment: Experiment, train_split: SplitLike, num_classes: int | None = None
) -> WithMissing:
    """The experiment's model, wrapped and compiled, not trained.

    Args:
        experiment: What to build.
        train_split: Training data, for constructor arguments that follow from it.
        num_classes: Number of classes of the data set; by default of the training data.
    """
    cls = registry.load(models.CARDS[experiment.model].model)
    from_data = cls.data_arguments(train_split.labels, num_classes)
    model = cls(**{**from_data, **experiment.model_arguments})
    missing = transform(
        experiment.missing_rate, experiment.site, experiment.seed, experiment.pattern
    )
    wrap = registry.load(methods.CARDS[experiment.method].wrapper)
    wrapped: WithMissing = wrap(model, missing, experiment)
    optimizer = model.published_optimizer(experiment.learning_rate)
    wrapped.compile(optimizer, metrics=model.task_metrics())
    return wrapped


def with_missing(model: BaseModel, missing: MissingModality, experiment: Experiment) -> WithMissing:
    """Wrapper of the methods ORIG and SPL-TRN: plain training steps on incomplete input."""
    return WithMissing(model, missing, experiment.site)


def m3s(model: BaseModel, missing: MissingModality, experiment: Experiment) -> M3S:
    """Wrapper of the method M3S: Algorithm 1."""
    return M3S(
        model,
        missing,
        inner_steps=experiment.inner_steps,
        inner_learning_rate=experiment.inner_learning_rate,
        first_order=experiment.first_order,
        site=experiment.site,
    )


def transform(
    missing_rate: tuple[float, float],
    site: str,
    seed: int | None,
    pattern: str,
    modality_rates: Iterable[tuple[str, tuple[float, float]]] = (),
) -> MissingModality:
    """The transform of a site: along time on raw sequences, else along features.

    Args:
        missing_rate: Range of rates `(low, high)`.
        site: One of `keras_m3s.experiments.config.SITES`.
        seed: Of its draws.
        pattern: Name of a pattern.
        modality_rates: Modalities with a range of their own.
    """
    axis = "time" if site == "raw" else "feature"
    own = dict(modality_rates)
    rates = {m: own.get(m, missing_rate) for m in MODALITIES} if own else missing_rate
    return MissingModality(rates, axis=axis, seed=seed, pattern=pattern)


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


def fixed_batches(experiment: Experiment, split: SplitLike, stream: int) -> Batches:
    """Batches in order, with the same missingness for every method and seed.

    Args:
        experiment: Gives `hole_seed` and `batch_size`.
        split: The data.
        stream: Number of the random stream; another one for each split.
    """
    seed = _stream(experiment.hole_seed, stream)
    draws = fixed_draws(len(split), len(split.modalities), seed=seed)
    return Batches(split, experiment.batch_size, draws=draws)


def validation_batches(experiment: Experiment, splits: Mapping[str, SplitLike]) -> Batches:
    """Batches of the validation data; see `fixed_batches`."""
    return fixed_batches(experiment, splits["valid"], stream=1)


def _stream(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
