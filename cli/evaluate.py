"""`keras-m3s evaluate`: a trained run tested again, on more draws, or on all kinds of holes."""

import pathlib
from typing import TYPE_CHECKING

import click

from keras_m3s.cli.options import CardName, data_arguments, data_options
from keras_m3s.registry import patterns as pattern_cards
from keras_m3s.registry.datasets import is_file

if TYPE_CHECKING:
    from keras_m3s.data.split import SplitLike


@click.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--missing-rate", type=click.FloatRange(0, 1), nargs=2, help="[default: the run's own test rate]")  # fmt: skip
@click.option("--draws", type=click.IntRange(1), help="Draws of the holes to test on, as mean and spread: one draw is half of the noise.  [default: 1; 5 with --robustness]")  # fmt: skip
@click.option("--robustness", is_flag=True, help="Test at many missing rates, and without each modality and combination.")  # fmt: skip
@click.option("--rate", "rates", type=click.FloatRange(0, 1), multiple=True, help="With --robustness; repeat for several.  [default: 0 0.2 0.4 0.6 0.8]")  # fmt: skip
@click.option("--pattern", "patterns", type=CardName("pattern", pattern_cards.CARDS), multiple=True, help="With --robustness; repeat for several.  [default: span modality]")  # fmt: skip
@click.option("--dataset", help="The run's data by its name or path now, if it has moved.  [default: as the run was trained]")  # fmt: skip
@data_options
def evaluate(
    run: pathlib.Path,
    missing_rate: tuple[float, float] | None,
    draws: int | None,
    robustness: bool,
    rates: tuple[float, ...],
    patterns: tuple[str, ...],
    dataset: str | None,
    config: str | None,
    manual_dir: pathlib.Path | None,
    data_dir: pathlib.Path | None,
) -> None:
    """Test the model in directory RUN again, by default at the same missing rate.

    With --robustness, what the model withstands: a table, which RUN keeps as robustness.csv with a
    picture, robustness.png. The report shows it.

    \b
    Example:
      keras-m3s evaluate runs/synthetic_msa-misa-m3s-seed0-0123456789 --missing-rate 0.6 0.8
      keras-m3s evaluate runs/har-har.build-m3s-seed0-0123456789 --robustness --draws 5
    """
    from keras_m3s import data
    from keras_m3s.utils import backend

    if robustness and missing_rate:
        raise click.UsageError("--missing-rate must be left out with --robustness; see --rate.")
    if (rates or patterns) and not robustness:
        raise click.UsageError("--rate and --pattern must go with --robustness.")
    backend.import_backend()
    from keras_m3s.experiments.evaluation import retest_draws
    from keras_m3s.experiments.run_directory import RunDirectory
    from keras_m3s.report import text_table

    directory = RunDirectory(run)
    experiment = directory.experiment()
    if dataset is None:
        dataset = experiment.dataset
        if is_file(dataset) and not pathlib.Path(dataset).expanduser().is_file():
            raise FileNotFoundError(
                f"The data of {run} must be where it was in training. Received: {dataset}, which "
                "is no file. If it has moved, pass its place with --dataset."
            )
    where = data_arguments(dataset, config, manual_dir, data_dir)
    test = data.load(**where)["test"]
    if robustness:
        print_robustness(run, test, rates, patterns, draws)
        return
    metrics = retest_draws(directory, test, missing_rate, draws=draws or 1)
    click.echo(text_table({experiment.method: metrics}))


def print_robustness(
    run: pathlib.Path,
    test: "SplitLike",
    rates: tuple[float, ...] = (),
    patterns: tuple[str, ...] = (),
    draws: int | None = None,
) -> None:
    """Tests what a run withstands, and prints it."""
    from keras_m3s.experiments import robustness as library
    from keras_m3s.experiments.run_directory import RunDirectory

    table = library.run_robustness(
        RunDirectory(run),
        test,
        rates or library.RATES,
        patterns or library.PATTERNS,
        draws or library.DRAWS,
    )
    click.echo(f"\n{run.name}:\n\n{table}\n\n{run / library.TABLE}\n{run / library.PICTURE}")
