"""Full disks and folders that may not be written to: one clear line, and nothing half-written."""

import contextlib
import ctypes
import errno
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data, features, report
from keras_m3s.cli.main import main
from keras_m3s.experiments import checkpoints
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.inference import export, predictions
from keras_m3s.modalities import MODALITIES
from keras_m3s.utils.atomic_files import TEMPORARY, WriteError, explained, whole
from tests import untrained_runs
from tests.made_up_runs import make_run
from tests.small import small
from tests.test_features import Means, tone, write_labels
from tfds_builders import testing

pytestmark = pytest.mark.once


@contextlib.contextmanager
def room_for(size):
    """No file grows beyond `size` bytes, which fails in the same way as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def ordinary_user():
    """Takes from root what lets it write where it has no right to (CAP_DAC_OVERRIDE)."""
    libc, before, now = ctypes.CDLL(None), (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capget(version_3, before) == 0
    now[:] = before
    now[0] &= ~(1 << 1)
    assert libc.capset(version_3, now) == 0
    try:
        yield
    finally:
        assert libc.capset(version_3, before) == 0


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, data.load("synthetic_msa", folder, config="tiny")


@pytest.fixture(scope="module")
def misa(tmp_path_factory, prepared):
    return untrained_runs.of(tmp_path_factory.mktemp("runs"), "misa", prepared[1])


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with whole(path) as temporary:
        temporary.write_text("old")
        assert temporary.suffix == ".txt" and not path.exists()
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), whole(path) as temporary:
            temporary.write_text("half")
            raise error
    with pytest.raises(WriteError, match="must be room"), room_for(3), whole(path) as temporary:
        temporary.write_text("too long")
    assert path.read_text() == "old" and [*path.parent.iterdir()] == [path]
    with whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask, "others may read what others may read"


def test_errors_of_other_files_are_left_alone(tmp_path):
    with pytest.raises(PermissionError, match="an input"), whole(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "an input")
    with pytest.raises(FileNotFoundError), explained(tmp_path / "a"):
        raise FileNotFoundError(errno.ENOENT, "an input")
    with pytest.raises(WriteError, match="must be room"), explained(tmp_path / "a"):
        raise RuntimeError("UNAVAILABLE: No space left on device")  # some know no numbers


def report_of(tmp_path, prepared, misa):
    make_run(tmp_path / "runs")
    return tmp_path / "report", lambda out: report.write_report(tmp_path / "runs", out)


def features_of(tmp_path, prepared, misa):
    write_labels(
        tmp_path / "clips", [("train", "a", "1.5"), ("valid", "b", "1"), ("test", "c", "1")]
    )
    for row, mode in enumerate(("train", "valid", "test")):
        tone(tmp_path / "clips" / f"{mode}_talk" / f"{row}.wav", 3.0)
    extractors = {"audio": Means()}
    return tmp_path / "features", lambda out: features.extract(tmp_path / "clips", out, extractors)


def predictions_of(tmp_path, prepared, misa):
    run, splits = misa
    np.savez(tmp_path / "a.npz", **{m: splits["train"].features[m] for m in MODALITIES})
    rows = list(predictions.rows(predictions.RunModel(run), data.unlabelled(tmp_path / "a.npz")))

    def write(out):
        with predictions.open_output(out / "predictions.csv") as file:
            predictions.write(rows, file)

    return tmp_path / "predictions", write


def export_of(tmp_path, prepared, misa):
    pytest.importorskip("onnxruntime")
    return tmp_path / "export", lambda out: export.export(misa[0], "onnx", out / "model.onnx")


def data_set_of(tmp_path, prepared, misa):
    source = testing.write(tmp_path / "my.pkl", testing.mmsa_content(sizes={"train": 90, "valid": 2, "test": 3}))  # fmt: skip
    return tmp_path / "prepared", lambda out: data.prepare_own("mine", source, out)


def run_of(tmp_path, prepared, misa):
    e = small("self_mm", "orig", epochs=2)
    return tmp_path / "runs", lambda out: run_experiment(e, RunDirectory(out / "run"), prepared[1])  # fmt: skip


# What writes, and the bytes that are too few for it.
WRITERS = {
    "report": (report_of, 9000),
    "features": (features_of, 150),
    "predictions": (predictions_of, 300),
    "export": (export_of, 3000),
    "data set": (data_set_of, 3000),
    "run": (run_of, 5000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing_half_written(name, tmp_path, prepared, misa):
    make, size = WRITERS[name]
    out, write = make(tmp_path, prepared, misa)
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(WriteError, match=f"must be room for {out}") as caught, room_for(size):
        write(out)
    text = str(caught.value)
    assert "Received: File too large. Free some" in text and "\n" not in text
    left = contents(out)
    assert not any(TEMPORARY in str(path) or "incomplete" in str(path) for path in left), left
    small_ones = {".config", "run"}  # of TFDS, and what a run had written by then
    assert {p.parts[0] for p in left if not small_ones & {*p.parts}} <= {"old", "extractors.json"}
    write(out)  # with room the same goes on
    assert len(contents(out)) > len(left)


@pytest.mark.skipif(sys.platform != "linux", reason="takes a right from root as Linux has it")
@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written_to(name, tmp_path, prepared, misa):
    out, write = WRITERS[name][0](tmp_path, prepared, misa)
    out.mkdir()
    (out / "old").write_text("old")
    out.chmod(0o555)
    with pytest.raises(WriteError, match="must be a folder that you may write to") as caught, ordinary_user():  # fmt: skip
        write(out)
    text = str(caught.value)
    assert "Received: Permission denied. Change" in text and "\n" not in text
    assert contents(out) == {pathlib.Path("old"): b"old"}


def test_the_command_says_it_in_one_line(tmp_path, prepared):
    where = ["--config", "tiny", "--data-dir", str(prepared[0]), "--runs", str(tmp_path)]
    arguments = ["train", "--method", "orig", "--epochs", "1", *where]
    with room_for(5000):
        result = CliRunner().invoke(main, arguments)
    (line,) = [text for text in result.output.splitlines() if text.startswith("Error: ")]
    assert (
        result.exit_code == 1 and "There must be room" in line and "Traceback" not in result.output
    )


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path, prepared, monkeypatch):
    """The disk fills up in the third epoch; with room again the run ends as if nothing had been."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    e, splits = small("self_mm", "orig", epochs=3), prepared[1]
    expected = run_experiment(e, RunDirectory(tmp_path / "whole"), splits)
    run, save = RunDirectory(tmp_path / "cut"), checkpoints.RunCheckpoint._save

    def fills(keeper, path):
        with room_for(5000 if "last-0003" in str(path) else resource.RLIM_INFINITY):
            save(keeper, path)

    monkeypatch.setattr(checkpoints.RunCheckpoint, "_save", fills)
    with pytest.raises(WriteError, match=r"room for .*last-0003\.keras"):
        run_experiment(e, run, splits)
    assert [done for done, _ in run.checkpoints] == [2, 1]
    monkeypatch.setattr(checkpoints.RunCheckpoint, "_save", save)
    assert run_experiment(e, run, splits) == expected


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=100k none "$1" || exit 77
"$2" -m keras_m3s.cli.main train --config tiny --data-dir "$3" --method orig --epochs 2 --runs "$1"
echo "status $?"
find "$1" -type f -printf 'left %f\\n'
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path, prepared):
    """In a namespace of its own, where such a disk can be mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    command = [
        "unshare",
        "-Urm",
        "sh",
        "-c",
        ON_A_SMALL_DISK,
        "sh",
        tmp_path,
        sys.executable,
        prepared[0],
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "status" not in done.stdout:
        pytest.skip("no disk can be mounted here")
    assert "status 1" in done.stdout and "No space left on device. Free some" in done.stderr
    assert "Traceback" not in done.stderr
    left = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("left")}
    assert left == {"experiment.json", "environment.json", "run.lock"}
