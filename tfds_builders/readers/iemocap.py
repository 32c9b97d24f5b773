"""IEMOCAP as MMIN's authors share it: an HDF5 file per modality, targets per fold."""

import pathlib

from .. import formats, hdf5
from ..iemocap.mmin_files import FEATURES, MEAN_STD
from ..limits import Problems
from .source import Source, command


class IemocapReader:
    """The folders A, V, L and target, or a file of the first three."""

    def recognises(self, source: Source) -> bool:
        if source.is_folder:
            return (source.path / "target").is_dir()
        return bool(source.members) and _has_arrays(source.path, source.members)

    def kind(self, source: Source) -> str:
        if source.is_folder:
            return "IEMOCAP as MMIN's authors share it"
        return "HDF5 with an array for each utterance, as MMIN's authors share IEMOCAP"

    def holds(self, source: Source) -> list[str]:
        if source.is_folder:
            return [f"folds: {_folds(source.path)}"]
        return [f"{len(source.members)} utterances"]

    def commands(self, source: Source) -> list[str]:
        from ..iemocap.iemocap_dataset_builder import Iemocap  # with TFDS, which takes a second

        root = source.path if source.is_folder else source.path.parent.parent
        folds = _folds(root)
        config = f"fold{folds[0]}" if folds and 1 not in folds else "fold1"
        problems = Problems()
        splits, _ = Iemocap.splits(Iemocap.builder_configs[config], root)
        for examples in splits.values():
            with problems.noted():
                for _ in examples:
                    pass
        problems.raise_any()
        return [command("iemocap", root, None if config == "fold1" else config)]


def _folds(folder: pathlib.Path) -> list[int]:
    target = folder / "target"
    names = [path.name for path in target.iterdir()] if target.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii())


def _has_arrays(path: pathlib.Path, members: list[str]) -> bool:
    """Whether a file has only arrays at its top level, or the path of one of MMIN's files."""
    if f"{path.parent.name}/{path.name}" in (*FEATURES.values(), MEAN_STD):
        return True
    import h5py

    with hdf5.opened(path) as file:
        found = [hdf5.member(file, name, formats.place(path)) for name in members[:100]]
        return all(isinstance(one, h5py.Dataset) for one in found)
