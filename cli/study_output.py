"""What the commands of a study print: its runs before they start, and their results as tables."""

import pathlib
from collections.abc import Sequence
from typing import Any

import click

from keras_m3s.registry import models as model_cards
from keras_m3s.registry.patterns import PAPER
from keras_m3s.study.plan import NAMES


def announce(
    study: str,
    planned: Sequence[Any],
    absent: dict[str, str],
    runs_dir: pathlib.Path,
    jobs: int,
    listed: bool,
    models: Sequence[str] = (),
) -> None:
    """Prints the runs, the data that is missing, and an estimate of the time.

    Args:
        study: Its name.
        planned: Its runs.
        absent: Data set -> why its data is not there.
        runs_dir: Folder of the runs.
        jobs: Runs at once.
        listed: Whether to print a line for each run.
        models: Those asked for; all of the study if empty.
    """
    from keras_m3s.experiments.run_directory import RunDirectory
    from keras_m3s.study import run_time
    from keras_m3s.study.plan import models_of

    for model in models_of(study) if study in NAMES else ():
        dataset = model_cards.CARDS[model].dataset
        if dataset in absent and (not models or model in models):
            reason = absent[dataset]
            click.echo(f"{model} on {dataset}: left out, its data is missing: {reason}")
    measured = run_time.measured_epochs(runs_dir)
    done = sum(RunDirectory(runs_dir / p.experiment.key).complete for p in planned)
    if listed:
        for p in planned:
            e = p.experiment
            retests = f"   and {len(p.retests)} more tests" if p.retests else ""
            pattern = "" if e.pattern == PAPER else e.pattern
            seconds = run_time.format_seconds(run_time.run_seconds(p, measured))
            click.echo(f"{e.key:<72}{rate(e.missing_rate):>12}  {pattern:<14}{e.epochs:>5} epochs{seconds:>10}{retests}")  # fmt: skip
    left = run_time.format_seconds(run_time.remaining_seconds(planned, runs_dir, jobs))
    basis = "measured on earlier runs" if measured else "a rough guess: there are no earlier runs"
    click.echo(f"{study}: {len(planned)} runs, {done} of them done; {jobs} at once, about {left} ({basis})")  # fmt: skip


def print_tables(planned: Sequence[Any], workspace: Any) -> None:
    """Prints methods side by side, a table for each model, data set and pair of rates.

    Runs of a sweep over steps, inner rates or orders are left to the report.
    """
    from keras_m3s.report import text_table

    tables: dict[str, dict[str, list[Any]]] = {}
    for p in planned:
        e, run = p.experiment, workspace.run_directory(p)
        settings = model_cards.find(e.model).settings
        published = settings.get("inner_learning_rate", e.inner_learning_rate)
        swept = (e.inner_steps, e.first_order, e.inner_learning_rate) != (1, True, published)
        if swept or not run.complete:
            continue
        title = f"{e.model_name} on {e.dataset}, {rate(e.missing_rate)} missing"
        title += "" if e.pattern == PAPER else f" ({e.pattern})"
        title += "" if e.site == "raw" else f" in {e.site} vectors"
        mark = "" if e.select == "validation" else "; epochs selected as in the published scripts"
        for tested, metrics in _test_metrics(p, run):
            full = f"{title}, tested at {tested}{mark}"
            tables.setdefault(full, {}).setdefault(e.method, []).append(metrics)
    for title, results in tables.items():
        click.echo(f"\n{title}:\n\n{text_table(results)}")


def _test_metrics(planned: Any, run: Any) -> list[tuple[str, dict[str, float]]]:
    """Rate and metrics of each test of a run; files that cannot be read are named and left out."""
    from keras_m3s.report.reading import read_metrics

    files = {"metrics.json": rate(planned.experiment.test_missing_rate)}
    for c in planned.retests:
        own = [f"{rate(values)} of {m}" for m, values in c.modality_rates]
        others = [rate(c.missing_rate)] if any(c.missing_rate) or not own else []
        files[run.retest_file(*c).name] = ", ".join(others + own)
    found = []
    for name, tested in files.items():
        try:
            found.append((tested, read_metrics(run, name)))
        except FileNotFoundError:  # the retest has not been done
            continue
        except (OSError, ValueError) as error:
            click.echo(f"Left out of the tables: {error}", err=True)
    return found


def rate(values: tuple[float, float]) -> str:
    """`40-60 %`."""
    low, high = (f"{100 * value:.0f}" for value in values)
    return f"{low}-{high} %" if low != high else f"{low} %"
