"""The protocols of robustness: what is planned, tested and reported."""

import itertools
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from made_up_runs import make_run

from keras_m3s.cli.main import main
from keras_m3s.experiments import evaluation
from keras_m3s.experiments.run_directory import RunDirectory
from keras_m3s.missing import MissingModality, fixed_draws
from keras_m3s.missing.patterns import MMIN_CONDITIONS
from keras_m3s.registry import methods, models, protocols
from keras_m3s.registry.patterns import Condition
from keras_m3s.report import write_report
from keras_m3s.report.build import build
from keras_m3s.report.reading import read_runs
from keras_m3s.study.plan import Settings, on_one_dataset, plan
from tests import untrained_runs

pytestmark = pytest.mark.once

FRAMES = [Condition((i / 10, i / 10), "frames") for i in range(11)]
MODALITIES = ("audio", "vision", "text")


def planned(**settings):
    datasets = {card.dataset: card.dataset for card in models.CARDS.values()}
    return plan("protocols", Settings(datasets, [0], **settings))


def trained(runs, model, pattern):
    """Range of rates in training -> conditions of the tests, of runs by the baseline."""
    return {
        p.experiment.missing_rate: p.retests
        for p in runs
        if (p.experiment.model, p.experiment.pattern) == (model, pattern)
        and p.experiment.method == "orig"
    }


def test_each_model_and_method_is_trained_as_each_protocol_says():
    runs = planned()
    assert {(p.experiment.model, p.experiment.method) for p in runs} == set(
        itertools.product(models.CARDS, methods.paper())
    )
    assert {p.experiment.select for p in runs} == {"validation"}
    for model, card in models.CARDS.items():
        frames = trained(runs, model, "frames")
        # P1: one model, ten rates. P2: a model for each rate, tested as trained.
        assert frames.pop((0.0, 1.0)) == tuple(FRAMES[:10])
        highest = 5 if card.dataset == "ch_sims" else 10
        assert frames == {c.missing_rate: () for c in FRAMES[1 : highest + 1]}
        # P3, random, and P4 share one model.
        ((rates, tests),) = trained(runs, model, "modality").items()
        assert rates == (0.0, 0.7)
        assert [c.missing_rate[0] for c in tests[:8]] == [i / 10 for i in range(8)]
        imbalanced = [dict(c.modality_rates) for c in tests[8:]]
        assert len(imbalanced) == 6
        assert {tuple(r[m][0] for m in MODALITIES) for r in imbalanced} == set(
            itertools.permutations((0.1, 0.4, 0.7))
        )
        (six,) = trained(runs, model, "six-conditions").values()
        gone = [{m for m, rate in c.modality_rates if rate == (1.0, 1.0)} for c in six]
        assert sorted(map(sorted, gone)) == sorted(map(sorted, MMIN_CONDITIONS.values()))
        assert {(c.missing_rate, c.pattern) for c in six} == {((0.0, 0.0), "modality")}


def test_one_model_on_one_data_set():
    assert {p.experiment.model for p in planned(models=["lnln"])} == {"lnln"}
    p1 = planned(models=["lnln"], protocols=["p1"])
    assert {p.experiment.missing_rate for p in p1} == {(0.0, 1.0)}
    assert len(p1) == len(methods.paper())
    one = {"seeds": [0]}
    scores = plan("protocols", Settings(on_one_dataset("cmu_mosi"), dataset="cmu_mosi", **one))
    assert {p.experiment.model for p in scores} == set(models.CARDS)
    assert {p.experiment.dataset for p in scores} == {"cmu_mosi"}
    assert len(trained(scores, "self_mm", "frames")) == 1 + 10, "as on MOSI, not as on SIMS"
    # The others predict scores alone.
    classes = plan("protocols", Settings(on_one_dataset("iemocap"), dataset="iemocap", **one))
    assert {p.experiment.model for p in classes} == {"misa", "mmin"}
    assert set(on_one_dataset("~/own.pkl").values()) == {"~/own.pkl"}


def test_a_sample_has_one_of_the_six_conditions():
    layer = MissingModality((0.5, 0.5), pattern="six-conditions", modalities=MODALITIES)
    x = {m: np.ones((600, 3, 2), "float32") for m in MODALITIES}
    out = layer({**x, "draws": fixed_draws(600, seed=0)})
    there = np.stack([np.asarray(out[m])[:, 0, 0] for m in MODALITIES], axis=1)
    found, counts = np.unique(there, axis=0, return_counts=True)
    assert {tuple(row) for row in found} == {
        tuple(float(m not in gone) for m in MODALITIES) for gone in MMIN_CONDITIONS.values()
    }
    assert counts.min() > 60  # of 100
    with pytest.raises(ValueError, match="'six-conditions' must have the modalities audio, vision"):
        MissingModality({"left": 0.5}, pattern="six-conditions")(
            {"left": x["audio"]}, training=True
        )


def test_a_trained_model_is_tested_with_rates_for_each_modality(tmp_path, monkeypatch):
    run, splits = untrained_runs.make(tmp_path, "misa")
    made = []
    at_test_rate = evaluation.at_test_rate
    monkeypatch.setattr(
        evaluation, "at_test_rate", lambda *a: made.append(at_test_rate(*a)) or made[-1]
    )
    alone = protocols.CARDS["p3"].tests["text"]
    assert not run.retested(*alone)
    plain = Condition((0.0, 0.0), "modality")
    evaluation.run_retests(run, splits["test"], [alone, plain, ((0.0, 0.0), "span")])
    assert run.retested(*alone)
    assert run.retested(*plain)
    assert len(made) == 2, "rates are state: a program for each pattern"
    written = json.loads(run.retest_file(*alone).read_text())
    assert written["modality_rates"] == {"audio": [1.0, 1.0], "vision": [1.0, 1.0]}
    # What is scored is what the model says of audio and vision of zeros.
    test = splits["test"]
    zeroed = {
        name: np.zeros_like(values) if name in ("audio", "vision") else values
        for name, values in test.features.items()
    }
    other = type(test)(test.name, zeroed, test.labels, test.ids)
    experiment = run.experiment().replace(
        test_missing_rate=plain.missing_rate, pattern=plain.pattern
    )
    predictions = evaluation.predict(evaluation.best_model(run), experiment, other)
    expected = evaluation.score(experiment.dataset, other, predictions)
    assert written["metrics"] == pytest.approx(expected, rel=1e-5)
    complete = json.loads(run.retest_file(*plain).read_text())["metrics"]
    assert written["metrics"]["mae"] != complete["mae"]
    assert complete == evaluation.retest(run, test, *plain[:2])


def made_up(folder, model, method, seed, training, tests, base, **options):
    """A run whose MAE at the i-th test is base + i / 100."""
    rate, pattern, _ = training
    options["pattern"] = pattern
    run = RunDirectory(make_run(folder, "cmu_mosi", model, method, rate, seed, **options))
    run.write_json("metrics.json", {"mae": base, "corr": 0.5, "acc7": 0.3})
    for number, condition in enumerate(tests):
        values = {
            "test_missing_rate": list(condition.missing_rate),
            "pattern": condition.pattern,
            "modality_rates": {m: list(rate) for m, rate in condition.modality_rates},
            "metrics": {"mae": base + number / 100, "corr": 0.5, "acc7": 0.3},
        }
        run.write_json(run.retest_file(*condition).name, values)


def test_the_report_has_a_table_for_each_protocol_and_metric(tmp_path):
    cards = protocols.CARDS
    for seed, base in enumerate((1.0, 1.2)):
        for method, better in (("orig", 0.0), ("m3s", 0.1)):
            for key in ("p1", "p3", "p4"):
                tests = cards[key].of("cmu_mosi").values()
                made_up(tmp_path, "misa", method, seed, cards[key].trained, tests, base - better)
    for number, condition in enumerate(cards["p2"].tests.values()):
        made_up(tmp_path, "misa", "orig", 0, condition, (), 1 + number / 10)
    content = build(read_runs(tmp_path))
    (section,) = [s for s in content.sections if s.key == "protocols"]
    tables = {t.title: t for t in section.elements}
    assert [t for t in tables if t.endswith("MAE")] == [
        f"CMU-MOSI · {cards[key].title} · MAE" for key in ("p1", "p2", "p3", "p4")
    ]
    p1 = tables["CMU-MOSI · P1: independent frames · MAE"]
    cells = [[cell.text for cell in row] for row in p1.rows]
    # Two seeds, 1.0 and 1.2, and ten rates, each .01 worse.
    assert cells[0][:4] == ["MISA", "ORIG", "1.1000", "1.1100"]
    assert cells[0][-1] == "1.1450 ± 0.1414"
    assert cells[1][1:3] == ["ORIG + M3S", "1.0000"]
    assert [cell.mark for cell in p1.rows[1][2:]] == ["best"] * 11
    assert not any(cell.mark for cell in p1.rows[0])
    assert ["MISA", "published", *["–"] * 10, "1.0850"] in cells
    assert ["LNLN", "re-run", *["–"] * 10, "1.1450"] in cells
    # 1.0, 1.1 ... 1.9 at rates .1 apart: the area is .9 times the mean of the ends.
    p2 = tables["CMU-MOSI · P2: a model for each rate · MAE"]
    assert [c.text for c in p2.rows[0]][-1] == "1.3050"
    p3 = tables["CMU-MOSI · P3: six conditions · MAE"]
    assert p3.header[2:] == [*cards["p3"].tests, "Mean"]
    assert [c.text for c in p3.rows[0]][2:4] == ["1.1000", "1.1100"]
    p4 = tables["CMU-MOSI · P4: imbalanced rates · MAE"]
    assert len(p4.header) == 2 + 7 + 1
    rows = content.data["protocols"]
    assert {r["protocol"] for r in rows} == {"p1", "p2", "p3", "p4"}
    means = [r for r in rows if r["test"] == "Mean" and r["metric"] == "mae"]
    assert len(means) == 3 * 2 * 2


def test_incomplete_protocols_are_left_out(tmp_path):
    card = protocols.CARDS["p1"]
    made_up(tmp_path, "lnln", "orig", 0, card.trained, list(card.tests.values())[:9], 1.0)
    keys = [section.key for section in build(read_runs(tmp_path)).sections]
    assert "protocols" not in keys
    assert "rates" in keys, "they are in the curves"


def test_a_line_has_trainings_of_one_configuration(tmp_path):
    """P2 was done with 10 epochs, and has begun with 200."""

    def trained(epochs, conditions):
        for condition in conditions:
            options = {"epochs": epochs, "batch_size": 64 + epochs}
            made_up(tmp_path, "lnln", "orig", 0, condition, (), epochs / 10, **options)

    def lines():
        (section,) = [s for s in build(read_runs(tmp_path)).sections if s.key == "protocols"]
        return [row[1].text for row in section.elements[0].rows if row[1].details]

    conditions = list(protocols.CARDS["p2"].tests.values())
    trained(10, conditions)
    assert lines() == ["ORIG"]
    alone = next(s for s in build(read_runs(tmp_path)).sections if s.key == "protocols")
    trained(200, conditions[:3])
    after = next(s for s in build(read_runs(tmp_path)).sections if s.key == "protocols")
    assert after == alone
    trained(200, conditions[3:])
    assert sorted(lines()) == ["ORIG", "ORIG, batch_size 74; epochs 10"]


@pytest.mark.slow
def test_the_command_prints_itself_on_its_page(tmp_path, monkeypatch):
    """One model on its quick settings, one test a protocol."""
    card = protocols.CARDS["p3"]
    short = {
        "p3": protocols.ProtocolCard(
            "P3", "Short.", dict(list(card.tests.items())[:2]), card.trained
        )
    }
    monkeypatch.setattr(protocols, "CARDS", short)
    monkeypatch.setattr("keras_m3s.study.plan.QUICK_SETTINGS", {"epochs": 3, "batch_size": 32})
    where = ["--runs", str(tmp_path / "runs"), "--seeds", "1", "--jobs", "1", "--quick"]
    backend = keras.backend.backend()
    monkeypatch.setenv("KERAS_BACKEND", backend)
    study = ["reproduce", "protocols", "--protocol", "p3", "--model", "self_mm"]
    result = CliRunner().invoke(main, ["--backend", backend, *study, *where])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "runs" / "report" / "report.md").read_text()
    (command,) = [line for line in page.splitlines() if line.startswith("- Command: `")]
    assert f"--backend {backend} reproduce protocols " in command, command
    for given in ("--model self_mm", "--protocol p3", "--quick --jobs 1"):
        assert given in command, command
    assert "· P3 · MAE" in page
    assert page.count("| Self-MM | ORIG") >= 3


def test_reports_of_a_command(tmp_path):
    card = protocols.CARDS["p1"]
    made_up(tmp_path, "lnln", "orig", 0, card.trained, card.tests.values(), 1.0)
    page, *_ = write_report(tmp_path, tmp_path / "report", ["markdown"], command="keras-m3s x")
    assert "- Command: `keras-m3s x`" in page.read_text()
