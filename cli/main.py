"""`keras-m3s`: parse, call the library, print. Slow imports are inside the commands."""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from keras_m3s.cli import many_runs
from keras_m3s.cli.compare import compare
from keras_m3s.cli.errors import Group
from keras_m3s.cli.evaluate import evaluate
from keras_m3s.cli.export import export
from keras_m3s.cli.features import features
from keras_m3s.cli.inspect import inspect
from keras_m3s.cli.options import (
    CardName,
    Fill,
    ModelName,
    data_arguments,
    data_options,
    given,
    need_tensorboard,
)
from keras_m3s.cli.predict import predict
from keras_m3s.cli.prepare import prepare
from keras_m3s.cli.report import report
from keras_m3s.cli.reproduce import reproduce
from keras_m3s.experiments.config import SITES, Experiment
from keras_m3s.registry import methods as method_cards
from keras_m3s.registry import patterns as pattern_cards

if TYPE_CHECKING:
    from keras_m3s.data.split import SplitLike

BACKENDS = ("jax", "tensorflow", "torch")


@click.group(cls=Group, context_settings={"show_default": True})
@click.option(
    "--backend", type=click.Choice(BACKENDS), help="Keras backend.  [default: KERAS_BACKEND]"
)
@click.option("--debug", is_flag=True, help="Show the whole trace of an error.")
@click.version_option(package_name="keras-m3s")
def main(backend: str | None, debug: bool) -> None:
    """Multimodal Keras models that are robust to missing parts of their input."""
    del debug
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if backend:
        os.environ["KERAS_BACKEND"] = backend


main.add_command(prepare)
main.add_command(inspect)
main.add_command(features)


@main.command()
@click.option("--dataset", default="synthetic_msa", help="Name of a data set, or path of a feature file.")  # fmt: skip
@click.option("--model", type=ModelName(), default="misa", help="Name of a model, or a function of yours that makes one.")  # fmt: skip
@click.option("--method", "methods", type=CardName("method", method_cards.CARDS), multiple=True, default=method_cards.paper(), help="Repeat for several.")  # fmt: skip
@click.option("--missing-rate", type=click.FloatRange(0, 1), nargs=2, default=(0.4, 0.6), help="Lowest and highest share missing of each modality.")  # fmt: skip
@click.option("--test-missing-rate", type=click.FloatRange(0, 1), nargs=2, help="The same in testing.  [default: as --missing-rate]")  # fmt: skip
@click.option("--pattern", type=CardName("pattern", pattern_cards.CARDS), help="What is missing at a rate.  [default: span]")  # fmt: skip
@click.option("--fill", type=Fill(), help="What stands in a hole.  [default: zero; mean with a model of yours]")  # fmt: skip
@click.option("--site", type=click.Choice(SITES), default="raw", help="Hide parts of the sequences, or of the encoded vectors.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=1, help="Number of seeds.")
@click.option("--seed", "first_seed", type=click.IntRange(0), default=0, help="The first seed.")
@click.option("--epochs", type=click.IntRange(1), help="At most.  [default: the paper's]")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without a better validation value.  [default: the paper's]")  # fmt: skip
@click.option("--no-early-stopping", is_flag=True, help="Train for all epochs.")
@click.option("--batch-size", type=click.IntRange(1), help="[default: the paper's]")
@click.option("--learning-rate", type=float, help="Outer rate beta.  [default: the paper's]")
@click.option("--averaging", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Momentum of averaged weights, which then are validated and tested, such as 0.99.")  # fmt: skip
@click.option("--inner-learning-rate", type=float, help="Inner rate alpha.  [default: the paper's]")
@click.option("--inner-steps", type=click.IntRange(0), help="Inner steps K.  [default: 1]")
@click.option(
    "--second-order", is_flag=True, help="Take the exact gradient through the inner steps."
)
@click.option("--runs", "runs_dir", type=click.Path(path_type=pathlib.Path), default="runs", help="Folder of run directories.")  # fmt: skip
@click.option("--robustness", is_flag=True, help="Test what each run withstands, too: see `keras-m3s evaluate --robustness`.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write each epoch's values for TensorBoard, too (extra `tensorboard`).")  # fmt: skip
@data_options
def train(
    dataset: str,
    model: str,
    methods: tuple[str, ...],
    missing_rate: tuple[float, float],
    seeds: int,
    first_seed: int,
    no_early_stopping: bool,
    second_order: bool,
    runs_dir: pathlib.Path,
    robustness: bool,
    tensorboard: bool,
    config: str | None,
    manual_dir: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    **settings: Any,
) -> None:
    """Train a model by each METHOD and print the test metrics side by side.

    A run that was interrupted is resumed; a finished one is not trained again. A model of yours is
    named by its function, as FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION; runs of another source
    of it are other runs.

    \b
    Example:
      keras-m3s train --dataset cmu_mosi --manual-dir ~/data/mosi --model misa --seeds 3
      keras-m3s train --dataset har.npz --model har.py:build --method m3s --robustness
    """
    from keras_m3s import data

    settings = given(**settings)
    if no_early_stopping and "patience" in settings:
        raise click.UsageError("--patience must be left out with --no-early-stopping.")
    if no_early_stopping:
        settings["patience"] = None
    if second_order:
        settings["first_order"] = False
    _check_used(settings, methods)
    if tensorboard:
        need_tensorboard()
    where = data_arguments(dataset, config, manual_dir, data_dir)
    name = "/".join(filter(None, (where["name"], where.get("config"))))
    experiments = [
        Experiment.of(name, model, method, missing_rate, seed=first_seed + i, **settings)
        for method in methods
        for i in range(seeds)
    ]
    splits = data.load(**where)
    run_and_print(experiments, splits, runs_dir, tensorboard)
    if robustness:
        from keras_m3s.cli.evaluate import print_robustness

        for experiment in experiments:
            print_robustness(runs_dir / experiment.key, splits["test"])


def _check_used(settings: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Refuses settings that none of the methods reads."""
    cards = [method_cards.CARDS[method] for method in methods]
    meta = any(card.double_batches for card in cards)
    by_steps = any(card.gradients(1) != card.gradients(2) for card in cards)
    used = {"inner_learning_rate": meta, "first_order": meta, "inner_steps": by_steps}
    options = {"first_order": "--second-order"}
    for name in settings:
        if not used.get(name, True):
            option = options.get(name, f"--{name.replace('_', '-')}")
            raise click.UsageError(
                f"{option} must be left out: {' and '.join(methods)} would not read it. Add a "
                "--method with inner steps, such as m3s."
            )


def run_and_print(
    experiments: Sequence[Experiment],
    splits: "Mapping[str, SplitLike]",
    runs_dir: pathlib.Path,
    tensorboard: bool = False,
) -> None:
    """Runs experiments one after the other, and prints the methods side by side."""
    from keras_m3s.utils import backend

    backend.import_backend()
    from keras_m3s.cli.progress import Progress, for_tensorboard
    from keras_m3s.experiments.run import run_experiment
    from keras_m3s.experiments.run_directory import RunDirectory

    results: dict[str, list[dict[str, float]]] = {}
    for experiment in experiments:
        run = RunDirectory(runs_dir / experiment.key)
        progress = Progress(experiment)
        callbacks = [progress, for_tensorboard(run)] if tensorboard else [progress]
        metrics = run_experiment(experiment, run, splits, callbacks)
        progress.close(run)
        results.setdefault(experiment.method, []).append(metrics)
    print_table(experiments[0], results)


def print_table(experiment: Experiment, results: dict[str, list[dict[str, float]]]) -> None:
    """Methods side by side: test metrics of runs that are like `experiment` otherwise."""
    from keras_m3s.report import text_table

    low, high = experiment.test_missing_rate
    click.echo(f"\n{experiment.model_name} on {experiment.dataset}, {low:.0%} to {high:.0%} of each modality missing in the test data:\n")  # fmt: skip
    click.echo(text_table(results))


@main.command()
@click.option("--epochs", type=click.IntRange(1), default=4)
@click.option("--runs", "runs_dir", type=click.Path(path_type=pathlib.Path), default="runs/demo", help="Folder of run directories.")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=pathlib.Path, file_okay=False), default="runs/data", help="Folder of prepared data sets.")  # fmt: skip
def demo(epochs: int, runs_dir: pathlib.Path, data_dir: pathlib.Path) -> None:
    """Train MISA three ways on generated data with 40 to 60 % of each modality missing.

    \b
    Example:
      keras-m3s demo
    """
    from keras_m3s import data
    from keras_m3s.study import executors
    from keras_m3s.study.plan import PlannedRun
    from keras_m3s.study.workspace import Workspace
    from keras_m3s.utils import backend

    # Narrow, and at a higher rate than the paper's: done in a minute or two on two cores.
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": 64,
        "learning_rate": 5e-4,
        "inner_learning_rate": 5e-4,
        "model_arguments": {"hidden_size": 32, "transformer_size": 128},
    }
    methods = method_cards.paper()
    planned = {
        m: PlannedRun(Experiment.of("synthetic_msa", "misa", m, **settings)) for m in methods
    }
    data.prepare("synthetic_msa", data_dir)
    workspace = Workspace(str(runs_dir), str(data_dir), None, backend.backend_name(), follow=False)
    jobs = executors.default_jobs(len(planned))
    click.echo(f"MISA by {len(planned)} methods, {jobs} at once")
    longest_first = [planned[method] for method in reversed(methods)]
    many_runs.raise_if_undone(many_runs.run_all(longest_first, workspace, "local", jobs))
    results = {
        m: [workspace.run_directory(p).read_json("metrics.json")] for m, p in planned.items()
    }
    print_table(planned[methods[-1]].experiment, results)


main.add_command(compare)
main.add_command(evaluate)
main.add_command(predict)
main.add_command(export)
main.add_command(report)
main.add_command(reproduce)


if __name__ == "__main__":
    sys.exit(main())
