"""What is fuzzed: for each reader how valid files are made, and how they are read."""

import contextlib
import functools
import pathlib
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests import layouts
from tests.made_up_runs import make_run
from tfds_builders import testing

COLUMNS = {"audio": 3, "vision": 4, "text": 5}


class Reader(NamedTuple):
    """`make` writes a folder of valid files, `read` reads it as the library would."""

    make: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], None]


def _made(*layouts: Callable[[pathlib.Path], Any]) -> Callable[[pathlib.Path], None]:
    """Layouts of `tests.layouts`, each in a folder of its own."""

    def make(folder: pathlib.Path) -> None:
        for number, layout in enumerate(layouts):
            (folder / str(number)).mkdir()
            layout(folder / str(number))

    return make


def _read_made(folder: pathlib.Path) -> None:
    """Whatever may be read: inspected, loaded as own data, taken for clips to predict."""
    from keras_m3s import data
    from tfds_builders import readers

    for path in sorted(folder.iterdir()):
        files = [one for one in sorted(path.rglob("*")) if one.is_file()]
        for one in (path, *files):
            _each(
                lambda one=one: data.inspect(one),
                lambda one=one: _sequences(readers.read(one)),
                lambda one=one: _all(data.unlabelled(one)),
            )


def _sequences(splits: Any) -> None:
    for segments in splits.values():
        for sequences in segments.features.values():
            for row in range(len(sequences)):
                np.asarray(sequences[row])


def _all(clips: Any) -> None:
    for name in set(clips.features) - {"text_bert"}:
        for row in range(len(clips)):
            clips.sequence(name, row)


def _archive(folder: pathlib.Path) -> None:
    layouts.npz(folder)


def _tables(folder: pathlib.Path) -> None:
    modes = enumerate(["train"] * 3 + ["valid"] + ["test"] * 2)
    rows = [f"v{row};{row};some words;{row},5;;{mode}" for row, mode in modes]
    table = "\n".join(["sep=;", "video_id;clip_id;text;label;label_T;Mode", *rows])
    layouts.own(folder, table=table, modalities=("audio",))
    np.save(folder / "audio_lengths.npy", np.full(6, 4))


def _table_to_predict(folder: pathlib.Path) -> None:
    layouts.sensors_table(folder, labels=False)


def _parquet(folder: pathlib.Path) -> None:
    layouts.sensors_table(folder, "rows.parquet")


def _read_measured(folder: pathlib.Path) -> None:
    from keras_m3s import data

    _each(lambda: data.inspect(folder / "0"))


def _objects(folder: pathlib.Path) -> None:
    content = testing.mmsa_content()
    for raw in content.values():
        rows = len(raw["id"])
        raw["annotations"] = np.array(["Positive", float("nan")] * rows, object)[:rows]
        raw["word_times"] = np.array([[0.1], [0.1, 0.2]] * rows, object)[:rows]
        raw["time"] = np.zeros(rows, "M8[s]")
        raw["regression_labels_T"] = [None] * rows
        raw["regression_labels"] = [np.array([one]) for one in raw["regression_labels"]]
    testing.write(folder / "my.pkl", content)


def _others(folder: pathlib.Path) -> None:
    for number, (content, _) in enumerate(layouts.OTHER_FILES.values()):
        (folder / f"{number}.pkl").write_bytes(content)


def _word_lists(style: str) -> Callable[[pathlib.Path], None]:
    return _made(functools.partial(layouts.lists, style=style))


def _csd(folder: pathlib.Path) -> None:
    testing.write_csd(folder, layouts.VIDEOS)


def _read_csd(folder: pathlib.Path) -> None:
    from keras_m3s import data
    from tfds_builders.cmu_mosi import csd

    found = csd.find(folder)
    files = {kind: paths[0] for kind, paths in found.items() if paths}
    if set(files) >= set(csd.NAMES) - {"words"}:  # as the builder checks
        _each(lambda: csd.read(files, aligned=True), lambda: csd.read(files, aligned=False))
    _each(*(functools.partial(data.inspect, path) for path in (folder, *files.values())))


def _mmin(folder: pathlib.Path) -> None:
    testing.write_iemocap(folder, COLUMNS)


def _read_mmin(folder: pathlib.Path) -> None:
    from keras_m3s import data
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

    _each(read, lambda: data.inspect(folder))


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
    from keras_m3s.report.reading import read_runs
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
    "pickle": Reader(_made(layouts.mmsa), _read_made),
    "npz": Reader(_made(_archive), _read_made),
    "npy folder": Reader(_made(layouts.own), _read_made),
    "tables": Reader(_made(_tables, layouts.clips_folder, layouts.recordings), _read_made),
    "arrays": Reader(
        _made(layouts.sensors_npz, layouts.sensors_folder, layouts.example_folder), _read_made
    ),
    "long tables": Reader(_made(layouts.sensors_table, _table_to_predict), _read_made),
    "Parquet": Reader(_made(_parquet), _read_made),
    "SP-SW-HAR": Reader(_made(layouts.sp_sw_har), _read_measured),
    "PhysioNet 2012": Reader(_made(layouts.physionet2012), _read_measured),
    "objects": Reader(_made(_objects), _read_made),
    "MulT": Reader(_made(layouts.mult), _read_made),
    "MAG-BERT": Reader(_made(layouts.mag_bert), _read_made),
    "clips": Reader(_made(layouts.one_clip, layouts.clips), _read_made),
    "other files": Reader(_made(_others), _read_made),
    "lists of MISA": Reader(_word_lists("misa"), _read_made),
    "lists of MMIM": Reader(_word_lists("mmim"), _read_made),
    "csd": Reader(_csd, _read_csd),
    "aligned csd": Reader(layouts.csd_by_segment, _read_csd),
    "MMIN": Reader(_mmin, _read_mmin),
    "weights": Reader(_weights, _read_weights),
    "run": Reader(_run, _read_run),
    "model": Reader(_model, _read_model),
}
