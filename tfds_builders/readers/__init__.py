"""The list of readers, one for each layout of files, for inspection and preparation alike.

A reader tells whether a file or folder has its layout, what it holds, and which commands read it.
To name the commands it reads the whole file with the code of preparation, so that the two agree.
`keras-m3s inspect` prints what the reader tells, `prepare --from` uses what it reads.
"""

import warnings
from typing import Any

from .. import formats, npy
from ..describing import describe
from ..limits import DataError
from ..segments import SENTIMENT, Segments, warn_narrow
from .arrays import ArraysReader
from .features import ClipsReader, SegmentsFolderReader, SegmentsReader
from .folders import OwnFolderReader, RecordingsReader
from .iemocap import IemocapReader
from .measured import Physionet2012Reader, SpSwHarReader
from .mosi import ListsReader, SequencesReader
from .source import OwnReader, Reader
from .source import Source as Source

READERS: tuple[Reader, ...] = (
    IemocapReader(),
    SpSwHarReader(),
    Physionet2012Reader(),
    SequencesReader(),
    ListsReader(),
    ArraysReader(),
    SegmentsReader(),
    SegmentsFolderReader(),
    RecordingsReader(),
    ClipsReader(),
    OwnFolderReader(),
)
"""In order of precedence: the first that recognises a file or folder reads it."""


def find(source: Source) -> Reader:
    """The reader of a file or folder.

    Raises:
        DataError: No reader recognises it, or the file is damaged.
        FileNotFoundError: The path does not exist.
    """
    for reader in READERS:
        if reader.recognises(source):
            return reader
    raise _unknown(source)


def read(path: Any) -> dict[str, Segments]:
    """Reads all splits of a user's own data.

    Args:
        path: A pickle or .npz in MMSA's schema or as in `arrays`, a folder as in `npy_folder` or
            `array_folder`, or tables as in `long_table`.

    Returns:
        Dict with `train`, `valid`, `test`.

    Raises:
        FileNotFoundError: there is nothing, or a file of several is not there.
        DataError: it is of another layout, and then the message names the command that reads it, or
            it breaks its own.
    """
    source = Source(path)
    splits = find_own(source).read(source)
    if splits["train"].scores == SENTIMENT:
        warn_narrow(formats.place(path), splits)
    return splits


def find_own(source: Source) -> OwnReader:
    """The reader of a user's own data, which has splits and labels.

    Raises:
        DataError: It is of another layout, or no reader recognises it.
        FileNotFoundError: The path does not exist.
    """
    reader = find(source)
    if not isinstance(reader, OwnReader):
        kind = reader.kind(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            commands = reader.commands(source)
        raise DataError(
            f"{formats.place(source.path)} must have splits and labels: arrays named as "
            "train/audio and train/label (.npz, or folders of .npy), tables with a description, "
            "MMSA's schema (.pkl, .npz), or a folder of .npy with label.csv. "
            f"Received: {kind}. That is read by `{'`, `'.join(commands)}`."
        )
    return reader


_ENDINGS = {
    **dict.fromkeys((".pkl", ".pickle"), (formats.PICKLE, "a whole pickle file")),
    ".npz": (formats.NPZ, npy.MUST),
    **dict.fromkeys((".csd", ".h5", ".hdf5"), (formats.HDF5, "a whole HDF5 file")),
}
"""File ending -> the format that the content must have."""


def _unknown(source: Source) -> DataError:
    place, known = formats.place(source.path), source.format
    if known.name not in (formats.FOLDER, formats.PICKLE, formats.NPZ, formats.HDF5):
        ending = source.path.suffix.lower()
        try:
            formats.check(source.path, *_ENDINGS.get(ending, (known.name, "")))
        except DataError as error:
            return error
    must = (
        f"{place} must be arrays named as train/audio (.npz, or folders of .npy), features in "
        "MMSA's schema (.pkl, .npz), a folder of .npy with label.csv, or files of MISA, MMIM, "
        "MAG-BERT, the CMU-MultimodalSDK or MMIN."
    )
    if known.name == formats.FOLDER:
        names = sorted(path.name for path in source.path.iterdir())
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        return DataError(f"{must} Received: a folder with {names[:12]}{more}.")
    if known.name in (formats.PICKLE, formats.NPZ):
        return DataError(
            f"{must} Received: {known.title}, {describe(source.content)}. In MMSA's schema it is a "
            "dict of the splits train, valid and test, each a dict of arrays."
        )
    advice = f" {known.advice}." if known.advice else ""
    if known.name == formats.HDF5:
        advice = (
            f" It has {source.members[:12]}. Save its arrays with `numpy.savez`, as train/audio."
        )
    if known.name == formats.TEXT:
        advice += (
            " A table of labels is called label.csv, and lies in a folder with the features. A "
            "table of sensors has a description of its name beside it, in YAML."
        )
    return DataError(f"{must} Received: {known.title}.{advice}")
