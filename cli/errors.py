"""What a user of the command sees when something goes wrong: one message, never a stack trace."""

from typing import Any, NoReturn

import click

EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
"""What the library raises, with messages for users."""


class Interrupted(click.ClickException):
    """Ctrl-C, with the status that shells give a command that it ended."""

    exit_code = 130


class Group(click.Group):
    """Ends a command that failed with one message; with `--debug` the whole trace is shown."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own way, which is silent where a reader such as `head` has enough
        except (Exception, KeyboardInterrupt) as error:
            if ctx.params.get("debug"):
                raise
            _end(error)


def _end(error: BaseException) -> NoReturn:
    kind = Interrupted if isinstance(error, KeyboardInterrupt) else click.ClickException
    raise kind(_message(error)) from error


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. What was saved by then is whole; the same command goes on from there."
    if isinstance(error, MemoryError):
        return (
            f"There must be memory enough. Received: {str(error) or 'no more'}. Take a smaller "
            "--batch-size or fewer --jobs, or free some."
        )
    if isinstance(error, EXPECTED) and str(error):
        return str(error)
    return (
        f"This should not happen: {type(error).__name__}: {error}. The same command as "
        "`keras-m3s --debug ...` shows where; please report that."
    )
