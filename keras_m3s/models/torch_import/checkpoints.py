"""Published PyTorch checkpoints to Keras weights: every weight accounted for, or one error.

A model says in `torch_weights()` which PyTorch array fills which variable
(`keras_m3s.models.torch_import.weights`). Two class attributes, both optional, say how published
files differ from that list:

- `torch_unused`: regular expressions, matched in full, of names the port has no use for;
- `torch_renames`: pairs (regular expression, replacement), applied to every name in order.
"""

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_m3s.models.torch_import.weights import Array, TorchWeight

TORCH_SUFFIXES = (".pth", ".pt", ".std", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model")
DATA_PARALLEL = "module."


def load_torch_checkpoint(
    model: Any,
    checkpoint: Mapping[str, Any] | str | os.PathLike[str],
    ignore: Iterable[str] = (),
) -> None:
    """Fills a built model with the weights of a published PyTorch checkpoint.

    Nothing is assigned unless everything fits.

    Args:
        model: A built model that has `torch_weights()`.
        checkpoint: A state dict (PyTorch tensors or arrays by name, bare or under `state_dict` or
            `model`); or the path of a `.pth`, `.pt`, `.std`, `.bin`, `.ckpt` (loaded with
            `weights_only=True`, needs PyTorch), `.safetensors` (needs safetensors) or `.npz` file;
            or a folder of `*_net_{part}.pth` files, one per sub-network, as MMIN saves them.
        ignore: Regular expressions, matched in full, of names in the checkpoint to leave aside,
            such as `bertmodel\\..*` for a model that takes text states instead of tokens.

    Raises:
        ValueError: The model is not built, or names are unknown, missing or misshapen (all are
            listed), or the file holds something other than weights.
        FileNotFoundError: There is no such file.
        ImportError: PyTorch or safetensors is needed to read the file and is not installed.
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built before weights can be loaded. Received: an unbuilt "
            f"{type(model).__name__}. Call it once on a batch (or on zeros of the same shapes)."
        )
    state = _plain_names(_read(checkpoint), getattr(model, "torch_renames", ()))
    weights = list(model.torch_weights())
    unused = [re.compile(p) for p in (*getattr(model, "torch_unused", ()), *ignore)]
    values, problems = _match(weights, state, unused)
    if problems:
        raise ValueError(
            f"The checkpoint must fit {type(model).__name__} name by name; nothing was loaded. "
            + "Received:\n"
            + "\n".join(problems)
            + "\nMake the model with the arguments the checkpoint was trained with, or pass"
            " `ignore=[...]` for names to leave aside."
        )
    for weight, value in zip(weights, values, strict=True):
        # A copy: JAX may keep the array itself, which PyTorch may go on to train.
        weight.variable.assign(np.array(value))


def _match(
    weights: list[TorchWeight], state: Mapping[str, Array], unused: list[re.Pattern[str]]
) -> tuple[list[Array], list[str]]:
    """The value of each weight, and a line for each thing that does not fit."""
    values, problems = [], []
    needed = {name for weight in weights for name in weight.names}
    unknown = [
        name for name in state if name not in needed and not any(p.fullmatch(name) for p in unused)
    ]
    problems += [f"- unknown: {name} {tuple(state[name].shape)}" for name in sorted(unknown)]
    for weight in weights:
        shape = tuple(weight.variable.shape)
        absent = [name for name in weight.names if name not in state]
        if absent:
            problems += [
                f"- missing: {name} (for {weight.variable.path} {shape})" for name in absent
            ]
            continue
        arrays = [state[name] for name in weight.names]
        try:
            value = weight.to_keras(*arrays)
        except (ValueError, IndexError):  # too few axes, or not divisible into gates
            value = None
        if value is None or value.shape != shape:
            came = ", ".join(f"{n} {a.shape}" for n, a in zip(weight.names, arrays, strict=True))
            problems.append(f"- misshapen: {came} (for {weight.variable.path} {shape})")
            continue
        values.append(value)
    return values, list(dict.fromkeys(problems))


def _plain_names(
    state: Mapping[str, Array], renames: Iterable[tuple[str, str]]
) -> dict[str, Array]:
    """Names without what wrappers put in front, and as the model spells them."""
    state = _without_data_parallel(state)
    patterns = [(re.compile(pattern), new) for pattern, new in renames]
    plain: dict[str, Array] = {}
    for name, array in state.items():
        new_name = name
        for pattern, replacement in patterns:
            new_name = pattern.sub(replacement, new_name)
        if new_name in plain:
            raise ValueError(
                f"Each weight must come once. Received: two of the name {new_name!r} "
                f"(one of them as {name!r})."
            )
        plain[new_name] = array
    return _without_data_parallel(plain)


def _without_data_parallel(state: Mapping[str, Array]) -> dict[str, Array]:
    # Only if all names have it: `module.0.weight` is also a real name in MMIN's classifier.
    while state and all(name.startswith(DATA_PARALLEL) for name in state):
        state = {name.removeprefix(DATA_PARALLEL): array for name, array in state.items()}
    return dict(state)


def _read(checkpoint: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Array]:
    if isinstance(checkpoint, Mapping):
        return _arrays(checkpoint)
    path = pathlib.Path(checkpoint)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`checkpoint` must be a state dict or the path of one. Received: {path}, "
            "where there is no file."
        )
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    raise ValueError(
        f"`checkpoint` must end in one of {(*TORCH_SUFFIXES, '.safetensors', '.npz')}. "
        f"Received: {path.name}."
    )


@contextlib.contextmanager
def _whole(path: pathlib.Path, what: str, instead: str = "") -> Iterator[None]:
    """Damage shows in whatever the readers of others raise: it is one error here."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; EINVAL is a place before the file's beginning
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path.name} must hold {what}. Received: {said}. "
            f"{instead or 'Fetch it again from its source.'}"
        ) from error


def _read_npz(path: pathlib.Path) -> dict[str, Array]:
    say = "numbers only: pickled objects can run code and are not loaded"
    with _whole(path, say), np.load(path, allow_pickle=False) as file:
        if not hasattr(file, "files"):
            raise ValueError("a .npz file must hold arrays by name. Received: a lone array")
        return {name: file[name] for name in file.files}


def _read_folder(folder: pathlib.Path) -> dict[str, Array]:
    """MMIN's form: `{epoch}_net_{part}.pth` holds one sub-network, here named `{part}.{name}`."""
    files: dict[str, pathlib.Path] = {}
    for path in sorted(folder.glob("*_net_*.pth")):
        _epoch, part = path.stem.split("_net_", 1)
        if part in files:
            raise ValueError(
                f"A folder of sub-networks must hold each once. Received: {files[part].name} and "
                f"{path.name}. Keep the files of one epoch in a folder of their own."
            )
        files[part] = path
    if not files:
        raise ValueError(
            "A folder given as `checkpoint` must hold files named `*_net_{part}.pth`. "
            f"Received: {folder}, which has none. Give the path of the file itself."
        )
    return {
        f"{part}.{name}": array
        for part, path in files.items()
        for name, array in _without_data_parallel(_read_torch(path)).items()
    }


def _read_torch(path: pathlib.Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name} needs PyTorch, which is not installed: install it "
            "(`pip install keras-m3s[torch]`), or save the weights as .safetensors or .npz where "
            "it is."
        ) from error
    say = "a state dict and nothing else: other pickled objects can run code and are not loaded"
    trusted = "Where you trust the file, load it there and save `model.state_dict()`."
    with _whole(path, say, trusted):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path.name} must hold a state dict. Received: {type(loaded).__name__}.")
    return _arrays(loaded)


def _read_safetensors(path: pathlib.Path) -> dict[str, Array]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name} needs safetensors: `pip install safetensors`."
        ) from error
    # numpy has no bfloat16 of its own, so the numpy reader refuses such tensors.
    say, instead = "types that numpy has", "Save it as float32, or fetch it again."
    with _whole(path, say, instead), safe_open(path, framework="np") as file:
        names = list(file.keys())  # the file itself cannot be iterated
        return {name: np.asarray(file.get_tensor(name)) for name in names}


def _arrays(state: Mapping[str, Any]) -> dict[str, Array]:
    """Unwraps `{"state_dict": ...}` and turns each entry into a numpy array."""
    for key in WRAPPERS:
        if isinstance(state.get(key), Mapping):
            return _arrays(state[key])
    arrays, strangers = {}, []
    for name, value in state.items():
        array = _array(value)
        if array is None:
            strangers.append(f"{name} ({type(value).__name__})")
        else:
            arrays[str(name)] = array
    if strangers:
        raise ValueError(
            "A state dict must map names to tensors or arrays. "
            f"Received also: {', '.join(strangers)}."
        )
    return arrays


def _array(value: Any) -> Array | None:
    if hasattr(value, "detach"):  # a PyTorch tensor, without importing PyTorch
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
        return np.asarray(value.numpy())
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        return None if array.dtype == object else array
    return None
