"""Errors and warnings as a user of the command sees them: one message, no stack trace."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from keras_m3s.utils import user_code

EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
"""What the library raises with messages for users."""

OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")
"""Names of the backends' own errors, none of which is a `MemoryError`."""

OUT_OF_MEMORY_TEXTS = ("RESOURCE_EXHAUSTED", "can't allocate memory")
"""In messages of JAX, and of PyTorch on a CPU."""


class Interrupted(click.ClickException):
    """Ctrl-C, with the exit status that shells report for it."""

    exit_code = 130


class Group(click.Group):
    """Ends a failed command with one message; with `--debug` the stack trace is shown."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _short_warnings():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # handled by click, silently where a reader such as `head` has had enough
        except (Exception, KeyboardInterrupt) as error:
            if ctx.params.get("debug"):
                raise
            _end(error)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """Prints warnings for users as one line, without file and line of the code that warns."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is UserWarning:
            click.echo(f"Warning: {message}", err=True)
        else:
            usual(message, category, *where, **more)

    with warnings.catch_warnings():
        usual = warnings.showwarning
        warnings.showwarning = show
        yield


def _end(error: BaseException) -> NoReturn:
    kind = Interrupted if isinstance(error, KeyboardInterrupt) else click.ClickException
    raise kind(_message(error)) from error


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. What was saved is intact; the same command resumes from there."
    if _is_out_of_memory(error):
        reason = f": {user_code.message(error)}" if str(error) else ""
        return f"Out of memory{reason}. Take a smaller --batch-size or fewer --jobs, or free some."
    if user_code.location(error):
        return user_code.describe(error)
    if isinstance(error, EXPECTED) and str(error):
        return str(error)
    return (
        f"This should not happen: {type(error).__name__}: {error}. The same command as "
        "`keras-m3s --debug ...` shows where; please report that."
    )


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in OUT_OF_MEMORY
        or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    )
