"""Files that are there whole or not at all, and what is said where they cannot be written."""

import contextlib
import errno
import os
import pathlib
import secrets
from collections.abc import Iterator

TEMPORARY = ".writing-"
"""How the names of files begin that are not whole yet."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class WriteError(OSError):
    """A file cannot be written: there is no room, or no right to."""

    def __str__(self) -> str:
        return str(self.strerror)  # without the number


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A temporary path that becomes `path` if all goes well, and is gone if not.

    Args:
        path: The file; its folder is made.

    Yields:
        The path of an empty file in the same folder, of the same ending.

    Raises:
        WriteError: There is no room, or the folder may not be written to.
    """
    path = pathlib.Path(path)
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(4)}{path.suffix}"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with explained(path, FULL):  # another permission that lacks is not this file's
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # or a loss of power leaves the name without the content
        with explained(path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(
    path: str | os.PathLike[str], numbers: tuple[int, ...] = FULL + CLOSED
) -> Iterator[None]:
    """Says of errors in this scope that `path` was to be written, and what to do.

    Args:
        path: The file or folder that is written.
        numbers: Of which errors, out of `FULL` and `CLOSED`.

    Raises:
        WriteError: In place of such an error.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _number(error)
        if number not in numbers:
            raise
        raise WriteError(number, _message(pathlib.Path(path), number)) from error


def _number(error: Exception) -> int | None:
    """The system's number of an error; some libraries hand it on only as text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return next((number for number in FULL if os.strerror(number) in str(error)), None)


def _message(path: pathlib.Path, number: int) -> str:
    if number in FULL:
        return (
            f"There must be room for {path}. Received: {os.strerror(number)}. Free some, or choose "
            "another folder; what was there before is untouched."
        )
    return (
        f"{path.parent} must be a folder that you may write to. Received: {os.strerror(number)}. "
        "Change its permissions, or choose another folder."
    )
