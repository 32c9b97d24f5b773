"""`keras-m3s compare`: which method to use on one's own data, the short version of the trial."""

import pathlib

import click

from keras_m3s.cli import many_runs, reproduce, study_output, trial
from keras_m3s.cli.options import ModelName, given


@click.command()
@click.option("--dataset", required=True, help="Name of a data set, or path of a feature file.")
@click.option("--model", type=ModelName(), required=True, help="Name of a model, or a function of yours that makes one.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(2), default=5, help="Seeds of each method.")
@click.option("--epochs", type=click.IntRange(1), help="Of each run.  [default: the model's]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: the model's]")
@click.option("--data-dir", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Folder of prepared data sets.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Runs at once.  [default: by cores and memory]")  # fmt: skip
@click.option("--runs", "runs_dir", type=click.Path(path_type=pathlib.Path), default="runs/compare", help="Folder of run directories.")  # fmt: skip
def compare(
    dataset: str,
    model: str,
    seeds: int,
    epochs: int | None,
    batch_size: int | None,
    data_dir: pathlib.Path | None,
    jobs: int | None,
    runs_dir: pathlib.Path,
) -> None:
    """Train a model by several methods and say which to use on this data.

    Plain holes, consistency, mixed holes and M3S take as many gradients each. The report's first
    page has the answer, with the tests that it stands on; `keras-m3s reproduce recipe` is the long
    version. Finished runs are reused, interrupted ones resume.

    \b
    Example:
      keras-m3s compare --dataset har.npz --model har.py:build
    """
    from keras_m3s.study import executors
    from keras_m3s.study.plan import Settings
    from keras_m3s.study.trial import Trial
    from keras_m3s.study.workspace import Workspace
    from keras_m3s.utils import backend

    datasets, _ = reproduce.find_data(
        data_dir, None, runs_dir, quick=False, dry_run=False, only=dataset
    )
    settings = Settings(
        datasets,
        range(seeds),
        dataset=next(iter(datasets.values())),
        overrides=given(epochs=epochs, batch_size=batch_size),
    )
    planned = Trial(model, settings).short()
    workspace = Workspace(
        str(runs_dir),
        None if data_dir is None else str(data_dir),
        None,
        backend.backend_name(),
        follow=False,
    )
    jobs = jobs or executors.default_jobs(len(planned))
    study_output.announce("compare", planned, {}, runs_dir, jobs, listed=False)
    many_runs.raise_if_undone(many_runs.run_all(planned, workspace, "local", jobs))
    trial.print_recommendations(workspace)
    reproduce.finish(runs_dir, quick=False, title="What to use on this data")
