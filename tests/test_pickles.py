"""No pickle runs code, whatever it tries, and plain ones of every age come back as they were."""

import collections
import contextlib
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tfds_builders.describing import describe
from tfds_builders.pickles import DataError, load

pytestmark = pytest.mark.once


class Calls:
    """Pickles as a call of `function`, the way malicious files do."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def written(path: pathlib.Path, content, protocol: int = 4) -> pathlib.Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def old_array(code: bytes, order: bytes, flags: int, raw: bytes) -> bytes:
    """A dict of one array of length 1, as Python 2 and numpy 1 wrote it."""
    return (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02" + code + b"K\x00K\x01\x87R(K\x03U\x01" + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + bytes([flags]) + b"tb\x89U"
        + bytes([len(raw)]) + raw + b"tbs."
    )  # fmt: skip


def on_stack(module: str, name: str, rest: bytes) -> bytes:
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + rest + b"."


def objects(*entries):
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def attacks(mark: pathlib.Path) -> dict[str, bytes | object]:
    command = f"touch {mark}"
    opened = f"open({str(mark)!r}, 'w')"
    holding = np.empty(1, dtype=object)
    holding[0] = Calls(os.system, command)
    return {
        "os.system": Calls(os.system, command),
        "builtins.eval": Calls(eval, opened),
        "builtins.exec": Calls(exec, opened),
        "builtins.getattr": Calls(getattr, "text", "upper"),
        "operator.attrgetter": on_stack("operator", "attrgetter", b"(X\x06\x00\x00\x00systemtR"),
        "subprocess.Popen": on_stack("subprocess", "Popen", b"(]X\x04\x00\x00\x00trueatR"),
        "dotted name of a module": on_stack("numpy", "os.system", b"(X\x01\x00\x00\x00atR"),
        "protocol 4 dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93.",
        "old INST": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "old OBJ": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "object array": holding,
        "object array beside plain entries": objects("a", Calls(os.system, command), np.nan),
        "object array in a list": [objects([Calls(os.system, command)])],
        "inside a dict of arrays": {"train": {"text": np.zeros(2), "id": [Calls(os.system, "")]}},
        "np.load": Calls(np.load, str(mark)),
        "np.fromfile": Calls(np.fromfile, "/etc/hostname"),
        "an instance of a class": pathlib.PurePosixPath("/"),
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "extension registry": b"\x80\x02\x82\x01.",
        "altering what rebuilds arrays": on_stack("numpy", "dtype", b"}X\x01\x00\x00\x00aK\x01sb"),
        # BUILD tells the object dtype that it holds no objects: bytes would pass for pointers.
        "a lying dtype": old_array(b"O8", b"|", 0, bytes(8)),
        "calling ndarray": on_stack("numpy", "ndarray", b"(K\x08tR"),
        "a codec": on_stack("_codecs", "encode", b"(X\x01\x00\x00\x00aX\x03\x00\x00\x00bz2tR"),
    }


@pytest.mark.parametrize("name", attacks(pathlib.Path("x")))
def test_refused_and_nothing_run(name, tmp_path):
    mark = tmp_path / "was_here"
    path = written(tmp_path / "bad.pkl", attacks(mark)[name])
    with pytest.raises(DataError, match=r"/bad\.pkl"):
        load(path)
    assert not mark.exists()


def test_refusal_says_what_arrived_and_what_to_do(tmp_path):
    path = written(tmp_path / "bad.pkl", Calls(os.system, "true"))
    with pytest.raises(DataError, match=r"(?s)must hold.*`posix\.system`, refused.*save plain"):
        load(path)


def test_reading_attacks_leaves_the_reader_whole(tmp_path):
    for content in attacks(tmp_path / "mark").values():
        with pytest.raises(DataError):
            load(written(tmp_path / "bad.pkl", content))
    test_plain_content_comes_back(2, tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_comes_back(protocol, tmp_path):
    content = {
        "float16": np.arange(6, dtype=np.float16).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "strings": np.array(["a$_$1", "MÄRZ"]),
        "bytes": np.array([b"a", b"bc"]),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "rank 0": np.array(3.5),
        "scalar": np.float32(2.5),
        "string scalar": np.str_("x"),
        "objects": np.array(["a", "bcd"], dtype=object),
        "object numbers": np.array([[1.5, 2], [3, 4]], dtype=object, order="F"),
        "list": [1, 2.5, "x", None, True, b"raw", (1, 2)],
        "ordered": collections.OrderedDict(a=1),
        "set": {1, 2},
    }
    read = load(written(tmp_path / "good.pkl", content, protocol))
    assert read.keys() == content.keys()
    for key, value in content.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(np.asarray(read[key]), value.astype(read[key].dtype))
            native = read[key].dtype.newbyteorder("=")
            assert native == value.dtype.newbyteorder("=") or value.dtype == object
            assert read[key].shape == value.shape
        else:
            assert read[key] == value, key


def test_python_2_pickle_of_numpy_1(tmp_path):
    """Strings of bytes, module paths and integers as Python 2 wrote them."""
    path = written(tmp_path / "old.pkl", old_array(b"f4", b"<", 0, struct.pack("<f", 1.5)))
    np.testing.assert_array_equal(load(path)["a"], np.array([1.5], dtype=np.float32))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_cut_off(share, tmp_path):
    whole = pickle.dumps({"a": np.arange(1000.0), "b": ["x"] * 50}, 4)
    path = written(tmp_path / "cut.pkl", whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.pkl must be a whole pickle file.*download it again"):
        load(path)


def test_noise(tmp_path):
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"a": np.arange(20.0), "b": ["x"] * 5}, 4)
    for _ in range(300):
        stream = bytearray(whole)
        for position in rng.integers(0, len(stream), 3):
            stream[position] = rng.integers(0, 256)
        with contextlib.suppress(DataError):  # it may still be a pickle; any other error fails
            load(written(tmp_path / "noisy.pkl", bytes(stream)))


@pytest.mark.parametrize(
    "content, match",
    [
        (np.array([2**70], dtype=object), "fit into 64 bits"),
        ({("a", 1): 2}, "keys must be strings or numbers. Received: tuple"),
    ],
)
def test_what_no_array_may_hold(content, match, tmp_path):
    with pytest.raises(DataError, match=match):
        load(written(tmp_path / "odd.pkl", content))


OBJECTS = {
    "strings and NaN": objects("Positive", float("nan"), "Negative"),
    "lists": objects([0.1], [0.1, 0.2]),
    "bytes": objects(b"a", b"b\0"),
    "arrays": objects(np.ones(2), np.ones((3, 2))),
    "dicts": objects({"a": 1}, {"b": [2]}),
    "None": objects(None, "a"),
    "of rank 2": np.array([["a", b"0.1"], ["b", b"0.2"]], dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", OBJECTS)
def test_object_arrays_of_plain_data_come_back(name, protocol, tmp_path):
    """Whether they are of use is for the reader to say that needs them."""
    wanted = OBJECTS[name]
    found = load(written(tmp_path / "a.pkl", {"x": wanted}, protocol))["x"]
    assert found.dtype == object and found.shape == wanted.shape
    for one, other in zip(found.flat, wanted.flat, strict=True):
        assert type(one) is type(other)
        np.testing.assert_equal(one, other)


UNREAD = {
    "dates": np.zeros(2, dtype="M8[s]"),
    "durations": np.zeros(2, dtype="m8[ms]"),
    "complex": np.zeros(2, dtype=np.complex64),
    "records": np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
    "a date": np.datetime64("2020-01-01"),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", UNREAD)
def test_arrays_of_other_things_do_not_hinder_the_rest(name, protocol, tmp_path):
    content = {"strange": UNREAD[name], "plain": np.arange(3.0)}
    found = load(written(tmp_path / "a.pkl", content, protocol))
    np.testing.assert_array_equal(found["plain"], content["plain"])
    assert "which is not read" in describe(found["strange"])


@pytest.mark.parametrize("name", ["torch.save", "torch.save before 1.6", "a made-up archive"])
def test_what_torch_saved_is_never_opened(name, tmp_path):
    """A pickle in a ZIP archive, or several in a row: each may hold a call of anything."""
    import torch

    mark, path = tmp_path / "was_here", tmp_path / "bad.pkl"
    hostile = {"weight": torch.ones(2), "call": Calls(os.system, f"touch {mark}")}
    if name == "a made-up archive":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(hostile["call"]))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization="before" not in name)
    with pytest.raises(DataError, match=r"torch\.save.*weights_only=True.*numpy\.savez"):
        load(path)
    assert not mark.exists()


def test_array_that_claims_more_than_it_has(tmp_path):
    stream = pickle.dumps(np.zeros(2, dtype="f4"), 2).replace(
        b"K\x02\x85", b"J\x00\x00\x00\x7f\x85"
    )
    with pytest.raises(DataError, match="must take 8522825728 bytes. Received: 8 bytes"):
        load(written(tmp_path / "bomb.pkl", stream))


def test_nested_lists_are_not_spread_out(tmp_path):
    """Ten levels of ten references to the level below, inside an object array: 10**10 numbers."""
    level = [0] * 10
    for _ in range(9):
        level = [level] * 10
    array = np.empty(1, dtype=object)
    array[0] = level
    with pytest.raises(DataError, match="unfold to at most 200 times"):
        load(written(tmp_path / "laughs.pkl", array))


ARRAY = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
         b"(K\x01J\x90\xd0\x03\x00\x85h\x01\x89h\x00tb")  # fmt: skip


def raw(size):
    """Bytes in the memo at 0, a dtype at 1, an open list."""
    return (b"\x80\x04B" + struct.pack("<I", size) + bytes(size)
            + b"q\x000cnumpy\ndtype\n(X\x02\x00\x00\x00f4K\x00K\x01tRq\x010](")  # fmt: skip


def laughs(level, last):
    """`level` tuples, each of twice the one before."""
    return b"\x80\x02K\x01q\x00" + b"0h\x00h\x00\x86q\x00" * level + last


SHARED = [objects(*["a"] * 20_000)] * 2000
RECURSIVE = objects(None, None)
RECURSIVE[0] = RECURSIVE
DEEP = objects("a", None)
for _ in range(40):
    DEEP = objects(DEEP, None)
WIDE = np.empty(3000, object)
WIDE[:] = ["a"] * 2999 + ["b" * 10_000]
BOMBS = {
    "a place in the memo": (b"\x80\x02(Np4000000000\np9000000000\nl.", None),
    "bytes that are not there": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.", "a whole pickle"),
    "a bytearray that is not there": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.", "a whole pickle"),
    "a hash of 2**60 tuples": (laughs(60, b"0}h\x00K\x01s."), "keys must be strings or numbers"),
    "a set of 2**60 tuples": (laughs(60, b"0cbuiltins\nset\n]h\x00a\x85R."), "keys must be strings"),
    "tuples of 2**30": (laughs(30, b"."), "unfold to at most 200 times"),
    "tuples of 2**90": (laughs(90, b"."), "at most 32 deep"),
    "a list in itself": (b"\x80\x02]q\x00h\x00a.", "at most 32 deep"),
    "deep lists": (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "at most 32 deep"),
    "an array 2000 times": (raw(10**6) + ARRAY * 2000 + b"e.", "unfold to at most 200 times"),
    "bytes 50,000 times": (raw(10**5) + b"h\x00" * 50_000 + b"e.", "unfold to at most 200 times"),
    "one long string among many": (WIDE, None),
    "an object array 2000 times": (SHARED, "unfold to at most 200 times"),
    "an object array in itself": (RECURSIVE, "at most 32 deep"),
    "object arrays in one another": (DEEP, "at most 32 deep"),
    "a number of a million digits": (2**3_000_000, "must fit into 64 bits"),
    "a number of a million digits, as text": (b"I" + b"9" * 10**6 + b"\n.", "a whole pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name, tmp_path):
    """Neither memory nor time: tracemalloc counts what Python and numpy allocate."""
    content, match = BOMBS[name]
    path = written(tmp_path / "bomb.pkl", content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match) if match else contextlib.nullcontext():
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24 + 250 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [0x110000, 0xD800, 2**32 - 1])
def test_strings_beyond_unicode(code, tmp_path):
    stream = pickle.dumps(np.array(["a"]), 4).replace(b"a\0\0\0", struct.pack("<I", code))
    with pytest.raises(DataError, match="must hold characters of Unicode"):
        load(written(tmp_path / "odd.pkl", stream))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must lie at the path given.*no\.pkl"):
        load(tmp_path / "no.pkl")
