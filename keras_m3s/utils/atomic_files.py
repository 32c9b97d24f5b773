"""Atomic file writes, with readable errors."""

import contextlib
import errno
import os
import pathlib
import secrets
from collections.abc import Iterator

TEMPORARY = ".writing-"
"""Prefix of the names of files that are still being written."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a lack of space."""

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a lack of permission."""


class WriteError(OSError):
    """A file cannot be written, for lack of space or permission."""

    def __str__(self) -> str:
        return str(self.strerror)  # `OSError` would add the number


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Writes a file atomically: yields a temporary path, which replaces `path` at the end.

    If the scope raises, the temporary file is deleted and `path` stays as it was.

    Args:
        path: The file; its folder is created.

    Yields:
        Path of an empty file in the same folder, with the same suffix.

    Raises:
        WriteError: For lack of space, or of permission to write to the folder.
    """
    path = pathlib.Path(path)
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(4)}{path.suffix}"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with explained(path, FULL):  # a permission error in the caller's scope is of another file
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # else a power failure may leave the name without content
        with explained(path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(
    path: str | os.PathLike[str], numbers: tuple[int, ...] = FULL + CLOSED
) -> Iterator[None]:
    """Converts errors in this scope to `WriteError`, which names `path` and what to do.

    Args:
        path: The file or folder that is written.
        numbers: Error numbers to convert, out of `FULL` and `CLOSED`.

    Raises:
        WriteError: Instead of an error with one of `numbers`.
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
    """The error number; some libraries pass it on only as text."""
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
