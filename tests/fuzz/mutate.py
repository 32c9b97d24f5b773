"""Damage to bytes: what broken disks, cut downloads, editors and malice do to a file."""

import io
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

Rng = np.random.Generator

NUMBERS = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
]
WORDS = [b"nan", b"inf", b"-1", b"1e999", b"null", b"[]", b"{}", b"\xff\xfe", b"\x00", b'"', b",", b"\n", b"cos\nsystem\n",
         b"../", b"9" * 30, b"|O8", b"<f8", b"(S'touch x'\ntR."]  # fmt: skip


def flip(rng: Rng, raw: bytearray) -> None:
    raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))


def overwrite(rng: Rng, raw: bytearray) -> None:
    raw[rng.integers(len(raw))] = int(rng.integers(256))


def number(rng: Rng, raw: bytearray) -> None:
    size = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.integers(max(1, len(raw) - size)))
    raw[at : at + size] = (int(rng.choice(np.array(NUMBERS, object))) % 256**size).to_bytes(
        size, "little"
    )


def word(rng: Rng, raw: bytearray) -> None:
    new, at = WORDS[rng.integers(len(WORDS))], int(rng.integers(len(raw)))
    raw[at : at + (len(new) if rng.uniform() < 0.5 else 0)] = new


def cut(rng: Rng, raw: bytearray) -> None:
    del raw[int(rng.integers(len(raw))) :]


def drop(rng: Rng, raw: bytearray) -> None:
    at = int(rng.integers(len(raw)))
    del raw[at : at + int(rng.integers(1, 33))]


def repeat(rng: Rng, raw: bytearray) -> None:
    at, size = int(rng.integers(len(raw))), int(rng.integers(1, 65))
    raw[at:at] = raw[at : at + size] * int(rng.integers(1, 4))


def move(rng: Rng, raw: bytearray) -> None:
    size = int(rng.integers(1, 65))
    start, to = (int(n) for n in rng.integers(len(raw), size=2))
    raw[to:to] = raw[start : start + size]


MUTATIONS: list[Callable[[Rng, bytearray], None]] = [
    flip,
    overwrite,
    number,
    word,
    cut,
    drop,
    repeat,
    move,
]


def damaged(rng: Rng, content: bytes) -> bytes:
    """The content with one to four damages; an archive's checksums are right again half the time."""
    if zipfile.is_zipfile(io.BytesIO(content)) and rng.uniform() < 0.7:
        return _inside(rng, content)
    raw = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not raw:
            break
        MUTATIONS[rng.integers(len(MUTATIONS))](rng, raw)
    return bytes(raw)


def _inside(rng: Rng, content: bytes) -> bytes:
    """A ZIP archive written anew with a damaged member, which its checksum does not give away."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        members = old.infolist()
        chosen = int(rng.integers(len(members)))
        for at, member in enumerate(members):
            raw = old.read(member)
            new.writestr(member.filename, damaged(rng, raw) if at == chosen and raw else raw)
    return made.getvalue()


def damage(rng: Rng, folder: pathlib.Path) -> None:
    """Damages one file of a folder, or takes it away."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    if rng.uniform() < 0.03:
        path.unlink()
        return
    content = path.read_bytes()
    if content:
        path.write_bytes(damaged(rng, content))
