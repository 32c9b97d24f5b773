"""The command `reproduce`: what it lists, runs, leaves out and reports as failed."""

import dataclasses
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from keras_m3s.cli import reproduce as command
from keras_m3s.cli.main import main
from keras_m3s.registry import models
from keras_m3s.study import plan

pytestmark = pytest.mark.once

TWO_OF_FOUR = {"cmu_mosi": "synthetic_msa/tiny"}


def run(*arguments):
    return CliRunner().invoke(main, ["reproduce", *map(str, arguments)])


def test_help_has_an_example_and_names_every_study():
    help_text = run("--help").output
    assert "keras-m3s reproduce all --quick" in help_text.split("Example:")[1]
    assert all(name in help_text for name in plan.NAMES)


def test_a_dry_run_lists_runs_and_time_and_does_nothing(tmp_path):
    runs = tmp_path / "runs"
    result = run("table4", "--dry-run", "--seeds", 2, "--runs", runs, "--manual-dir", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    listed = [line for line in lines if "epochs" in line]
    assert len(listed) == 2 * 3 * 2 and all("and 1 more tests" in line for line in listed)
    assert sum("iemocap-mmin-m3s-seed" in line for line in listed) == 2
    assert all("40-60 %" in line for line in listed)
    assert lines[-1].startswith("table4: 12 runs, 0 of them there; ") and "about" in lines[-1]
    assert not runs.exists()


def test_a_dry_run_imports_no_framework():
    code = (
        "import os, sys; os.environ['KERAS_BACKEND'] = 'jax'\n"
        "from click.testing import CliRunner; from keras_m3s.cli.main import main\n"
        "print(CliRunner().invoke(main, ['reproduce', 'all', '--dry-run']).exit_code)\n"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["0", "[]"]


def quick_mmim(monkeypatch, arguments):
    card = models.CARDS["mmim"]
    changed = dataclasses.replace(card, quick_settings={"model_arguments": arguments})
    monkeypatch.setitem(models.CARDS, "mmim", changed)


def test_a_data_set_that_is_not_there_is_said_and_the_rest_goes_on(tmp_path, monkeypatch):
    """Two models of four have data; a run of one of them fails, the rest is done all the same."""
    monkeypatch.setattr(
        command, "find_data", lambda *_: (TWO_OF_FOUR, {"iemocap": "no such folder"})
    )
    monkeypatch.setattr(plan, "QUICK_SETTINGS", {"epochs": 1, "batch_size": 8})
    quick_mmim(monkeypatch, {"hidden_size": 0})
    monkeypatch.setattr(command, "finish", lambda *_: None)  # the report is drawn below
    result = run("table2", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs")
    assert "mmin on iemocap: left out, the data is not here: no such folder" in result.output
    assert "misa on synthetic_msa/tiny, 40-60 % missing, tested at 40-60 %:" in result.output
    assert "mmim on" not in result.output
    assert result.exit_code == 1 and "3 of 6 runs are not done" in result.output
    failed = [f.parent.name for f in (tmp_path / "runs").glob("*/error.json")]
    assert len(failed) == 3 and all("-mmim-" in name for name in failed)
    for name in failed:
        assert f"failed: {name}" in result.output

    quick_mmim(monkeypatch, {"hidden_size": 8})
    result = run("table2", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs")
    assert result.exit_code == 0 and "3 runs are there already" in result.output
    assert result.output.count("ORIG + M3S") == 2


def test_nothing_to_run(tmp_path):
    result = run("table2", "--manual-dir", tmp_path, "--data-dir", tmp_path)
    assert result.exit_code == 1 and "There must be data for at least one row" in result.output
    assert "misa on cmu_mosi: left out" in result.output
    assert "self_mm on ch_sims: left out" in result.output


def test_selection_as_published_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "QUICK_SETTINGS", {"epochs": 1, "batch_size": 8})
    monkeypatch.setattr(command, "find_data", lambda *_: (TWO_OF_FOUR, {}))
    arguments = ["figure3", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs"]
    result = run(*arguments, "--select", "paper")
    assert result.exit_code == 0, result.output
    assert "epochs chosen as the published scripts do" in result.output
    assert (tmp_path / "runs" / "report" / "report.html").is_file()
    files = list((tmp_path / "runs").glob("*/experiment.json"))
    assert {json.loads(f.read_text())["select"] for f in files} == {"paper"} and len(files) == 3
