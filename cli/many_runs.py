"""Studies of many runs: progress while they run, and a report of those that are not done."""

from collections.abc import Sequence
from typing import Any

import click


def run_all(planned: Sequence[Any], workspace: Any, executor: str, jobs: int) -> list[Any]:
    """Executes runs and shows their progress.

    Args:
        planned: The runs.
        workspace: Where they are.
        executor: One of `keras_m3s.study.executors.EXECUTORS`.
        jobs: Runs at once.

    Returns:
        An outcome for each run.
    """
    from keras_m3s.cli.study_progress import StudyProgress
    from keras_m3s.study import executors
    from keras_m3s.utils import termination

    with termination.graceful(children=True):
        with StudyProgress(planned, workspace, jobs):
            outcomes = executors.execute(planned, workspace, executor, jobs)
        if termination.asked():
            click.echo("Stopped. Progress is saved; the same command resumes.", err=True)
    return outcomes


def raise_if_undone(outcomes: Sequence[Any]) -> None:
    """Prints which runs are not done and why, and fails the command if there are any."""
    from keras_m3s.study.workspace import DONE, REUSED

    undone = [o for o in outcomes if o.status not in (DONE, REUSED)]
    for outcome in undone:
        click.echo(f"{outcome.status}: {outcome.key}\n  {outcome.message}", err=True)
    if undone:
        raise click.ClickException(
            f"{len(undone)} of {len(outcomes)} runs are not done. The same command tries them "
            "again, and only them."
        )
