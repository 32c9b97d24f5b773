"""A model of one's own in a run: made by a function of the user's, kept with its source.

    def build(spec):                      in har.py, say; then --model har.py:build
        ...
        return keras.Model(inputs, outputs)

`build` gets a `keras_m3s.experiments.spec.Spec`, and `Experiment.model_arguments` by name. It
returns any `keras.Model` of a dict of modalities whose output is `(batch, spec.outputs)`: logits of
classes, or a score. A model that is compiled keeps its optimizer, loss and metrics; any other gets
those of its task. A run keeps the source, from which it is loaded again.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_m3s.experiments.config import SITES, Experiment
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunDirectory,
)
from keras_m3s.experiments.spec import Spec
from keras_m3s.meta.inputs import functional_inputs
from keras_m3s.meta.with_missing import WithMissing
from keras_m3s.missing.layer import LEARNED, MissingModality
from keras_m3s.modalities import length_key, modalities_in
from keras_m3s.models import hooks
from keras_m3s.registry import models
from keras_m3s.utils import user_source
from keras_m3s.utils.backend import tensorflow_unused

FOLDER = "model"
"""Of a run: the source of its model."""

SPEC = "spec.json"


def build(experiment: Experiment, spec: Spec) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The model that the user's function makes, compiled, and the optimizer to train it with.

    Args:
        experiment: Gives the function and its arguments.
        spec: What it gets.

    Raises:
        ChangedExperimentError: The source is no longer that of the experiment.
        ValueError: The function returns something else, or a model that cannot be saved.

    Errors in the function are raised as they are.
    """
    source = user_source.find(experiment.model)
    if source.digest != experiment.model_source:
        raise ChangedExperimentError(
            f"The source of {experiment.model} must be that of the experiment. Received: another "
            "one; it has changed since. Start again, which makes runs of the new source."
        )
    with tensorflow_unused():
        model = source.call(spec, **experiment.model_arguments)
    where = f"`{user_source.short(experiment.model)}`"
    if not isinstance(model, keras.Model):
        raise ValueError(f"{where} must return a keras.Model. Received: {type(model).__name__}.")
    hooks.compile_for_task(model, spec.task, spec.outputs)
    _check_output(where, model, spec)
    _check_saving(where, model)
    with tensorflow_unused(), keras.saving.custom_object_scope(source.objects()):
        return model, hooks.take_optimizer(model, experiment.learning_rate, experiment.averaging)


def keep(experiment: Experiment, run: RunDirectory, spec: Spec) -> None:
    """Writes the source and the spec of a run's model into its directory."""
    source = user_source.find(experiment.model)
    for name, content in source.files.items():
        path = run.path / FOLDER / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            with run.writing(str(pathlib.PurePath(FOLDER, name))) as temporary:
                temporary.write_bytes(content)
    run.write_json(SPEC, spec.to_dict())


def read_spec(run: RunDirectory) -> Spec:
    """The spec of a run's model.

    Raises:
        FileNotFoundError: The run has none.
        DamagedRunError: It cannot be read.
    """
    try:
        return Spec.from_dict(run.read_json(SPEC))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"A run of a model of one's own must hold {SPEC}. Received: {run.path}, which does not."
        ) from None
    except DamagedRunError:
        raise
    except ValueError as error:
        raise DamagedRunError(
            f"{run.path / SPEC} must be as keras-m3s wrote it. Received: {error} Bring it back "
            "from a copy, or train the run again."
        ) from error


def served_inputs(model: WithMissing, spec: Spec) -> dict[str, tuple[int, ...]]:
    """What a trained model is served with: name -> shape without the batch axis.

    Modalities of the data that a Functional model does not take are left out, as are their lengths.

    Args:
        model: As the run's `best_model`.
        spec: Of the run.
    """
    declared = functional_inputs(model.model)
    names = set(declared) if isinstance(declared, Mapping) else set(spec.inputs)
    inputs = {name: shape for name, shape in spec.inputs.items() if name in names}
    lengths: dict[str, tuple[int, ...]] = {
        length_key(m): () for m in spec.lengths if m in inputs or length_key(m) in names
    }
    return {**inputs, **lengths}


def served(model: WithMissing, spec: Spec) -> WithMissing:
    """A trained model as it is served: it fills the modalities that it takes, and knows no others.

    Args:
        model: As the run's `best_model`.
        spec: Of the run.
    """
    trained = model.missing
    taken = modalities_in({n: (None, *shape) for n, shape in served_inputs(model, spec).items()})
    if trained is None or model.site != SITES[0] or set(trained.modalities) == set(taken):
        return model
    fill = trained.fill
    if isinstance(fill, Mapping):
        fill = {name: value for name, value in fill.items() if name in taken}
    missing = MissingModality(
        0.0, modalities=taken, fill=fill, rescale=trained.rescale, presence=trained.presence
    )
    if fill == LEARNED:
        missing.share_fill(trained)
    return WithMissing(model.model, missing)


def custom_objects(run: RunDirectory) -> dict[str, Any]:
    """Classes and functions that a run's model may need to be loaded; none for models with a card.

    The source is executed: the user's as long as it is that of the run, else the one that was kept.

    Raises:
        DamagedRunError: Neither is there.
    """
    experiment = run.experiment()
    if not models.is_own(experiment.model):
        return {}
    for root in (None, run.path / FOLDER):
        try:
            source = user_source.find(experiment.model, root)
        except (OSError, ValueError, SyntaxError):
            continue
        if source.digest == experiment.model_source:
            return source.objects()
    raise DamagedRunError(
        f"{run.path / FOLDER} must hold the source of the run's model. Received: another one or "
        f"none. Bring it back, or the file that {experiment.model} was."
    )


def _check_output(where: str, model: keras.Model, spec: Spec) -> None:
    """Raises unless the output of a model that knows its shape fits the task."""
    if not getattr(model, "outputs", None):
        return
    shape = model.output_shape
    if not isinstance(shape, tuple) or tuple(shape[1:]) != (spec.outputs,):
        what = "one score" if spec.outputs == 1 else f"logits of {spec.outputs} classes"
        raise ValueError(
            f"{where} must return a model with the output (batch, {spec.outputs}), {what}. "
            f"Received: {shape}. `spec.outputs` says how many."
        )


def _check_saving(where: str, model: keras.Model) -> None:
    """Raises before training unless a model can be saved."""
    try:
        with tensorflow_unused():
            keras.saving.serialize_keras_object(model)
    except Exception as error:  # whatever the model's `get_config` does
        raise ValueError(
            f"{where} must return a model that can be saved. Received: {type(model).__name__}; "
            f"{error}"
        ) from error
