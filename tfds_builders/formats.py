"""Detects the format of a file from its first bytes, since its ending may be wrong.

`sniff` reads at most the list of an archive's members, and runs no code of the file.
"""

import codecs
import dataclasses
import io
import pathlib
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from .limits import DataError

PICKLE, NPY, NPZ, HDF5 = "pickle", "npy", "npz", "hdf5"
FOLDER, TEXT = "folder", "text"

HEAD = 4096
"""Number of bytes that are read to detect the format."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: One of the constants above where this package reads it, else for reference only.
        title: What to call it in messages.
        advice: What to do with it where it is not what was wanted.
    """

    name: str
    title: str
    advice: str = ""


_AGAIN = "Compare size and SHA-256 with the source, and download it again"
_CSV = "Save the table as CSV (UTF-8)"
_COLUMNS = "Save its columns as arrays with `numpy.savez`"
_DESCRIBE = (
    "Put a description in YAML of the same name beside it, or save its columns as arrays with "
    "`numpy.savez`"
)
_CLIPS = "Features are made from recordings by `keras-m3s features FOLDER`"
_MATLAB = "Read it with {}, and save its arrays with `numpy.savez`"
_FETCH = "Run `{}` in the repository that it is from"

_TORCH = Format(
    "torch",
    "a file of torch.save (PyTorch)",
    "Load it where it was made, `torch.load(path, weights_only=True)`, and save "
    "`tensor.numpy()` of each tensor with `numpy.savez`",
)
_SAFETENSORS = Format(
    "safetensors",
    "a safetensors file",
    "Read it with `safetensors.numpy.load_file`, and save its arrays with `numpy.savez`",
)
_KERAS = Format(
    "keras",
    "a Keras model (.keras)",
    "It is no data; `keras-m3s predict` takes the run directory of a model",
)
_POINTER = "a {} pointer, not the file itself"
_LFS = Format("lfs", _POINTER.format("Git LFS"), _FETCH.format("git lfs pull"))
_ANNEX = Format("annex", _POINTER.format("git-annex"), _FETCH.format("git annex get"))
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# What a file begins with: (place, bytes, format). The first that fits counts.
_MAGIC: tuple[tuple[int, bytes, Format], ...] = (
    # torch.save before 1.6: a pickle whose first object is this number.
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", _TORCH),
    (0, b"\x93NUMPY", Format(NPY, "an array of numpy (.npy)")),
    (0, b"MATLAB 7.3", Format("matlab", "a MATLAB 7.3 file", _MATLAB.format("h5py"))),
    (0, b"MATLAB 5.0", Format("matlab", "a MATLAB file", _MATLAB.format("`scipy.io.loadmat`"))),
    (0, _HDF5_MAGIC, Format(HDF5, "an HDF5 file")),
    (0, b"\x1f\x8b", Format("gzip", "a gzip archive", "Unpack it: `gunzip` (.tgz: `tar xf`)")),
    (0, b"BZh", Format("bzip2", "a bzip2 archive", "Unpack it: `bunzip2`")),
    (0, b"\xfd7zXZ\x00", Format("xz", "an xz archive", "Unpack it: `unxz`")),
    (0, b"\x28\xb5\x2f\xfd", Format("zstd", "a Zstandard archive", "Unpack it: `unzstd`")),
    (0, b"7z\xbc\xaf\x27\x1c", Format("7z", "a 7-Zip archive", "Unpack it: `7z x`")),
    (0, b"Rar!\x1a\x07", Format("rar", "a RAR archive", "Unpack it: `unrar x`")),
    (257, b"ustar", Format("tar", "a tar archive", "Unpack it: `tar xf`")),
    (0, b"PAR1", Format("parquet", "a Parquet table", _DESCRIBE)),
    (0, b"ARROW1", Format("arrow", "an Arrow (Feather) table", _COLUMNS)),
    (0, b"SQLite format 3", Format("sqlite", "an SQLite database", _COLUMNS)),
    (0, b"%PDF", Format("pdf", "a PDF document")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Format("xls", "an old Excel or Office file", _CSV)),
    (4, b"ftyp", Format("media", "a video (MP4)", _CLIPS)),
    (0, b"\x1a\x45\xdf\xa3", Format("media", "a video (Matroska, WebM)", _CLIPS)),
    (0, b"RIFF", Format("media", "a recording (WAV, AVI)", _CLIPS)),
    (0, b"fLaC", Format("media", "a recording (FLAC)", _CLIPS)),
    (0, b"OggS", Format("media", "a recording (Ogg)", _CLIPS)),
    (0, b"ID3", Format("media", "a recording (MP3)", _CLIPS)),
    (0, b"\x89PNG", Format("image", "a picture (PNG)")),
    (0, b"\xff\xd8\xff", Format("image", "a picture (JPEG)")),
    (0, b"version https://git-lfs", _LFS),
    (0, b"/annex/objects/", _ANNEX),
)  # fmt: skip

# Members by which a ZIP archive is told to be something else.
_ZIPPED: tuple[tuple[str, Format], ...] = (
    (r"(.*/)?data\.pkl", _TORCH),
    (r"model\.weights\.h5", _KERAS),
    (r"xl/workbook\.xml", Format("xlsx", "an Excel workbook", _CSV)),
    (r"word/document\.xml", Format("docx", "a Word document")),
)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
"""Control characters that do not occur in text."""


def sniff(path: Any) -> Format:
    """Detects the format of a file.

    Args:
        path: A file or a folder.

    Raises:
        FileNotFoundError: there is nothing.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return Format(FOLDER, "a folder")
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(0, path.stat().st_size - 1))
        last = file.read(1)
    if not head:
        return Format("empty", "an empty file", _AGAIN)
    if not head.strip(b"\0"):
        return Format("zeros", "nothing but zeros: the copy or download did not finish", _AGAIN)
    for place, magic, known in _MAGIC:
        if head.startswith(magic, place):
            return known
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return _zip(path)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return Format(PICKLE, "a pickle")
    if any(head.startswith(_HDF5_MAGIC, 512 << power) for power in range(3)):
        return Format(HDF5, "an HDF5 file")  # behind a block of its user's
    if re.match(rb'.{3}\0{5}\{"', head, re.DOTALL):  # the length of a header in JSON
        return _SAFETENSORS
    # Protocols 0 and 1 have no mark, and end with a full stop.
    if last == b"." and _opcodes(head):
        return Format(PICKLE, "a pickle")
    if (text := _text(head)) is not None:
        return _of_text(text)
    first = " ".join(f"{byte:02x}" for byte in head[:8])
    return Format("unknown", f"a file of no kind that is known (it begins with the bytes {first})")


def check(path: Any, name: str, must: str) -> None:
    """Checks that a file has a format, from its first bytes.

    Args:
        path: The file.
        name: The `Format.name` wanted.
        must: What it must be, for the message.

    Raises:
        DataError: it is something else; the message says what, and what to do.
        FileNotFoundError: there is nothing.
    """
    found = sniff(path)
    if found.name != name:
        advice = f" {found.advice}." if found.advice else ""
        raise DataError(f"{place(path)} must be {must}. Received: {found.title}.{advice}")


def place(path: Any) -> str:
    """A file's name with that of its folder, for messages."""
    path = pathlib.Path(path)
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def _zip(path: pathlib.Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        if path.suffix.lower() == ".npz":
            return Format(NPZ, "arrays of numpy (.npz)")
        return Format("zip", "a ZIP archive that is cut off or damaged", _AGAIN)
    for pattern, known in _ZIPPED:
        if any(re.fullmatch(pattern, name) for name in names):
            return known
    arrays = [name.lower().endswith(".npy") for name in names]
    if (names and all(arrays)) or (path.suffix.lower() == ".npz" and (any(arrays) or not names)):
        return Format(NPZ, "arrays of numpy (.npz)")
    return Format("zip", f"a ZIP archive of {_some(names)}", "Unpack it: `unzip`")


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "nothing"


def _opcodes(head: bytes, enough: int = 8) -> bool:
    """Whether bytes begin with `enough` valid opcodes of a pickle, or with a whole pickle."""
    steps: Iterator[Any] = pickletools.genops(io.BytesIO(head))
    try:
        for count, (step, _, _) in enumerate(steps, 1):
            if step.name == "STOP" or count == enough:
                return True
    except Exception:  # whatever its readers of arguments make of other bytes
        return False
    return False


def _text(head: bytes) -> str | None:
    """The first bytes as text, if they are text; empty in another encoding than UTF-8 or UTF-16."""
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    decoder = codecs.getincrementaldecoder("utf-16" if marked else "utf-8-sig")()
    try:
        text = decoder.decode(head)  # a character may be cut in two at the end
    except UnicodeError:
        text = head.decode("latin1")
        return None if _CONTROL.search(text) else ""
    return None if _CONTROL.search(text) else text


def _of_text(text: str) -> Format:
    if not text:
        return Format(TEXT, "text, not in UTF-8", "Save it in UTF-8")
    start = text.lstrip()[:512].lower()
    if start.startswith(("<!doctype html", "<html", "<head")) or "<html" in start:
        title = re.search(r"<title[^>]*>([^<]{1,80})", text, re.IGNORECASE)
        said = f" ({title[1].strip()!r})" if title else ""
        return Format(
            "html",
            f"a web page{said}, not the file",
            "The server answered with a page, often to be confirmed by hand: open the link in a "
            "browser, and download the file there",
        )
    if start.startswith("<"):
        return Format("xml", "XML, perhaps the error of a server", "Open it in a text editor")
    first = text.lstrip().split("\n")[0].strip()[:60]
    if start.startswith(("{", "[")):
        return Format(TEXT, f"text (JSON), beginning with {first!r}")
    return Format(TEXT, f"text, beginning with {first!r}")
