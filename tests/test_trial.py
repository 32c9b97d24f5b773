"""The trial of training methods: its steps, what they choose, and what the report says of it."""

import math

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s.cli.main import main
from keras_m3s.experiments import drawn_tests
from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.drawn_tests import DrawnTest
from keras_m3s.experiments.evaluation import retest_draws
from keras_m3s.experiments.run import run_experiment
from keras_m3s.experiments.run_directory import (
    ChangedExperimentError,
    DamagedRunError,
    RunDirectory,
)
from keras_m3s.registry import methods
from keras_m3s.registry import trial as cards
from keras_m3s.registry.patterns import Condition
from keras_m3s.report import significance
from keras_m3s.report import trial as report
from keras_m3s.report.reading import read_runs
from keras_m3s.study.plan import Settings
from keras_m3s.study.trial import Trial, best_arms, best_rates, paired_t
from keras_m3s.study.workspace import Workspace
from tests import sensors

pytestmark = pytest.mark.once

FIRST = next(iter(cards.TESTS.values()))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(sensors.BUILD)
    return path


@pytest.fixture
def trial(file):
    return Trial(f"{file}:build", Settings({}, seeds=range(30), dataset="made_up"))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(str(tmp_path / "runs"), None, None, "torch")


def write(planned, workspace, uar, loss):
    """Leaves a finished run with these metrics on its first test."""
    run = workspace.run_directory(planned)
    run.write_json("experiment.json", planned.experiment.to_dict())
    run.write_json("metrics.json", {"uar": uar, "log_loss": loss})
    for test in planned.drawn:
        rate, pattern, _ = test.condition
        values = {"split": test.split, "test_missing_rate": list(rate), "pattern": pattern}
        run.write_json(test.file(run), {**values, "draws": [{"uar": uar, "log_loss": loss}] * 5})


def test_every_method_has_a_card_and_costs_what_the_baseline_does():
    named = (*cards.CONTROLS, *cards.ARMS, *cards.SHORT)
    assert set(named) <= set(methods.CARDS) and cards.BASELINE in cards.CONTROLS
    cost = methods.CARDS[cards.BASELINE].gradients(1)
    cheaper = {m for m in named if methods.CARDS[m].gradients(1) < cost}
    assert cheaper == {"orig", "spl-trn"}
    assert all(methods.CARDS[m].gradients(1) <= cost for m in named)


def test_the_steps_share_neither_seeds_nor_data(trial):
    rates = dict.fromkeys(trial.methods, 1e-3)
    grid, screening = trial.grid(), trial.screening(rates)
    confirmation = trial.confirmation(rates, ("wide", "mldg"))
    assert {t.split for p in (*grid, *screening) for t in p.drawn} == {"valid"}
    assert {t.split for p in confirmation for t in p.drawn} == {"test"}
    seeds = {p.experiment.seed for p in (*grid, *screening)}
    assert not seeds & {p.experiment.seed for p in confirmation}
    assert len(grid) == 3 * 3 * len(trial.methods) and len(screening) == 10 * len(trial.methods)
    assert len(confirmation) == 30 * (len(cards.CONTROLS) + 2)
    assert {p.experiment.learning_rate for p in grid} == {1e-3 / 3, 1e-3, 3e-3}
    assert all(p.experiment.patience is None for p in (*grid, *screening, *confirmation))


def test_the_learning_rate_with_the_least_error_is_taken(trial, workspace):
    grid = trial.grid()
    for planned in grid:
        e = planned.experiment
        best = 3e-3 if e.method == "wide" else 1e-3
        if e.method == "mldg" and e.learning_rate > 2e-3:
            continue  # it diverged: no result, not the best
        write(planned, workspace, 0.5, 1.0 + abs(math.log(e.learning_rate / best)) + 0.01 * e.seed)
    rates = best_rates(grid, workspace)
    assert rates["wide"] == 3e-3 and rates["orig"] == rates["mldg"] == 1e-3
    with pytest.raises(ValueError, match="must have results for 'orig'"):
        best_rates([p for p in grid if p.experiment.method == "orig"], Workspace("none", None, None, "torch"))  # fmt: skip


def test_arms_go_on_by_the_lesser_of_two_t_statistics(trial, workspace):
    screening = trial.screening(dict.fromkeys(trial.methods, 1e-3))
    better = {
        cards.BASELINE: (0.0, 0.0),
        "wide": (0.04, -0.1),
        "mixed": (0.09, 0.1),
        "mldg": (0.02, -0.05),
    }
    for planned in screening:
        e, rng = planned.experiment, np.random.default_rng(planned.experiment.seed)
        uar, loss = better.get(e.method, (-0.05, 0.05))
        own = np.random.default_rng([e.seed, len(e.method)]).normal(size=2) * 0.01
        write(planned, workspace, 0.5 + uar + rng.normal() + own[0], 1 + loss + own[1])
    # `mixed` is better in one metric and worse in the other, all else worse in both.
    assert best_arms(screening, workspace) == ("wide", "mldg")
    for planned in screening:
        write(planned, workspace, 0.5 if planned.experiment.method == cards.BASELINE else 0.4, 1.0)
    assert len(best_arms(screening, workspace)) == 1


def test_the_paired_t_statistic_is_scipys():
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8))
    first, second = ({i: {"mae": v} for i, v in enumerate(x)} for x in (a, b))
    assert paired_t(first, second, "mae") == pytest.approx(stats.ttest_rel(a, b).statistic)
    assert paired_t(first, {}, "mae") == 0
    same = {i: {"mae": v + 1} for i, v in enumerate(a)}
    assert paired_t(first, same, "mae") < -1e6 and paired_t(first, first, "mae") == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    (folder / "net.py").write_text(sensors.BUILD)
    splits = sensors.splits()
    settings = {"epochs": 1, "batch_size": 8, "learning_rate": 0.03}
    planned = Experiment.of("made_up", f"{folder / 'net.py'}:build", "m3s", **settings)
    run = RunDirectory(folder / planned.key)
    run_experiment(planned, run, splits)
    return run, splits


def test_drawn_tests_are_retests_under_several_draws(trained):
    run, splits = trained
    tests = [
        DrawnTest(Condition((0.2, 0.4)), "test", 2),
        DrawnTest(Condition((0.4, 0.6)), "valid", 2),
        DrawnTest(Condition((0.5, 0.5), "modality"), "test", 2),
    ]
    assert drawn_tests.read(run, tests[0]) == []
    drawn_tests.make(run, splits, tests)
    for test in tests:
        rate, pattern, _ = test.condition
        wanted = retest_draws(run, splits[test.split], rate, pattern, draws=2)
        assert drawn_tests.read(run, test) == wanted and wanted[0] != wanted[1]
    assert drawn_tests.read(run, DrawnTest(Condition((0.2, 0.4)), "test", 3)) == []
    before = (run.path / tests[0].file(run)).stat().st_mtime_ns
    drawn_tests.make(run, splits, tests)
    assert (run.path / tests[0].file(run)).stat().st_mtime_ns == before


def test_damaged_and_changed_are_refused(trained):
    run, _ = trained
    test = DrawnTest(Condition((0.1, 0.1)))
    with pytest.raises(ChangedExperimentError):
        drawn_tests.make(run, {"test": sensors.splits(seed=1)["test"]}, [test])
    run.write_json(test.file(run), {"draws": [{"uar": "high"}]})
    with pytest.raises(DamagedRunError, match="list of metrics"):
        drawn_tests.read(run, test)
    (run.path / test.file(run)).unlink()


def confirmed(trial, workspace, gains):
    """Runs of a confirmation on 12 seeds, with gains over the baseline."""
    settings = Settings({}, seeds=range(12), dataset="made_up")
    short = Trial(trial.model, settings)
    for planned in short.confirmation(dict.fromkeys(trial.methods, 1e-3), ("two-draws",)):
        e = planned.experiment
        uar, loss = gains.get(e.method, (0.0, 0.0))
        rng = np.random.default_rng([e.seed, list(methods.CARDS).index(e.method)])
        shared = np.random.default_rng(e.seed).normal()
        noise = 0.01 * rng.normal(size=2)
        write(planned, workspace, 0.5 + shared + uar + noise[0], 1 + loss + noise[1])
    return read_runs(workspace.run_directory(planned).path.parent)


def test_the_report_says_what_beats_the_baseline_in_both_metrics(trial, workspace):
    gains = {"two-draws": (0.05, -0.05), "m3s": (0.05, 0.0), "orig": (-0.05, 0.05)}
    runs = confirmed(trial, workspace, gains)
    (group,) = report._groups(runs)
    lines = {line.method: line for line in report.decisive(group)}
    assert lines["two-draws"].wins(("uar", "log_loss"))
    assert not any(lines[m].wins(("uar", "log_loss")) for m in lines if m != "two-draws")
    assert lines["orig"].cost == 0.5 and lines["m3s"].cost == 1
    tests = [(m, x) for m in lines if m != cards.BASELINE for x in ("uar", "log_loss")]
    raw = [lines[m].compared[x].t for m, x in tests]
    assert [lines[m].p[x] for m, x in tests] == significance.holm(raw) and len(raw) == 12
    section = report.section(runs)
    assert "use Random holes: consistency. It beats" in section.intro
    assert [table.key for table in section.elements] == ["trial-1", "trial-1-uar", "trial-1-log_loss"]  # fmt: skip
    bold = [row[0].text for row in section.elements[0].rows if row[4].mark and row[7].mark]
    assert bold == ["ORIG", "consistency"]


def test_the_report_says_so_if_nothing_does(trial, workspace):
    section = report.section(confirmed(trial, workspace, {"orig": (-0.05, 0.05)}))
    assert "better than fixed holes, and nothing more" in section.intro


def test_the_report_shows_how_rates_and_arms_were_chosen(trial, workspace):
    grid = trial.grid()
    for planned in grid:
        e = planned.experiment
        best = 3e-3 if e.method == "wide" else 1e-3
        write(planned, workspace, 0.5, 1.0 + abs(math.log(e.learning_rate / best)) + 0.01 * e.seed)
    rates = best_rates(grid, workspace)
    screening = trial.screening(rates)
    for planned in screening:
        e = planned.experiment
        noise = np.random.default_rng([e.seed, len(e.method)]).normal(size=2) * 0.01
        gain = 0.05 if e.method == "wide" else 0.0
        write(planned, workspace, 0.5 + gain + noise[0], 1 - gain + noise[1])
    arms = best_arms(screening, workspace)
    for planned in trial.confirmation(rates, arms):
        if planned.experiment.seed < 2:
            write(planned, workspace, 0.5, 1.0)
    section = report.section(read_runs(workspace.run_directory(planned).path.parent))
    (table,) = [t for t in section.elements if t.key == "trial-1-screening"]
    rows = dict(zip((row[0].text for row in table.rows), table.rows, strict=True))
    assert list(table.header[1:5]) == ["Log loss at 0.00033", "Log loss at 0.001", "Log loss at 0.003", "Seeds"]  # fmt: skip
    titles = {m: methods.CARDS[m].short_title for m in trial.methods}
    for method, title in titles.items():
        marked = [bool(cell.mark) for cell in rows[title][1:4]]
        assert marked == [False, method != "wide", method == "wide"]
        assert rows[title][4].text == "10"
        assert bool(rows[title][-1].mark) == (method in arms)
    values = {}
    for planned in screening:
        found = drawn_tests.read(workspace.run_directory(planned), planned.drawn[0])
        values.setdefault(planned.experiment.method, {})[planned.experiment.seed] = drawn_tests.mean(found)  # fmt: skip
    baseline = values[cards.BASELINE]
    score = min(paired_t(baseline, values["wide"], m) for m in ("uar", "log_loss"))
    assert rows[titles["wide"]][-1].text == f"{score:+.2f}" and score > 5
    assert rows[titles[cards.BASELINE]][-1].text == "–"


def test_the_command_goes_through_all_steps_and_goes_on(trained, file, tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "CONTROLS", ("orig", cards.BASELINE))
    monkeypatch.setattr(cards, "ARMS", ("wide", "two-draws-averaged"))
    monkeypatch.setattr(cards, "DRAWS", 2)
    sensors.write_npz(tmp_path / "data.npz", trained[1])
    words = ["reproduce", "recipe", "--model", f"{file}:build", "--dataset"]
    words += [str(tmp_path / "data.npz"), "--quick", "--epochs", "1", "--jobs", "1"]
    words += ["--runs", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    for said in ("learning rates, 4 runs", "screening, 8 runs", "go on", "on test data", "Report:"):
        assert said in shown.output
    files = sorted((tmp_path / "runs").glob("*/best.keras"))
    stamps = [path.stat().st_mtime_ns for path in files]
    page = (tmp_path / "runs" / "report" / "report.html").read_text()
    assert "What to use" in page and "screening" in page
    again = CliRunner().invoke(main, words, catch_exceptions=False)
    assert again.exit_code == 0
    assert [path.stat().st_mtime_ns for path in files] == stamps
    rows = (tmp_path / "runs" / "report" / "data" / "trial.csv").read_text().splitlines()
    assert sum(",test," in row for row in rows) and sum(",valid," in row for row in rows)


def test_compare_answers_on_the_first_page(trained, file, tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "SHORT", ("orig", cards.BASELINE, "two-draws-averaged"))
    sensors.write_npz(tmp_path / "data.npz", trained[1])
    words = ["compare", "--model", f"{file}:build", "--dataset", str(tmp_path / "data.npz")]
    words += ["--seeds", "2", "--epochs", "1", "--jobs", "1", "--runs", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert "compare: 6 runs" in shown.output and "(equal budget)" in shown.output
    page = (tmp_path / "runs" / "report" / "report.md").read_text()
    first = page.index("## What to use")
    assert "data.npz" in page[first : first + 400] and page.index("## Runs") > first


def test_the_recipe_needs_a_model():
    shown = CliRunner().invoke(main, ["reproduce", "recipe"])
    assert shown.exit_code == 2 and "--model must be given" in shown.output


def test_a_recipe_without_data_for_its_model_says_so():
    words = ["reproduce", "recipe", "--model", "mmim", "--dataset", "iemocap", "--dry-run"]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 1 and "recipe: 0 runs" in shown.output
    assert "Received: --model mmim, --dataset iemocap" in " ".join(shown.output.split())
