"""The command: what it prints, how it fails, and that help comes at once."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from keras_m3s.cli.main import main

pytestmark = pytest.mark.once


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "demo"])
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


def test_prepare(tmp_path):
    result = run("prepare", "synthetic_msa", "--config", "tiny", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["train", "24"],
        ["valid", "8"],
        ["test", "9"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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


def test_debug_shows_the_trace():
    result = run("--debug", "evaluate", "no-such-run")
    assert isinstance(result.exception, FileNotFoundError)
