"""A function in the user's code, `file.py:function` or `package.module:function`, by its source.

    source = find("har.py:build")
    source.digest               changes with the file, and with those beside it that it imports
    model = source.call(spec)

Sources of one name may differ from run to run, so a source is imported by itself: what it imports
from its own folder is its own, and `sys.modules` is afterwards as it was.
"""

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from keras_m3s.utils.user_code import INSTALLED

ENDING = ".py"

_IMPORTED: dict[tuple[str, str], dict[str, types.ModuleType]] = {}
"""Module and digest -> the modules of a source, by name; a source is executed once in a process."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of a function.

    Attributes:
        root: Folder that its imports start from.
        module: Name of its module there.
        function: Its name.
        files: Path below `root` -> content, of the module and of what it imports from there.
    """

    root: pathlib.Path
    module: str
    function: str
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of all files."""
        whole = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            whole.update(f"{name} {len(content)}\n".encode() + content)
        return whole.hexdigest()

    def call(self, *arguments: Any, **settings: Any) -> Any:
        """What the function returns; errors in it are raised as they are."""
        with self._scope():
            function = getattr(self._modules()[self.module], self.function, None)
            if not callable(function):
                names = [
                    n for n, o in vars(self._modules()[self.module]).items() if _is_own(o, self)
                ]
                raise ValueError(
                    f"{self.root / next(iter(self.files))} must have a function "
                    f"{self.function!r}. Received: {names or 'no function at all'}."
                )
            return function(*arguments, **settings)

    def objects(self) -> dict[str, Any]:
        """Classes and functions that are written in the source, by name."""
        with self._scope():
            modules = self._modules().values()
        return {n: o for m in modules for n, o in vars(m).items() if _is_own(o, self)}

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(_module_name(name) for name in self.files)

    def _modules(self) -> dict[str, types.ModuleType]:
        key = (self.module, self.digest)
        if key not in _IMPORTED:
            importlib.invalidate_caches()
            importlib.import_module(self.module)
            _IMPORTED[key] = {n: sys.modules[n] for n in self._names if n in sys.modules}
        return _IMPORTED[key]

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        """A scope in which the names of the source's modules mean these, and `root` is searched."""
        before = {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
        sys.modules.update(_IMPORTED.get((self.module, self.digest), {}))
        sys.path.insert(0, str(self.root))
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            yield
        finally:
            sys.dont_write_bytecode = written
            sys.path.remove(str(self.root))
            for name in self._names:
                sys.modules.pop(name, None)
            sys.modules.update(before)


def is_place(name: str) -> bool:
    """Whether a name is that of a place in the user's code, `...:function`."""
    where, _, function = name.rpartition(":")
    return bool(where) and function.isidentifier()


def absolute(place: str) -> str:
    """A place whose file goes by its absolute path."""
    where, _, function = place.rpartition(":")
    if not where.endswith(ENDING):
        return place
    path = pathlib.Path(where).expanduser()
    return f"{path.parent.resolve() / path.name}:{function}"


def short(place: str) -> str:
    """`/home/me/har.py:build` -> `har.build`."""
    where, _, function = place.rpartition(":")
    name = pathlib.PurePath(where).stem if where.endswith(ENDING) else where
    return f"{name}.{function}"


def find(place: str, root: str | os.PathLike[str] | None = None) -> Source:
    """The source of a function; nothing of it is executed, but the packages that a module is in.

    Args:
        place: `file.py:function` or `package.module:function`, a module of the current folder or an
            installed one.
        root: Folder to look in instead, where a source was kept.

    Raises:
        ValueError: It is no such place.
        FileNotFoundError: There is no such file or module.
        SyntaxError: A file is no Python.
    """
    where, _, function = place.rpartition(":")
    if not is_place(place):
        raise ValueError(
            "A function must be given as file.py:function or package.module:function. "
            f"Received: {place!r}."
        )
    if where.endswith(ENDING):
        path = pathlib.Path(where).expanduser()
        path = path if root is None else pathlib.Path(root) / path.name
        folder, module = path.parent.absolute(), path.stem
    else:
        module = where
        folder, path = _module_place(where, None if root is None else pathlib.Path(root))
    if not path.is_file():
        raise FileNotFoundError(
            f"The file of {place} must exist. Received: {path}, which does not."
        )
    if "." in path.stem:
        raise ValueError(
            f"A file of Python must have no other dot in its name. Received: {path.name}."
        )
    return Source(folder, module, function, _files(folder, path.absolute(), module))


def _module_place(module: str, root: pathlib.Path | None) -> tuple[pathlib.Path, pathlib.Path]:
    """Folder that a module's name starts from, and its file."""
    parts = module.split(".")
    folders = [pathlib.Path.cwd()] if root is None else [root]
    for folder in folders:
        for path in (
            folder.joinpath(*parts).with_suffix(ENDING),
            folder.joinpath(*parts, "__init__.py"),
        ):
            if path.is_file():
                return folder, path
    try:
        found = importlib.util.find_spec(module) if root is None else None
    except ModuleNotFoundError:  # of a package that it is in
        found = None
    if found is None or not found.origin or not found.origin.endswith(ENDING):
        raise FileNotFoundError(
            f"A module must be in the current folder or installed, and written in Python. "
            f"Received: {module!r}, which is not there."
        )
    path = pathlib.Path(found.origin)
    up = len(parts) + (path.name == "__init__.py")
    return path.parents[up - 1], path


def _files(root: pathlib.Path, path: pathlib.Path, module: str) -> dict[str, bytes]:
    """The file, and those below the same root that it imports, directly or not."""
    found: dict[str, bytes] = {}
    left = [path]
    installed = bool({*INSTALLED} & {*root.parts})
    while left:
        file = left.pop()
        name = file.relative_to(root).as_posix()
        if name in found:
            continue
        found[name] = file.read_bytes()
        # The packages that it is in are executed with it.
        folders = file.relative_to(root).parents[:-1]
        left += [p for f in folders if (p := root / f / "__init__.py").is_file()]
        for imported in _imports(found[name], file, _module_name(name)):
            if installed and imported.partition(".")[0] != module.partition(".")[0]:
                continue
            parts = imported.split(".")
            candidates = (
                root.joinpath(*parts).with_suffix(ENDING),
                root.joinpath(*parts, "__init__.py"),
            )
            left += [p for p in candidates if p.is_file()][:1]
    return found


def _imports(content: bytes, file: pathlib.Path, module: str) -> Iterator[str]:
    """Names of all modules that a file may import."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(content, str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(filter(None, (*(above if node.level else ()), node.module)))
            if base:
                yield base
            yield from (".".join(filter(None, (base, alias.name))) for alias in node.names)


def _module_name(name: str) -> str:
    parts = pathlib.PurePosixPath(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_own(value: Any, source: Source) -> bool:
    written = isinstance(value, (type, types.FunctionType))
    return written and getattr(value, "__module__", None) in source._names
