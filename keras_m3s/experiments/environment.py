"""What a run was made with, in its environment.json: data, method, backend, package versions.

It is written when training starts at the first epoch and kept from then on. Whenever the run is
used again, to resume training, to test it or for its results, the data must still be the same, and
what the method's card says of training; it is resumed on its own backend only. Other package
versions are noted, not refused.
"""

import contextlib
import importlib.metadata
import json
import platform
import warnings
from collections.abc import Mapping
from typing import Any

from keras_m3s.data.split import SplitLike
from keras_m3s.data.streaming import StreamedSplit
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunDirectory,
)
from keras_m3s.registry import methods

FILE = "environment.json"

PACKAGES = (
    "keras-m3s",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "tensorflow-datasets",
    "numpy",
    "scikit-learn",
)

STREAMED = "streamed:"
"""Prefix of fingerprints of data on disk, which are not those of the same data in memory."""

SHOWN = 8
"""Digits of a fingerprint in messages."""


def environment(backend: str, data: Mapping[str, str], method: str | None = None) -> dict[str, Any]:
    """Versions of what the numbers depend on.

    Args:
        backend: Name of the Keras backend.
        data: Fingerprint of each split.
        method: Name of the training method, whose card is kept.
    """
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "backend": backend,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "data": dict(data),
        **({"method": _of_card(method)} if method else {}),
    }


def record(run: RunDirectory, backend: str, splits: Mapping[str, SplitLike]) -> None:
    """Writes the environment of a run that starts, and checks it for a run that resumes.

    A run resumes if it has a checkpoint. Without one it starts over, with nothing of its last start
    left in use, so that it may do so on other data.

    Args:
        run: Its directory.
        backend: Name of the Keras backend.
        splits: The data.

    Raises:
        ChangedExperimentError: The run resumes, and its data, method or backend differ from those
            before.
        DamagedRunError: Its environment.json cannot be read.
    """
    now = environment(backend, _fingerprints(splits), _method(run))
    epochs_done = next((done for done, _ in run.checkpoints), 0)
    before = _read(run) if epochs_done else None
    if before is None:
        run.write_json(FILE, now)
        return
    if before.get("backend", backend) != backend:
        raise ChangedExperimentError(
            f"A run must be resumed on the backend it began with. Received: {run.path}, begun with "
            f"{before['backend']}, now {backend}. Set KERAS_BACKEND={before['backend']}, or delete "
            "the directory to begin anew."
        )
    _require_same_data(run, before, now["data"])
    _require_same_method(run, before)
    merged = {**before, "data": {**now["data"], **before["data"]}}
    if changed := _changed_versions(before, now):
        known = ", ".join(f"{package} {a} then, {b} now" for package, (a, b) in changed.items())
        warnings.warn(f"{run.path} resumes with other versions: {known}.", stacklevel=4)
        versions = {package: b for package, (_, b) in changed.items()}
        resumed = {"epochs": epochs_done, "packages": versions}
        merged["resumed"] = [*before.get("resumed", []), resumed]
    if merged != before:
        run.write_json(FILE, merged)


def add_data(run: RunDirectory, splits: Mapping[str, SplitLike]) -> None:
    """As `check_unchanged`, and records the splits that the run did not have so far."""
    check_unchanged(run, splits)
    before = _read(run)
    if before is not None and not set(splits) <= set(before["data"]):
        run.write_json(FILE, {**before, "data": {**_fingerprints(splits), **before["data"]}})


def check_unchanged(run: RunDirectory, splits: Mapping[str, SplitLike]) -> None:
    """Checks that a run was made with these data and this method, as far as its directory says.

    Args:
        run: A run that has been trained.
        splits: Those that are about to be used. A split that the run did not have is not checked.

    Raises:
        ChangedExperimentError: A split has other data than the run's, or the run's method is not
            what it was.
        DamagedRunError: Its environment.json cannot be read.
    """
    before = _read(run)
    if before is not None:
        known = {name: split for name, split in splits.items() if name in before["data"]}
        _require_same_data(run, before, _fingerprints(known))
        _require_same_method(run, before)


def _read(run: RunDirectory) -> dict[str, Any] | None:
    if not (run.path / FILE).is_file():
        return None
    values = run.read_json(FILE)
    for name in ("data", "packages"):
        if not isinstance(values.setdefault(name, {}), dict):
            raise DamagedRunError(
                f"`{name}` in {run.path / FILE} must be an object. Received: {values[name]!r}. "
                "Bring the file back from a copy, or delete it to use the run unchecked."
            )
    return values


def _fingerprints(splits: Mapping[str, SplitLike]) -> dict[str, str]:
    return {
        name: f"{STREAMED}{split.fingerprint()}"
        if isinstance(split, StreamedSplit)
        else split.fingerprint()
        for name, split in splits.items()
    }


def _require_same_data(
    run: RunDirectory, before: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> None:
    pairs = {n: (str(before["data"][n]), f) for n, f in fingerprints.items() if n in before["data"]}
    changed = {name: pair for name, pair in pairs.items() if _differ(*pair)}
    if changed:
        listed = "; ".join(
            f"{name}: {_short(then)} then, {_short(now)} now"
            for name, (then, now) in changed.items()
        )
        raise ChangedExperimentError(
            f"A run must keep its data. Received: {run.path}, whose data of that name has changed "
            f"({listed}; fingerprints). Bring the old data back, choose another directory, or "
            "delete this one."
        )


def _method(run: RunDirectory) -> str | None:
    """Name of a run's method; `None` of a directory where no run was started."""
    with contextlib.suppress(FileNotFoundError):
        return run.experiment().method
    return None


def _of_card(method: str) -> dict[str, Any]:
    """What a method's card says of training, as it is read back from a file."""

    def described(option: Any) -> Any:
        config = option.get_config() if hasattr(option, "get_config") else None
        return {"class": type(option).__qualname__, "config": config}

    card = methods.CARDS[method]
    said = {"wrapper": card.wrapper, "options": dict(card.options), "holes": dict(card.holes)}
    found: dict[str, Any] = json.loads(json.dumps(said, default=described))
    return found


def _require_same_method(run: RunDirectory, before: Mapping[str, Any]) -> None:
    """Raises `ChangedExperimentError` if the card of the run's method says something else now."""
    method, then = _method(run), before.get("method")
    if method is None or then is None:  # of version 0.1.0
        return
    now = _of_card(method)
    if then != now:
        raise ChangedExperimentError(
            f"The card of a run's method must keep its wrapper, options and holes. Received: "
            f"{run.path}, where {method!r} was {then}, and is {now} now. Give the new card another "
            "name, or delete the directory."
        )


def _short(fingerprint: str) -> str:
    return fingerprint.removeprefix(STREAMED)[:SHOWN]


def _differ(one: str, other: str) -> bool:
    """Whether two fingerprints tell data apart: only fingerprints of the same kind do."""
    return one != other and one.startswith(STREAMED) == other.startswith(STREAMED)


def _changed_versions(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Package -> versions at the start, or when last resumed, and now."""
    last = dict(before["packages"])
    for resumed in before.get("resumed", []):
        last |= resumed["packages"]
    return {
        package: (last[package], version)
        for package, version in now["packages"].items()
        if last.get(package, version) != version
    }
