"""Studies against sections 4.4 and 5 of the paper, the budget of the controls, run times."""

import collections

import numpy as np
import pytest

from keras_m3s import data
from keras_m3s.experiments import selection, training
from keras_m3s.experiments.build import train_batches
from keras_m3s.experiments.config import Experiment
from keras_m3s.registry import methods as method_cards
from keras_m3s.registry import models as model_cards
from keras_m3s.study import run_time
from keras_m3s.study.plan import Condition, PlannedRun, Settings, models_of, plan
from keras_m3s.study.workspace import STARTED, Workspace, run_states

pytestmark = pytest.mark.once

CELLS = {model: card.dataset for model, card in model_cards.CARDS.items()}
IN_PAPER = ("self_mm", "mmin", "misa", "mmim")
METHODS, CONTROLS = method_cards.paper(), method_cards.equal_budget()
REAL = {name: name for name in CELLS.values()}
LOW, MEDIUM, HIGH = (0.2, 0.4), (0.4, 0.6), (0.6, 0.8)


def runs(name, seeds=(0, 1, 2), **settings):
    return plan(name, Settings(REAL, seeds, **settings))


def table(planned):
    """(model, data set, method, rate in training, rate in testing) -> number of runs."""
    found = collections.Counter()
    for p in planned:
        e = p.experiment
        for test in (e.test_missing_rate, *(c.missing_rate for c in p.retests)):
            found[e.model, e.dataset, e.method, e.missing_rate, test] += 1
    return found


def test_table2_is_four_models_by_three_methods_at_the_medium_level():
    cells = (
        ("self_mm", "ch_sims"),
        ("mmin", "iemocap"),
        ("misa", "cmu_mosi"),
        ("mmim", "cmu_mosi"),
    )
    assert table(runs("table2")) == {
        (model, dataset, method, MEDIUM, MEDIUM): 3
        for model, dataset in cells
        for method in METHODS
    }
    assert runs("table5") == runs("table2")


def test_table3_is_tested_as_trained():
    cells = (("mmin", "iemocap"), ("mmim", "cmu_mosi"))
    assert table(runs("table3")) == {
        (model, dataset, method, rate, rate): 3
        for model, dataset in cells for method in METHODS for rate in (LOW, MEDIUM, HIGH)
    }  # fmt: skip


def test_table4_trains_at_the_medium_level_and_tests_at_the_high_one_too():
    found = table(runs("table4"))
    assert {key[3:] for key in found} == {(MEDIUM, MEDIUM), (MEDIUM, HIGH)}
    assert {key[:2] for key in found} == {("mmin", "iemocap"), ("mmim", "cmu_mosi")}
    assert set(found.values()) == {3} and len(found) == 2 * 3 * 2


@pytest.mark.parametrize(
    ("figure", "model"), [("figure1", "mmin"), ("figure3", "mmim"), ("figure4", "mmin")]
)
def test_figures_follow_one_model(figure, model):
    assert {(p.experiment.model, p.experiment.missing_rate) for p in runs(figure)} == {
        (model, MEDIUM)
    }
    assert len(runs(figure)) == 9


def test_hyperparameters_are_those_of_section_4_4():
    expected = {
        "mmin": (2e-4, 1e-4, 256, 60),
        "mmim": ({"/mi_": 0.0, "": 1e-3}, 1e-3, 32, 40),
        "misa": (1e-4, 1e-4, 128, 500),
    }
    for p in runs("paper"):
        e = p.experiment
        if e.model in expected:
            assert (e.inner_learning_rate, e.learning_rate, e.batch_size, e.epochs) == expected[
                e.model
            ]
        else:
            assert e.batch_size == 32 and e.patience == 8
        assert (e.inner_steps, e.first_order, e.site, e.pattern, e.select) == (
            1,
            True,
            "raw",
            "span",
            "validation",
        )
        assert not e.model_arguments


def test_a_run_that_several_tables_need_is_one_run():
    """36 of Table 2 with 3 seeds, and the low and the high level of Table 3's two models."""
    planned = runs("paper")
    assert len({p.experiment.key for p in planned}) == len(planned) == 36 + 2 * 2 * 3 * 3
    mmim = [
        p for p in planned if (p.experiment.model, p.experiment.missing_rate) == ("mmim", MEDIUM)
    ]
    assert all(p.retests == (Condition(HIGH),) for p in mmim) and len(mmim) == 9


def test_the_matrix_tests_each_level_at_each():
    found = table(runs("matrix"))
    assert {key[3:] for key in found} == {
        (a, b) for a in (LOW, MEDIUM, HIGH) for b in (LOW, MEDIUM, HIGH)
    }
    assert set(found.values()) == {3}


def test_sweeps():
    steps = [p.experiment for p in runs("steps", [0])]
    assert {(e.inner_steps, e.method) for e in steps} == {
        (k, m) for k in (1, 2, 3, 5) for m in ("m3s", "spl-trn-equal")
    }
    alphas = {
        p.experiment.inner_learning_rate for p in runs("alpha", [0]) if p.experiment.model == "mmin"
    }
    assert sorted(alphas) == pytest.approx([2e-5, 2e-4, 2e-3])
    mmim = [
        p.experiment.inner_learning_rate for p in runs("alpha", [0]) if p.experiment.model == "mmim"
    ]
    assert sorted(rates[""] for rates in mmim) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert all(rates["/mi_"] == 0 for rates in mmim)
    assert {p.experiment.first_order for p in runs("order", [0])} == {True, False}
    assert {(p.experiment.model, p.experiment.site) for p in runs("site", [0])} == {
        (model, site) for model in IN_PAPER for site in ("raw", "encoded")
    }


def test_the_control_beside_the_papers_methods():
    both = runs("table3", methods=METHODS + CONTROLS)
    assert {p.experiment.method for p in both} == {*METHODS, "spl-trn-equal"}
    assert len(both) == len(runs("table3")) * 4 / 3
    assert runs("budget", methods=METHODS + CONTROLS) == runs("budget"), "has methods of its own"


def test_missing_data_leaves_out_its_models_only():
    planned = plan("table2", Settings({"cmu_mosi": "cmu_mosi"}, [0]))
    assert {p.experiment.model for p in planned} == {"misa", "mmim"}
    assert models_of("table3") == ("mmin", "mmim")


def test_selection_and_seeds_are_in_every_run():
    assert {p.experiment.select for p in runs("all", select="paper")} == {"paper"}
    assert {p.experiment.seed for p in runs("all")} == {0, 1, 2}


def test_quick_runs_are_small():
    for p in runs("all", quick=True):
        assert p.experiment.epochs <= 10 and p.experiment.model_arguments
        assert p.experiment.first_stage_epochs <= 2


def test_an_unknown_study():
    with pytest.raises(ValueError, match="`name` must be one of .*Received: 'table9'"):
        plan("table9", Settings(REAL))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_control_has_as_many_gradients_as_m3s(tmp_path, steps):
    """In each epoch, of the same number of rows; and both have the same number of epochs."""
    splits = data.load("synthetic_msa", data_dir=tmp_path, config="tiny")
    m3s, control, plain = (
        Experiment.of("synthetic_msa/tiny", "misa", method, batch_size=5, inner_steps=steps)
        for method in ("m3s", "spl-trn-equal", "spl-trn")
    )
    meta, equal, single = (train_batches(e, splits["train"]) for e in (m3s, control, plain))
    assert len(equal) == len(meta) * (steps + 1) == len(single) * (steps + 1)
    assert m3s.gradients_per_batch == control.gradients_per_batch == steps + 1
    assert plain.gradients_per_batch == 1
    assert m3s.epochs == control.epochs
    rows = [equal.rows(i) for i in range(len(equal))]
    assert np.bincount(np.concatenate(rows)).tolist() == [steps + 1] * 24
    assert [len(r) for r in rows] == [5, 5, 5, 5, 4] * (steps + 1)
    assert rows[0].tolist() != rows[5].tolist(), "each pass has an order of its own"
    assert all(len(meta.rows(i)) == 2 * len(rows[i]) for i in range(len(meta)))


HISTORY = [
    {"val_loss": 1.0, "val_uar": 0.4, "test_mae": 0.5, "test_uar": 0.6},
    {"val_loss": 0.9, "val_uar": 0.6, "test_mae": 0.6, "test_uar": 0.5},  # worse in testing
    {"val_loss": 0.8, "val_uar": 0.5, "test_mae": 0.4, "test_uar": 0.5},
    {"val_loss": 0.9, "val_uar": 0.6, "test_mae": 0.3, "test_uar": 0.7},  # no better in validation
    {"val_loss": 0.7, "val_uar": 0.3, "test_mae": 0.45, "test_uar": 0.7},
]


@pytest.mark.parametrize(
    ("model", "monitor", "mode", "select", "epoch"),
    [
        ("mmim", "val_loss", "min", "validation", 4),
        ("mmim", "val_loss", "min", "paper", 2),
        ("mmin", "val_uar", "max", "validation", 1),
        ("mmin", "val_uar", "max", "paper", 3),
        ("misa", "val_loss", "min", "paper", 4),
        ("self_mm", "val_loss", "min", "paper", 4),
    ],
)
def test_selection(model, monitor, mode, select, epoch):
    assert selection.selected_epoch(HISTORY, monitor, mode, model, select) == epoch


@pytest.mark.parametrize(
    "timing",
    [
        "[80, 20]",
        "{}",
        '{"seconds": 80.0}',
        '{"seconds": "80", "epochs": 20}',
        '{"seconds": 80.0, "epochs": [20]}',
        '{"seconds": 80.0, "epochs": 1e400}',
        '{"seconds": -80.0, "epochs": 20}',
        '{"seconds": 80.0, "epochs": 1%s}' % (400 * "0"),
        '{"seconds": NaN, "epochs": 20}',
    ],
)
def test_a_damaged_timing_is_no_timing(tmp_path, timing):
    (planned,) = plan("order", Settings({"cmu_mosi": "cmu_mosi"}, [0]))[:1]
    workspace = Workspace(str(tmp_path), None, None, "torch")
    run = workspace.run_directory(planned)
    run.start(planned.experiment)
    (run.path / "timing.json").write_text(timing)
    assert run_time.measured_epochs(tmp_path) == {}
    assert run_states([planned], workspace) == {planned.experiment.key: (STARTED, 0)}


@pytest.mark.parametrize("change", [{"model": ["misa"]}, {"inner_steps": None}, {"mystery": 1}])
def test_a_damaged_experiment_is_not_measured(tmp_path, change):
    (planned,) = plan("order", Settings({"cmu_mosi": "cmu_mosi"}, [0]))[:1]
    run = training.RunDirectory(tmp_path / "run")
    run.write_json("experiment.json", planned.experiment.to_dict() | change)
    run.write_json("timing.json", {"seconds": 80.0, "epochs": 20})
    assert run_time.measured_epochs(tmp_path) == {}


def test_estimates_follow_measured_runs(tmp_path):
    (planned,) = plan("order", Settings({"cmu_mosi": "cmu_mosi"}, [0]))[:1]
    e = planned.experiment
    guess = run_time.remaining_seconds([planned], tmp_path, 1)
    run = training.RunDirectory(tmp_path / e.replace(seed=7).key)
    run.start(e.replace(seed=7))
    run.write_json("timing.json", {"seconds": 80.0, "epochs": 20})
    assert e.gradients_per_batch == 2
    assert run_time.remaining_seconds([planned], tmp_path, 1) == pytest.approx(
        4.0 * e.epochs + run_time.STARTUP_SECONDS
    )
    assert run_time.remaining_seconds([planned], tmp_path, 1) != pytest.approx(guess)
    both = [planned, PlannedRun(e.replace(seed=1))]
    assert run_time.remaining_seconds(both, tmp_path, 2) == pytest.approx(
        4.0 * e.epochs + run_time.STARTUP_SECONDS
    )
    assert [run_time.format_seconds(s) for s in (45, 720, 12600, 181440)] == [
        "45 s",
        "12 min",
        "3.5 h",
        "2.1 days",
    ]
