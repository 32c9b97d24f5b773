"""Errors in the user's own code, in one line with file and line number."""

import pathlib
import sysconfig
import traceback

OURS = ("keras_m3s", "tfds_builders")
INSTALLED = ("site-packages", "dist-packages")


def describe(error: BaseException) -> str:
    """An error in one line: `hook.py, line 3: ValueError: message`.

    File and line are left out if the error arose in installed packages alone.
    """
    text = message(error)
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    where = location(error)
    return f"{where}: {line}" if where else line


def message(error: BaseException) -> str:
    """The message of an error in one line; of a syntax error without its place."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())


def location(error: BaseException) -> str | None:
    """The innermost line of the user's own code that an error passed through.

    Returns:
        `hook.py, line 3`; `None` if the error arose in installed packages alone.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_users_file(error.filename):
        return f"{error.filename}, line {error.lineno}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in OURS and _is_users_file(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}, line {line}"
    return None


def _is_users_file(filename: str) -> bool:
    """Whether a file belongs neither to Python nor to an installed package."""
    path = pathlib.Path(filename)
    pythons = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts"))
    return (
        path.is_file()
        and not {*INSTALLED} & {*path.parts}
        and not any(path.is_relative_to(folder) for folder in pythons)
    )
