"""`keras-m3s reproduce`: the paper's study in one command."""

import dataclasses
import os
import pathlib
import shlex
import sys

import click
from click.core import ParameterSource

from keras_m3s.cli import many_runs, study_output, trial
from keras_m3s.cli.options import CardName, ModelName, given
from keras_m3s.experiments.config import SELECTIONS
from keras_m3s.registry import datasets as dataset_cards
from keras_m3s.registry import methods as method_cards
from keras_m3s.registry import models as model_cards
from keras_m3s.registry import protocols as protocol_cards
from keras_m3s.registry import trial as trial_cards
from keras_m3s.study.executors import EXECUTORS
from keras_m3s.study.plan import NAMES

SEEDS, QUICK_SEEDS = 5, 2

RECIPE = "recipe"
"""The study that plans its runs from those before, see `keras_m3s.study.trial`."""

WITH_PROTOCOLS = ("protocols", "all")


@click.command()
@click.argument("study", type=click.Choice((*NAMES, RECIPE)), metavar="STUDY")
@click.option("--model", "models", type=ModelName(), multiple=True, help="Repeat for several; a function of yours that makes one, with --dataset, in a study beyond the paper.  [default: all of the study]")  # fmt: skip
@click.option("--dataset", help="Name of a data set, or path of a file, to train all models on that take its kind of labels.  [default: the data set of each]")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Folder of prepared data sets. Without this and --manual-dir generated data is used.")  # fmt: skip
@click.option("--manual-dir", type=click.Path(path_type=pathlib.Path, file_okay=False), help="Folder with the files you brought, or with a folder of them for each data set.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), help=f"Seeds of each run.  [default: {SEEDS}; {QUICK_SEEDS} with --quick]")  # fmt: skip
@click.option("--quick", is_flag=True, help="Small models, few epochs, tiny generated data: checks that everything works.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the runs and about how long they take; do nothing.")  # fmt: skip
@click.option("--executor", type=click.Choice(EXECUTORS), default="local", help="Where runs are trained.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Runs at once.  [default: by cores and memory]")  # fmt: skip
@click.option("--replicas", type=click.IntRange(1), help="Runs that differ in their seed only to train as one program, at most; above 1 on JAX only.  [default: all where JAX has a GPU, else 1]")  # fmt: skip
@click.option("--runs", "runs_dir", type=click.Path(path_type=pathlib.Path), help="Folder of run directories.  [default: runs/reproduce, with --quick runs/quick]")  # fmt: skip
@click.option("--protocol", "protocols", type=CardName("protocol", protocol_cards.CARDS), multiple=True, help="Of `protocols`; repeat for several.  [default: all]")  # fmt: skip
@click.option("--equal-budget", is_flag=True, help="Add SPL-TRN with as many gradients as M3S.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Of each run.  [default: the paper's]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: the paper's]")
@click.option("--select", type=click.Choice(SELECTIONS), default="validation", help="How the tested epoch is selected. `paper`: as in the published scripts, some of which use test data.")  # fmt: skip
def reproduce(
    study: str,
    models: tuple[str, ...],
    dataset: str | None,
    data_dir: pathlib.Path | None,
    manual_dir: pathlib.Path | None,
    seeds: int | None,
    quick: bool,
    dry_run: bool,
    executor: str,
    jobs: int | None,
    replicas: int | None,
    runs_dir: pathlib.Path | None,
    protocols: tuple[str, ...],
    equal_budget: bool,
    epochs: int | None,
    batch_size: int | None,
    select: str,
) -> None:
    """Train and test all runs of a table or figure of the paper, and write a report.

    \b
    STUDY is one of
      table2 table3 table4 table5 figure1 figure3 figure4   the paper's
      paper                                                 all of these
      budget matrix steps alpha order site protocols        beyond the paper
      all                                                   everything so far
      recipe                                                which method is best, with --model

    Finished runs are reused, interrupted ones resume.

    \b
    Example:
      keras-m3s reproduce all --quick
      keras-m3s reproduce table2 --manual-dir ~/data --seeds 5 --equal-budget
      keras-m3s reproduce protocols --model lnln --dataset ~/data/unaligned_50.pkl
      keras-m3s reproduce recipe --model har.py:build --dataset har.npz
    """
    own = [model for model in models if model_cards.is_own(model)]
    if own and dataset is None:
        raise click.UsageError(f"--dataset must be given with a model of yours. Received: {own}.")
    if study == RECIPE and not models:
        raise click.UsageError("--model must be given with `recipe`. Received: none.")
    if protocols and study not in WITH_PROTOCOLS:
        raise click.UsageError(
            f"--protocol must go with one of {WITH_PROTOCOLS}. Received: {study}. Leave it out."
        )
    from keras_m3s.study import executors
    from keras_m3s.study.plan import Settings, plan
    from keras_m3s.study.trial import Trial
    from keras_m3s.study.workspace import Workspace
    from keras_m3s.utils import backend

    if not os.environ.get("KERAS_BACKEND") and quick:
        os.environ["KERAS_BACKEND"] = _quick_backend()
    runs_dir = runs_dir or pathlib.Path("runs", "quick" if quick else "reproduce")
    datasets, absent = find_data(data_dir, manual_dir, runs_dir, quick, dry_run, dataset)
    seeds = seeds or (QUICK_SEEDS if quick else trial_cards.SEEDS if study == RECIPE else SEEDS)
    methods = method_cards.paper() + (method_cards.equal_budget() if equal_budget else ())
    settings = Settings(
        datasets,
        range(seeds),
        quick,
        select,
        methods,
        models=models or None,
        dataset=dataset,
        protocols=protocols or None,
        overrides=given(epochs=epochs, batch_size=batch_size),
    )
    trials = [Trial(model, settings) for model in models] if study == RECIPE else []
    trials = [one for one in trials if settings.dataset_of(one.model) is not None]
    if study == RECIPE:
        planned = [run for one in trials for run in one.grid()]
    else:
        planned = plan(study, settings)
    workspace = Workspace(
        runs=str(runs_dir),
        data_dir=_text(data_dir) if manual_dir or dataset else str(data_dir or runs_dir / "data"),
        manual_dir=_text(manual_dir),
        backend=backend.backend_name(),
        replicas=replicas or 1,
        follow=not trials,
    )
    if planned and replicas is None and not (quick or dry_run) and executor == "local":
        replicas = executors.default_replicas(workspace, seeds)
        workspace = dataclasses.replace(workspace, replicas=replicas)
    jobs = jobs or executors.default_jobs(max(1, len(planned) // workspace.replicas))
    study_output.announce(study, planned, absent, runs_dir, jobs, listed=dry_run, models=models)
    if not planned:
        chosen = [*(f"--model {m}" for m in models), *([f"--dataset {dataset}"] if dataset else [])]
        raise click.ClickException(
            f"`{study}` must have at least one run: a model of the study, with data of its kind. "
            f"Received: {', '.join(chosen) or 'data of none'}. Leave --model and --dataset out, or "
            "choose others; pass --data-dir or --manual-dir with data, or neither for generated data."
        )
    if dry_run:
        return
    if trials:
        trial.run_all(trials, workspace, executor, jobs)
        finish(runs_dir, quick, "What to use where input is missing")
        return
    outcomes = many_runs.run_all(planned, workspace, executor, jobs)
    study_output.print_tables(planned, workspace)
    finish(runs_dir, quick)
    many_runs.raise_if_undone(outcomes)


def find_data(
    data_dir: pathlib.Path | None,
    manual_dir: pathlib.Path | None,
    runs_dir: pathlib.Path,
    quick: bool,
    dry_run: bool,
    only: str | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """The data to use for each of the paper's data sets, and why some have none.

    Args:
        data_dir: As of the options, likewise the next four.
        manual_dir: Likewise.
        runs_dir: Likewise.
        quick: Likewise.
        dry_run: Likewise.
        only: The data set to use in place of all.

    Returns:
        Data set of the paper -> name of the data, prepared unless `dry_run`; data set -> reason.
    """
    from keras_m3s.study import plan

    if only is not None:
        name = str(pathlib.Path(only).expanduser()) if dataset_cards.is_file(only) else only
        if not dry_run:
            _prepare(name, data_dir, manual_dir)
        return plan.on_one_dataset(name), {}
    wanted = plan.paper_datasets()
    if data_dir is None and manual_dir is None:
        cards = {name: dataset_cards.CARDS[name] for name in wanted}
        found = {n: card.quick_stand_in if quick else card.stand_in for n, card in cards.items()}
        stand_ins = {name: stand_in for name, stand_in in found.items() if stand_in}
        if not dry_run:
            for name in dict.fromkeys(stand_ins.values()):
                _prepare(name, runs_dir / "data", None)
        return stand_ins, {}
    if dry_run:
        return {name: name for name in wanted}, {}
    there: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        try:
            _prepare(name, data_dir, manual_dir)
            there[name] = name
        except (ValueError, OSError) as error:
            absent[name] = str(error)
    return there, absent


def _prepare(name: str, data_dir: pathlib.Path | None, manual_dir: pathlib.Path | None) -> None:
    from keras_m3s import data
    from keras_m3s.data import builders
    from keras_m3s.study.workspace import manual_dir_of

    if dataset_cards.is_file(name):
        return builders.check_own(name)  # once, not in each of many runs
    name, config = dataset_cards.split_name(name)
    data.prepare(name, data_dir, manual_dir_of(name, _text(manual_dir)), config)


def finish(runs_dir: pathlib.Path, quick: bool, title: str = "M3S, the study") -> None:
    """Writes a report on all runs in the folder."""
    from keras_m3s.report import write_report

    if quick:
        title += (
            ": quick settings, which check that everything works and say nothing about the methods"
        )
    try:
        command = command_line(click.get_current_context())
        page, *_ = write_report(runs_dir, runs_dir / "report", title=title, command=command)
    except ImportError as error:
        click.echo(f"\nNo report: {error}", err=True)
        page, *_ = write_report(runs_dir, runs_dir / "report", ["csv"])
    click.echo(f"\nReport: {page}")


def command_line(context: click.Context) -> str:
    """The command with the arguments and options that were given, those of the group first."""
    words = [] if context.parent is None else [command_line(context.parent)]
    words.append(shlex.quote(context.info_name or ""))
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not given:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(shlex.quote(str(value)))
        elif isinstance(value, bool):
            words.append(parameter.opts[0])
        else:
            for one in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0], shlex.quote(str(one))]
    return " ".join(words)


def _text(path: pathlib.Path | None) -> str | None:
    return None if path is None else str(path)


def _quick_backend() -> str:
    """PyTorch if installed: compiling takes the others longer than a run of seconds."""
    import importlib.util

    from keras_m3s.utils import backend

    return "torch" if importlib.util.find_spec("torch") else backend.backend_name()


if __name__ == "__main__":
    sys.exit(reproduce())
