"""Reports on models and data without a paper beside them, which open with what was withstood."""

import csv
import itertools

import pytest

from keras_m3s.report import write_report
from tests import sensors
from tests.made_up_runs import make_run

pytestmark = pytest.mark.once

METRICS = ("acc", "uar", "f1")


def withstood(run, level, seed):
    """A robustness.csv with made-up numbers around a level."""
    rows = []
    for pattern, rate in itertools.product(("span", "modality"), (0.0, 0.4, 0.8)):
        for draw in range(1 if rate == 0 else 2):
            value = level * (1 - 0.4 * rate) + 0.01 * draw + 0.02 * seed
            rows.append([pattern, rate, "", draw, *[f"{value:.6f}"] * 3])
    for absent in (("acc",), ("gyro",), ("acc", "gyro")):
        rows.append(["", "", "+".join(absent), 0, *[f"{level - 0.1 * len(absent):.6f}"] * 3])
    with (run / "robustness.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["pattern", "rate", "absent", "draw", *METRICS], *rows])


@pytest.fixture
def runs(tmp_path):
    """A plain model and one by M3S, two seeds each, of one source; and a third of another."""
    folder, code = tmp_path / "runs", tmp_path / "net.py"
    code.write_text(sensors.BUILD)
    own = {"dataset": str(tmp_path / "sensors.npz"), "model": f"{code}:build"}
    kinds = (("spl-trn", (0.0, 0.0), 0.6), ("m3s", (0.0, 0.8), 0.7))
    for (method, rate, level), seed in itertools.product(kinds, (0, 1)):
        make_own(folder, method, rate, seed, level, **own)
    code.write_text(sensors.BUILD + "\n# another\n")
    make_own(folder, "m3s", (0.0, 0.8), 0, 0.1, **own)
    return folder


def make_own(folder, method, rate, seed, level, dataset, model):
    run = make_run(folder / f"{method}-{seed}-{level}", dataset, model, method, rate, seed)
    (run / "metrics.json").write_text('{"acc": 0.5, "uar": 0.4, "f1": 0.5}')
    withstood(run, level, seed)


def page(runs):
    write_report(runs, runs.parent / "report", ["html"])
    return (runs.parent / "report" / "report.html").read_text()


def test_nothing_of_the_paper_is_left(runs):
    text = page(runs).split("</style>")[1]
    assert "paper" not in text.lower() and "Table 2" not in text
    headings = [line for line in text.splitlines() if line.startswith("<h2>")]
    assert headings[:2] == ["<h2>What the models withstand</h2>", "<h2>Results</h2>"]
    assert "sensors.npz · net.build (" in text


def test_runs_of_another_source_are_apart(runs):
    rows = [*csv.DictReader(robustness_file(runs).open())]
    of_m3s = [float(r["mean"]) for r in rows if "M3S" in r["label"] and r["rate"] == "0.0"]
    assert {round(v, 4) for v in of_m3s} == {0.7, 0.72, 0.1}
    text = page(runs)
    table = text[text.index('id="robustness-1-table"') :].split("</table>")[0]
    assert "SPL-TRN, trained complete" in table and "M3S, trained at 0–80" in table
    assert "0.1000" not in table


def robustness_file(runs):
    write_report(runs, runs.parent / "report", ["csv"])
    return runs.parent / "report" / "data" / "robustness.csv"


def test_means_over_draws_then_over_seeds(runs):
    text = page(runs)
    table = text[text.index('id="robustness-1-table"') :].split("</table>")[0]
    # Draws .504 and .514, and .02 more with the second seed: .509 and .529.
    assert "0.5190 ± 0.0141" in table and "without acc, gyro" in table
    assert table.count("nothing") == 1


def test_a_run_that_was_not_tested_leaves_no_section(tmp_path):
    make_run(tmp_path / "runs")
    text = page(tmp_path / "runs")
    assert "What the models withstand" not in text and "Coverage of the paper" in text


def test_a_damaged_file_is_named(runs):
    damaged = next(runs.rglob("robustness.csv"))
    damaged.write_text("pattern,rate\nspan,much\n")
    assert "robustness.csv must be as" in page(runs)
