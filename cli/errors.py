"""Errors and warnings as a user of the command sees them: one message, no stack trace."""

import contextlib
import pathlib
import site
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import click

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
        reason = f": {_one_line(error)}" if str(error) else ""
        return f"Out of memory{reason}. Take a smaller --batch-size or fewer --jobs, or free some."
    if where := _user_code(error):
        return f"{where}: {type(error).__name__}: {_one_line(error)}"
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


def _user_code(error: BaseException) -> str | None:
    """File and line of the user's own code that raised an error, or called what did."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{error.filename}, line {error.lineno}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("keras_m3s", "tfds_builders") and _is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}, line {line}"
    return None


def _is_users(filename: str) -> bool:
    """Whether a file is neither Python's own nor an installed package's."""
    path = pathlib.Path(filename)
    folders = {
        sys.prefix,
        sys.base_prefix,
        site.getusersitepackages(),
        *sysconfig.get_paths().values(),
    }
    return path.is_file() and not any(path.is_relative_to(folder) for folder in folders)


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())
