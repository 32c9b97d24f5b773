"""CMU-MOSI in other layouts: the lists of MISA, MMIM and MAG-BERT, the SDK's sequences."""

import pathlib
from typing import Any

from .. import formats, hdf5
from ..cmu_mosi import csd, word_lists
from ..describing import describe
from ..limits import DataError
from ..segments import split_names
from .source import Source, command

LISTS = "word_lists"


class ListsReader:
    """Lists of segments: MISA's and MMIM's three pickles, MAG-BERT's one."""

    def recognises(self, source: Source) -> bool:
        if source.is_folder:
            return bool(word_lists.three(source.path))
        return _is_list(source.content)

    def kind(self, source: Source) -> str:
        if source.is_folder:
            return "lists of segments, as MISA and MMIM write them"
        held = source.content
        if word_lists.is_mag_bert(held):
            return "lists of segments in the layout of MAG-BERT"
        return f"a list of {len(held)} segments, as MISA and MMIM write it"

    def holds(self, source: Source) -> list[str]:
        if source.is_folder:
            return [path.name for path in word_lists.three(source.path)]
        held, lines = source.content, []
        if word_lists.is_mag_bert(held):
            names = split_names(held)
            lines = [f"{split}: {len(held[key])} segments" for split, key in names.items()]
            held = held[names["train"]]
        first = held[0] if len(held) else None
        if isinstance(first, tuple | list) and first and isinstance(first[0], tuple | list):
            lines += [f"  part {i}: {describe(part)}" for i, part in enumerate(first[0])]
        return lines

    def commands(self, source: Source) -> list[str]:
        if not source.is_folder and _is_list(source.content):
            # Itself first: what is wrong with it is more than what lacks beside it.
            _check_lists(source)
        _read(source, LISTS, "train.pkl, dev.pkl or test.pkl")
        return [command("cmu_mosi", source.folder, LISTS)]


class SequencesReader:
    """Computational sequences of the CMU-MultimodalSDK, before or after its alignment."""

    def recognises(self, source: Source) -> bool:
        if not source.is_folder:
            return len(source.members) == 1 and _is_sequence(source.path)
        candidates = [path for paths in csd.find(source.path).values() for path in paths]
        return any(_is_sequence(path) for path in candidates)

    def kind(self, source: Source) -> str:
        if source.is_folder:
            return "computational sequences of the CMU-MultimodalSDK"
        aligned = any(csd.ENTRY.fullmatch(name) for name in _entries(source.path))
        return f"a computational sequence of the CMU-MultimodalSDK{', aligned' * aligned}"

    def holds(self, source: Source) -> list[str]:
        if source.is_folder:
            found = csd.find(source.path)
            return [f"{kind}: {', '.join(path.name for path in paths)}"
                    for kind, paths in found.items() if paths]  # fmt: skip
        return [f"{source.members}: {len(_entries(source.path))} entries"]

    def commands(self, source: Source) -> list[str]:
        _read(source, "csd_aligned", "as the SDK calls them: WordVectors, COVAREP, FACET, Labels")
        names = ("csd_aligned", "csd_unaligned")
        return [command("cmu_mosi", source.folder, name) for name in names]


def _is_list(held: Any) -> bool:
    return (isinstance(held, list) and bool(held)) or word_lists.is_mag_bert(held)


def _check_lists(source: Source) -> None:
    place, held = formats.place(source.path), source.content
    if word_lists.is_mag_bert(held):
        for key in split_names(held).values():
            word_lists.check(f"{place}, {key}", held[key])
    else:
        word_lists.check(place, held)


def _is_sequence(path: pathlib.Path) -> bool:
    with hdf5.opened(path) as file:
        return csd.is_sequence(file, formats.place(path))


def _entries(path: pathlib.Path) -> list[str]:
    place = formats.place(path)
    with hdf5.opened(path) as file:
        root = hdf5.member(file, hdf5.names(file, place)[0], place)
        return hdf5.names(hdf5.member(root, "data", place), place)


def _read(source: Source, name: str, called: str) -> None:
    """Reads all files of a config, as preparation does."""
    from ..cmu_mosi.cmu_mosi_dataset_builder import CmuMosi  # with TFDS, which takes a second

    config = CmuMosi.builder_configs[name]
    paths = CmuMosi.find(config, source.folder)
    if not source.is_folder and source.path not in paths:
        raise DataError(
            f"{formats.place(source.path)} must be called {called}. Received: another name; read "
            f"are {[path.name for path in paths]}."
        )
    CmuMosi.read_checked(config, paths)
