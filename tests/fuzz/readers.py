"""What is fuzzed: for each reader how valid files are made, and how they are read."""

import contextlib
import functools
import pathlib
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.made_up_runs import make_run
from tfds_builders import testing

COLUMNS = {"audio": 3, "vision": 4, "text": 5}


class Reader(NamedTuple):
    """`make` writes a folder of valid files, `read` reads it as the library would."""

    make: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], None]


def _pickle(folder: pathlib.Path) -> None:
    testing.write(folder / "my.pkl", testing.mmsa_content())


def _archive(folder: pathlib.Path) -> None:
    content = testing.mmsa_content()
    flat = {f"{split}/{key}": value for split, raw in content.items() for key, value in raw.items()}
    np.savez(folder / "my.npz", **flat)


def _read_file(folder: pathlib.Path) -> None:
    from keras_m3s import data

    for path in sorted(folder.glob("my.*")):
        for read in (data.load, data.inspect, lambda path: _all(data.unlabelled(path))):
            _each(functools.partial(read, path))


def _all(clips: Any) -> None:
    for name in set(clips.features) - {"text_bert"}:
        for row in range(len(clips)):
            clips.sequence(name, row)


def _npy_folder(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    modes = enumerate(["train"] * 4 + ["valid", "test"])
    lines = [f"v{row},{row},some words,{row / 2},{mode}" for row, mode in modes]
    (folder / "label.csv").write_text("\n".join(["video_id,clip_id,text,label,mode", *lines]))
    for name, columns in COLUMNS.items():
        np.save(folder / f"{name}.npy", rng.normal(size=(6, 5, columns)).astype("float32"))
    np.save(folder / "audio_lengths.npy", np.full(6, 5))


def _read_npy_folder(folder: pathlib.Path) -> None:
    from keras_m3s import data
    from tfds_builders import npy_folder

    def own() -> None:
        for segments in npy_folder.read(folder).values():
            for sequences in segments.features.values():
                for row in range(len(sequences)):
                    np.asarray(sequences[row])

    _each(own, lambda: data.inspect(folder), lambda: _all(data.unlabelled(folder)))


def _word_lists(style: str) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        testing.write_lists(folder, style)

    return make


def _read_word_lists(folder: pathlib.Path) -> None:
    from keras_m3s import data
    from tfds_builders.cmu_mosi import word_lists

    paths = [path for path in sorted(folder.glob("*")) if path.is_file()]
    names = {path.name for path in paths}
    beside = names & {word_lists.EMBEDDINGS, word_lists.VOCABULARY}
    if names >= set(word_lists.FILES.values()) and beside:  # as the builder checks
        _each(lambda: word_lists.read(paths))
    _each(*(functools.partial(data.inspect, path) for path in paths if path.suffix == ".pkl"))


def _csd(folder: pathlib.Path) -> None:
    from tfds_builders.cmu_mosi.folds import FOLDS

    testing.write_csd(folder, [sorted(FOLDS[split])[0] for split in FOLDS])


def _read_csd(folder: pathlib.Path) -> None:
    from keras_m3s import data
    from tfds_builders.cmu_mosi import csd

    found = csd.find(sorted(path.name for path in folder.glob("*.csd")))
    files = {kind: folder / names[0] for kind, names in found.items() if names}
    if set(files) >= set(csd.NAMES) - {"words"}:  # as the builder checks
        _each(lambda: csd.read(files, aligned=True), lambda: csd.read(files, aligned=False))
    _each(*(functools.partial(data.inspect, path) for path in files.values()))


def _mmin(folder: pathlib.Path) -> None:
    testing.write_iemocap(folder, COLUMNS)


def _read_mmin(folder: pathlib.Path) -> None:
    from tfds_builders import hdf5
    from tfds_builders.iemocap import mmin_files

    def read() -> None:
        targets = {split: mmin_files.target(folder, 1, split) for split in mmin_files.SPLITS}
        mmin_files.check_targets(1, targets)
        ids = [name for target in targets.values() for name in target.ids]
        with contextlib.ExitStack() as stack:
            opened = {m: stack.enter_context(hdf5.opened(folder / p)) for m, p in mmin_files.FEATURES.items()}  # fmt: skip
            mmin_files.check_features(opened, COLUMNS, ids)
            mmin_files.mean_std(folder, 1, opened["audio"], targets["train"].ids, COLUMNS["audio"])
            for name in ids:
                for modality, file in opened.items():
                    hdf5.array(file, name, modality, COLUMNS[modality])

    _each(read)


def _weights(folder: pathlib.Path) -> None:
    import safetensors.numpy
    import torch

    rng = np.random.default_rng(0)
    arrays = {
        "a.weight": rng.normal(size=(3, 4)).astype("float32"),
        "a.bias": np.ones(3, "float32"),
    }
    np.savez(folder / "w.npz", **arrays)
    safetensors.numpy.save_file(arrays, folder / "w.safetensors")
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    torch.save({"state_dict": tensors}, folder / "w.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)


def _read_weights(folder: pathlib.Path) -> None:
    from keras_m3s.models import load_torch_checkpoint

    model = types.SimpleNamespace(built=True, torch_weights=lambda: [])
    _each(
        *(
            lambda path=path: load_torch_checkpoint(model, path, [r".*"])
            for path in sorted(folder.glob("*.*"))
        )
    )


def _run(folder: pathlib.Path) -> None:
    make_run(folder / "one", method="orig")
    make_run(folder / "two", method="m3s", seed=1)


def _read_run(folder: pathlib.Path) -> None:
    from keras_m3s.experiments.run_directory import RunDirectory
    from keras_m3s.report.build import build
    from keras_m3s.report.records import read_runs
    from keras_m3s.study import run_time

    for path in sorted(file.parent for file in folder.rglob("experiment.json")):
        run = RunDirectory(path)
        _each(run.experiment, run.read_history, functools.partial(getattr, run, "seconds"))
        _each(*(functools.partial(run.read_json, file.name) for file in path.glob("*.json")))
    _each(lambda: run_time.measured_epochs(folder), lambda: build(read_runs(folder), "title"))


def _model(folder: pathlib.Path) -> None:
    import keras

    from keras_m3s import M3S, MissingModality

    audio = keras.Input((5, 3), name="audio")
    model = keras.Model({"audio": audio}, keras.layers.Dense(1)(keras.layers.Flatten()(audio)))
    outer = M3S(model, MissingModality({"audio": (0.2, 0.8)}, seed=0), 1, 0.1)
    outer.compile("adam", loss="mse")
    outer.train_on_batch({"audio": np.ones((4, 5, 3))}, np.ones((4, 1)))
    for name in ("last-0001", "last-0002", "best"):
        outer.save(folder / f"{name}.keras")


def _read_model(folder: pathlib.Path) -> None:
    from keras_m3s.experiments import checkpoints
    from keras_m3s.experiments.run_directory import RunDirectory

    run = RunDirectory(folder)
    _each(lambda: checkpoints.newest_checkpoint(run), lambda: checkpoints.best_model(run))


def _each(*reads: Callable[[], Any]) -> None:
    """Each reads, or says what must hold; anything else is a finding."""
    for read in reads:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
        except (ValueError, FileNotFoundError) as error:
            if "must" not in str(error):
                raise AssertionError(
                    f"no reader's own error: {type(error).__name__}: {error}"
                ) from error


READERS = {
    "pickle": Reader(_pickle, _read_file),
    "npz": Reader(_archive, _read_file),
    "npy folder": Reader(_npy_folder, _read_npy_folder),
    "lists of MISA": Reader(_word_lists("misa"), _read_word_lists),
    "lists of MMIM": Reader(_word_lists("mmim"), _read_word_lists),
    "csd": Reader(_csd, _read_csd),
    "MMIN": Reader(_mmin, _read_mmin),
    "weights": Reader(_weights, _read_weights),
    "run": Reader(_run, _read_run),
    "model": Reader(_model, _read_model),
}
