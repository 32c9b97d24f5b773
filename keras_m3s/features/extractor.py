"""`Extractor`, the interface of feature extractors, and `load_hook` for those of the user's own."""

import importlib
import os
import re
import sys
from typing import Any, Protocol

import numpy as np

from keras_m3s.features.clips import Clip
from keras_m3s.utils import user_code


class Extractor(Protocol):
    """Computes the features of one modality from a clip.

    An extractor of text may also have a method `tokens(clip)`, which returns int32 `(3, steps)`:
    ids, mask, segments.

    Attributes:
        name: What it computes, in words. Features of extractors with different names do not mix.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, clip: Clip) -> np.ndarray:
        """Features of a clip, float32 `(steps, dim)`."""
        ...


class HookError(ValueError):
    """Code of the user's own failed; the message has its file, line and error."""


def load_hook(path: str) -> Extractor:
    """Imports an extractor of the user's own.

    Args:
        path: `module:name` of an extractor, or of a class that is called without arguments. The
            module is an installed one or a file `module.py` in the current folder.

    Returns:
        The extractor.

    Raises:
        ValueError: There is no such module or name, or it is not an extractor.
        HookError: The module or the class raises an error.
    """
    module_name, _, name = path.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", path) or module_name.endswith(".py"):
        raise ValueError(
            "A hook must be 'module:name', a module's name without its folder and '.py'. "
            f"Received: {path!r}. {_advice(module_name, name)}"
        )
    folder = os.getcwd()
    if folder not in sys.path:  # a command's own folder is there instead of the current one
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            if not hasattr(found, part):
                file = getattr(found, "__file__", None) or "built in"
                raise _NotFoundError(f"{module_name!r} ({file}) has no {name!r}")
            found = getattr(found, part)
        hook = found() if isinstance(found, type) else found
        is_extractor = callable(hook) and isinstance(getattr(hook, "name", None), str)
    except _NotFoundError as error:
        raise ValueError(
            f"A hook must be 'module:name' of something that is there. Received: {path!r}; {error}."
        ) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _names(error.name, module_name):
            raise ValueError(
                "A hook must be 'module:name' of a module that can be imported. Received: "
                f"{path!r}; there is no module {error.name!r} in {folder}, nor is one installed."
            ) from error
        raise HookError(f"The hook {path!r} failed: {user_code.describe(error)}") from error
    if not is_extractor:
        raise ValueError(
            "A hook must be callable with a clip and have a `name`, a string. "
            f"Received: {path!r}, {type(hook).__name__}."
        )
    extractor: Extractor = hook
    return extractor


class _NotFoundError(Exception):
    """A module lacks a name."""


def _names(missing: str | None, module: str) -> bool:
    """Whether the module that was not found is the hook's own, or a package that holds it."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _advice(module: str, name: str) -> str:
    folder, stem = os.path.split(module.removesuffix(".py"))
    where = f" in the folder {folder}" if folder not in ("", ".") else ""
    return f"Run the command{where} with '{stem}:{name or 'NAME'}'."
