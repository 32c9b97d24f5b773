"""Many runs from a command: progress on the way, and what is not done at the end."""

from collections.abc import Sequence
from typing import Any

import click


def make(planned: Sequence[Any], place: Any, executor: str, jobs: int) -> list[Any]:
    """All runs, with progress on the way."""
    from keras_m3s.cli.study_progress import StudyProgress
    from keras_m3s.study import executors
    from keras_m3s.utils import termination

    with termination.graceful(children=True):
        with StudyProgress(planned, place, jobs):
            outcomes = executors.execute(planned, place, executor, jobs)
        if termination.asked():
            click.echo("Stopped; what was done is saved, and the same command goes on.", err=True)
    return outcomes


def raise_undone(outcomes: Sequence[Any]) -> None:
    """Says which runs are not done and why, if any; the command fails then."""
    from keras_m3s.study import executors

    undone = [o for o in outcomes if o.status not in (executors.DONE, executors.REUSED)]
    for outcome in undone:
        click.echo(f"{outcome.status}: {outcome.key}\n  {outcome.message}", err=True)
    if undone:
        raise click.ClickException(
            f"{len(undone)} of {len(outcomes)} runs are not done. The same command does them "
            "again, and only them."
        )
