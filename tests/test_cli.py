"""The command: what it prints, how it fails, and that help comes at once."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data
from keras_m3s.cli.main import main
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.study import executors
from tfds_builders import testing

pytestmark = pytest.mark.once


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    "command", ["prepare", "inspect", "train", "evaluate", "predict", "export", "demo"]
)
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0 and f"keras-m3s {command}" in result.output.split("Example:")[1]


def test_help_imports_no_framework():
    code = (
        "import sys; from click.testing import CliRunner; from keras_m3s.cli.main import main\n"
        "CliRunner().invoke(main, ['train', '--help'])\n"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_train_then_evaluate(tmp_path):
    where = ["--dataset", "synthetic_msa", "--config", "tiny", "--data-dir", tmp_path / "data"]
    result = run("train", *where, "--method", "orig", "--method", "spl-trn", "--epochs", 1,
                 "--runs", tmp_path / "runs")  # fmt: skip
    assert result.exit_code == 0, result.output
    table = result.output.split("missing in the test data:")[1]
    assert all(word in table for word in ("ORIG + SPL-TRN", "MAE", "Corr", "Acc-7", "Δ ORIG"))
    directory = next(p for p in (tmp_path / "runs").iterdir() if "orig" in p.name)
    result = run("evaluate", directory, "--missing-rate", 0.6, 0.8, "--data-dir", tmp_path / "data")
    assert result.exit_code == 0 and "ORIG" in result.output


@pytest.fixture
def file(tmp_path):
    """A feature file in a folder of a data set's name."""
    (tmp_path / "ch_sims").mkdir()
    return testing.write(tmp_path / "ch_sims" / "my.pkl", testing.mmsa_content())


def test_a_run_of_a_file(tmp_path, file, monkeypatch):
    """Found again from any folder, tested where its file lies or has moved to, scored as own data."""
    monkeypatch.chdir(tmp_path)
    options = ["--model", "mmim", "--method", "orig", "--epochs", 1, "--runs", tmp_path / "runs"]
    result = run("train", "--dataset", "ch_sims/my.pkl", *options)
    assert result.exit_code == 0 and "Acc-7" in result.output, result.output
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("my-mmim-orig-seed0-")
    made = (directory / "best.keras").stat().st_mtime_ns
    monkeypatch.chdir(tmp_path / "ch_sims")
    assert run("train", "--dataset", "my.pkl", *options).exit_code == 0
    assert [*(tmp_path / "runs").iterdir()] == [directory]
    assert (directory / "best.keras").stat().st_mtime_ns == made, "trained twice"

    monkeypatch.chdir(tmp_path / "runs")
    result = run("evaluate", directory.name)
    assert result.exit_code == 0 and "Acc-7" in result.output, result.output
    moved = file.rename(tmp_path / "moved.pkl")
    result = run("evaluate", directory.name)
    assert result.exit_code == 1 and f"must be where it was in training. Received: {file}, which is no file. If it has moved, pass its place with --dataset" in result.output  # fmt: skip
    assert run("evaluate", directory.name, "--dataset", moved).exit_code == 0
    content = testing.mmsa_content()
    content["test"]["regression_labels"][0] += 0.5
    result = run("evaluate", directory.name, "--dataset", testing.write(moved, content))
    assert result.exit_code == 1 and "A run must keep its data" in result.output


def test_a_file_that_has_changed_is_another_data_set(tmp_path, file):
    options = ["--dataset", file, "--method", "orig", "--epochs", 1, "--runs", tmp_path / "runs"]
    assert run("train", *options).exit_code == 0
    content = testing.mmsa_content()
    content["valid"]["text"][0] += 1
    testing.write(file, content)
    result = run("train", *options)
    assert result.exit_code == 1 and "A run must keep its data" in result.output
    assert "(valid: " in result.output and "Traceback" not in result.output


IGNORED = {
    "config of a file": (["--dataset", "my.pkl", "--config", "tiny"], "--config must be left out with a file"),
    "folders of a file": (["--dataset", "my.npz", "--manual-dir", ".", "--data-dir", "."], "--manual-dir and --data-dir must be left out with a file"),
    "two configs": (["--dataset", "synthetic_msa/tiny", "--config", "mosi"], "--config must be that of --dataset"),
    "no such config": (["--dataset", "synthetic_msa", "--config", "tinny"], "`config` of synthetic_msa must be one of"),
    "no such config by name": (["--dataset", "synthetic_msa/tinny"], "`config` of synthetic_msa must be one of"),
    "inner steps": (["--method", "spl-trn", "--inner-steps", 2], "--inner-steps must be left out: spl-trn would not read it"),
    "inner rate": (["--method", "orig", "--method", "spl-trn-equal", "--inner-learning-rate", 0.1], "--inner-learning-rate must be left out: orig and spl-trn-equal"),
    "second order": (["--method", "orig", "--second-order"], "--second-order must be left out"),
    "patience": (["--patience", 3, "--no-early-stopping"], "--patience must be left out with --no-early-stopping"),
}  # fmt: skip


@pytest.mark.parametrize("case", IGNORED)
def test_options_that_would_be_ignored_are_refused(case, tmp_path):
    arguments, message = IGNORED[case]
    result = run("train", *arguments, "--runs", tmp_path / "runs")
    assert result.exit_code != 0 and message in result.output, result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {"patience": 30, "first_order": True}),
        (["--patience", 3], {"patience": 3}),
        (["--no-early-stopping", "--second-order"], {"patience": None, "first_order": False}),
        (["--inner-steps", 0, "--method", "spl-trn-equal"], {"inner_steps": 0}),
        (["--dataset", "synthetic_msa/tiny"], {"dataset": "synthetic_msa/tiny"}),
        (["--config", "tiny"], {"dataset": "synthetic_msa/tiny"}),
        (["--dataset", "synthetic_msa/tiny", "--config", "tiny"], {"dataset": "synthetic_msa/tiny"}),
    ],
)  # fmt: skip
def test_options_become_settings(options, settings, monkeypatch):
    found = []
    monkeypatch.setattr(data, "load", lambda **where: where)
    monkeypatch.setattr("keras_m3s.cli.main.run_and_print", lambda *arguments: found.extend(arguments))  # fmt: skip
    result = run("train", *options)
    assert result.exit_code == 0, result.output
    experiments, where = found[:2]
    assert {name: getattr(experiments[0], name) for name in settings} == settings
    assert where["name"] == "synthetic_msa"
    assert where["config"] == ("tiny" if "dataset" in settings else None)


@pytest.mark.parametrize("failing", [None, "spl-trn"])
def test_demo_makes_three_runs_and_one_table(tmp_path, monkeypatch, failing):
    """Of runs that are made elsewhere, see `tests/test_executors.py`: the slowest begins first."""

    def execute(planned, workspace, executor, jobs):
        assert executor == "local" and not workspace.follow
        assert workspace.data_dir == str(tmp_path)
        outcomes = []
        for p in planned:
            method, run = p.experiment.method, workspace.run_directory(p)
            if method == failing:
                outcomes.append(executors.Outcome(p.experiment.key, executors.FAILED, "no memory"))
                continue
            run.start(p.experiment)
            run.write_json("metrics.json", {"mae": {"orig": 1.5, "spl-trn": 1.25, "m3s": 1.125}[method]})  # fmt: skip
            outcomes.append(executors.Outcome(p.experiment.key, executors.DONE))
        begun.extend(p.experiment.method for p in planned)
        return outcomes

    begun = []
    monkeypatch.setattr(executors, "execute", execute)
    monkeypatch.setattr(data, "prepare", lambda *_: None)
    result = run("demo", "--runs", tmp_path / "runs", "--data-dir", tmp_path)
    assert begun == ["m3s", "spl-trn", "orig"]
    if failing:
        assert result.exit_code == 1 and "1 of 3 runs are not done" in result.output
        assert "no memory" in result.output and "MAE" not in result.output
    else:
        assert result.exit_code == 0, result.output
        rows = [line.split() for line in result.output.split("MAE")[1].splitlines()[2:5]]
        assert [(row[-2], row[-1]) for row in rows] == [
            ("ORIG", "1.5000"),
            ("SPL-TRN", "1.2500"),
            ("M3S", "1.1250"),
        ]


def test_prepare(tmp_path):
    result = run("prepare", "synthetic_msa", "--config", "tiny", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["train", "24"],
        ["valid", "8"],
        ["test", "9"],
    ]


def test_own_data_by_name_in_every_command(tmp_path):
    path = testing.write(tmp_path / "my.pkl", testing.mmsa_content())
    where = ["--data-dir", tmp_path / "data"]
    result = run("prepare", "--from", path, "--name", "mine", *where)
    assert result.exit_code == 0 and result.stdout.startswith("train            4 examples")
    options = ["--method", "orig", "--epochs", 1, "--runs", tmp_path / "runs"]
    result = run("train", "--dataset", "mine", *options, *where)
    assert result.exit_code == 0, result.output
    result = run("evaluate", next((tmp_path / "runs").iterdir()), *where)
    assert result.exit_code == 0 and "MAE" in result.output


def test_inspect(tmp_path):
    content = testing.mmsa_content()
    path = testing.write(tmp_path / "my.pkl", content)
    result = run("inspect", path)
    assert result.exit_code == 0, result.output
    assert "vision                array (4, 7, 2) of float32" in result.output
    assert "keras-m3s prepare --from" in result.output and "Nothing wrong" in result.output

    content["train"]["text"][0, 0, 0] = np.nan
    content["train"]["audio"][1, 0, 0] = -np.inf
    content["valid"]["audio_lengths"][0] = 99
    content["valid"]["vision"] = content["valid"]["vision"][:-1]
    content["test"]["id"] = [content["train"]["id"][0], "a", "a"]
    content["test"]["regression_labels"][0] = 2.5
    result = run("inspect", testing.write(path, content))
    assert result.exit_code == 1 and "keras-m3s prepare" not in result.output
    for line in (
        "train: `text` must be finite (audio may hold -inf). Received: 1 values of NaN or inf",
        "note: test_inspect0/my.pkl, train: 1 values of `audio` were -inf and became 0",
        "valid: `audio_lengths` must lie in 0..9",
        "Received: 2 in `id`, 1 in `vision`",
        "test: ids must be unique. Received: 'a' twice",
        "to 2.5",
    ):
        assert line in result.output, line


def test_inspect_runs_nothing(tmp_path):
    mark = tmp_path / "was_here"
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(mark) + b"'\ntR.")
    result = run("inspect", tmp_path / "bad.pkl")
    assert result.exit_code == 1 and "refused without running it" in result.output
    assert not mark.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "Give either DATASET"),
        (["prepare", "--from", "my.pkl"], "Give either DATASET"),
        (["prepare", "--from", "/no.pkl", "--name", "mine"], "must be a file or a folder"),
        (["inspect", "/no.pkl"], "must lie at the path given"),
        (["prepare", "mosei"], "`name` must be one of the data sets"),
        (["prepare", "cmu_mosi", "--manual-dir", "/nowhere"], "unaligned_50.pkl"),
        (["evaluate", "no-such-run"], "must hold experiment.json"),
        (["train", "--missing-rate", "0.8", "0.2"], "0 <= low <= high <= 1"),
        (["train", "--missing-rate", "0.1", "1.2"], "not in the range"),
        (["train", "--model", "lstm"], "'lstm' is not one of"),
    ],
)
def test_errors_are_one_message_without_a_trace(arguments, message):
    result = run(*arguments)
    assert result.exit_code != 0 and message in result.output
    assert "Traceback" not in result.output


def test_two_commands_at_one_run(tmp_path):
    """The second one says so, and takes the run once the first is done with it."""
    where = ["--config", "tiny", "--data-dir", tmp_path / "data", "--runs", tmp_path / "runs"]
    arguments = ["train", *where, "--method", "orig", "--epochs", 1]
    assert run(*arguments).exit_code == 0
    (directory,) = (tmp_path / "runs").iterdir()
    (directory / "metrics.json").unlink()
    with RunDirectory(directory).locked():
        result = run(*arguments)
    assert result.exit_code == 1 and "Error: Only one process may do a run." in result.output
    assert run(*arguments).exit_code == 0 and (directory / "metrics.json").is_file()


def test_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    where = ["--config", "tiny", "--data-dir", tmp_path / "data", "--runs", tmp_path / "runs"]
    arguments = ["train", *where, "--method", "orig", "--epochs", 2, "--tensorboard"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    (directory,) = (tmp_path / "runs").iterdir()
    history = RunDirectory(directory).read_history()
    for folder, tag, key in (
        ("train", "epoch_loss", "loss"),
        ("validation", "epoch_loss", "val_loss"),
    ):
        events = EventAccumulator(str(directory / "tensorboard" / folder)).Reload().Tensors(tag)
        written = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events]
        assert [step for step, _ in written] == [0, 1]
        assert [value for _, value in written] == pytest.approx([row[key] for row in history])

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(*arguments)
    assert result.exit_code == 1 and "pip install 'keras-m3s[tensorboard]'" in result.output
