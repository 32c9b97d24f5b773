"""The trial of methods on the command line: its steps one after the other."""

from collections.abc import Sequence
from typing import Any

import click

from keras_m3s.cli import many_runs
from keras_m3s.registry import methods as method_cards


def run_all(trials: Sequence[Any], workspace: Any, executor: str, jobs: int) -> None:
    """Runs trials to their end; each step is planned from the runs before it.

    Args:
        trials: `keras_m3s.study.trial.Trial`s.
        workspace: Where the runs are.
        executor: As for `many_runs.run_all`.
        jobs: Likewise.

    Raises:
        click.ClickException: Runs of the confirmation are not done, or nothing can be chosen.
    """
    from keras_m3s.study import trial as steps

    confirmed = []
    for trial in trials:
        planned = trial.grid()
        click.echo(f"{trial.model}: learning rates, {len(planned)} runs on validation data")
        _stop_if_asked(many_runs.run_all(planned, workspace, executor, jobs))
        rates = steps.best_rates(planned, workspace)
        planned = trial.screening(rates)
        click.echo(f"{trial.model}: screening, {len(planned)} runs on validation data")
        _stop_if_asked(many_runs.run_all(planned, workspace, executor, jobs))
        arms = steps.best_arms(planned, workspace)
        listed = ", ".join(method_cards.CARDS[arm].title for arm in arms)
        confirmed += trial.confirmation(rates, arms)
        click.echo(f"{trial.model}: {listed} go on")
    click.echo(f"Confirmation, {len(confirmed)} runs on test data")
    many_runs.raise_if_undone(many_runs.run_all(confirmed, workspace, executor, jobs))
    print_recommendations(workspace)


def print_recommendations(workspace: Any) -> None:
    """What the report says to use."""
    import pathlib

    from keras_m3s.report import trial
    from keras_m3s.report.reading import read_runs

    click.echo(f"\n{trial.section(read_runs(pathlib.Path(workspace.runs))).intro}")


def _stop_if_asked(outcomes: Sequence[Any]) -> None:
    """Ends the command if a step was stopped; runs that failed count as results that are absent."""
    from keras_m3s.study.workspace import FAILED, STOPPED

    for outcome in outcomes:
        if outcome.status == FAILED:
            click.echo(f"{outcome.status}: {outcome.key}\n  {outcome.message}", err=True)
    if any(outcome.status == STOPPED for outcome in outcomes):
        many_runs.raise_if_undone(outcomes)
