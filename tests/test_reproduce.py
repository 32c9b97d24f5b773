"""The command `reproduce`: runs that it lists, executes, leaves out and reports as failed."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from keras_m3s.cli import reproduce as command
from keras_m3s.cli import study_output
from keras_m3s.cli.main import main
from keras_m3s.experiments.config import Experiment
from keras_m3s.registry import models, protocols
from keras_m3s.study import plan
from keras_m3s.study.workspace import Workspace

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
    assert lines[-1].startswith("table4: 12 runs, 0 of them done; ") and "about" in lines[-1]
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


def test_a_missing_data_set_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch):
    """Two models of four have data; the runs of one of them fail."""
    monkeypatch.setattr(
        command, "find_data", lambda *_: (TWO_OF_FOUR, {"iemocap": "no such folder"})
    )
    monkeypatch.setattr(plan, "QUICK_SETTINGS", {"epochs": 1, "batch_size": 8})
    quick_mmim(monkeypatch, {"hidden_size": 0})
    monkeypatch.setattr(command, "finish", lambda *_: None)  # the report is drawn below
    result = run("table2", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs")
    assert "mmin on iemocap: left out, its data is missing: no such folder" in result.output
    assert "misa on synthetic_msa/tiny, 40-60 % missing, tested at 40-60 %:" in result.output
    assert "mmim on" not in result.output
    assert result.exit_code == 1 and "3 of 6 runs are not done" in result.output
    failed = [f.parent.name for f in (tmp_path / "runs").glob("*/error.json")]
    assert len(failed) == 3 and all("-mmim-" in name for name in failed)
    for name in failed:
        assert f"failed: {name}" in result.output

    quick_mmim(monkeypatch, {"hidden_size": 8})
    result = run("table2", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs")
    assert result.exit_code == 0 and "3 runs are already done" in result.output
    assert result.output.count("ORIG + M3S") == 2


def test_damaged_results_are_left_out_of_the_tables(tmp_path, capsys):
    workspace = Workspace(str(tmp_path), None, None, "torch")
    retests = (plan.Condition((0.6, 0.8)),)
    planned = [
        plan.PlannedRun(Experiment.of("synthetic_msa", "misa", "orig", seed=seed), retests)
        for seed in range(2)
    ]
    for p, mae in zip(planned, (1.25, 1.5), strict=True):
        run = workspace.run_directory(p)
        run.write_json("metrics.json", {"mae": mae})
        run.write_json("retest-0.60-0.80-span.json", {"test_missing_rate": [0.6, 0.8]})
    (run.path / "metrics.json").write_text('{"mae": ')
    study_output.print_tables(planned, workspace)
    printed = capsys.readouterr()
    assert "tested at 40-60 %" in printed.out and "1.2500" in printed.out
    assert printed.err.count("Left out of the tables: ") == 3


def test_nothing_to_run(tmp_path):
    result = run("table2", "--manual-dir", tmp_path, "--data-dir", tmp_path)
    assert result.exit_code == 1 and "`table2` must have at least one run" in result.output
    assert "misa on cmu_mosi: left out" in result.output
    assert "self_mm on ch_sims: left out" in result.output
    result = run("table2", "--manual-dir", tmp_path, "--data-dir", tmp_path, "--model", "misa")
    assert "misa on cmu_mosi: left out" in result.output and "self_mm" not in result.output
    of_no_run = (("table2", "--model lnln"), ("protocols", "--model lnln, --dataset iemocap"))
    for study, chosen in of_no_run:
        result = run(study, "--quick", "--dry-run", *chosen.replace(",", "").split())
        assert result.exit_code == 1 and f"Received: {chosen}." in " ".join(result.output.split())
    result = run("table2", "--protocol", "p1", "--dry-run")
    assert result.exit_code == 2 and "--protocol must go with" in result.output


def test_tests_of_modalities_by_name_are_titled(tmp_path, capsys):
    retests = tuple(protocols.CARDS["p4"].tests.values())[:2]
    experiment = Experiment.of("synthetic_msa", "misa", "orig", (0.0, 0.7), pattern="modality")
    planned = [plan.PlannedRun(experiment, retests)]
    study_output.announce("protocols", planned, {}, tmp_path, 1, listed=True)
    assert re.search(r"0-70 %  modality +\d+ epochs", capsys.readouterr().out)
    workspace = Workspace(str(tmp_path), None, None, "torch")
    run = workspace.run_directory(planned[0])
    for number, name in enumerate(("metrics.json", *(run.retest_file(*c).name for c in retests))):
        run.write_json(name, {"mae": number / 4, "metrics": {"mae": number / 4}})
    study_output.print_tables(planned, workspace)
    shown = capsys.readouterr().out
    assert "tested at 0 %:" in shown
    assert "tested at 10 % of text, 40 % of audio, 70 % of vision:" in shown


def test_selection_as_published_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "QUICK_SETTINGS", {"epochs": 1, "batch_size": 8})
    monkeypatch.setattr(command, "find_data", lambda *_: (TWO_OF_FOUR, {}))
    arguments = ["figure3", "--quick", "--seeds", 1, "--jobs", 1, "--runs", tmp_path / "runs"]
    result = run(*arguments, "--select", "paper")
    assert result.exit_code == 0, result.output
    assert "epochs selected as in the published scripts" in result.output
    assert (tmp_path / "runs" / "report" / "report.html").is_file()
    files = list((tmp_path / "runs").glob("*/experiment.json"))
    assert {json.loads(f.read_text())["select"] for f in files} == {"paper"} and len(files) == 3
