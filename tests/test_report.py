"""The short table of results: its cells and layouts."""

import pytest

from keras_m3s.report import comparison_rows, markdown_table, text_table

pytestmark = pytest.mark.once

RESULTS = {
    "orig": [{"mae": 1.0, "corr": 0.5}, {"mae": 1.2, "corr": 0.7}],
    "m3s": [{"mae": 0.9, "corr": 0.4}, {"mae": 1.0, "corr": 0.6}],
}


def test_cells():
    assert comparison_rows(RESULTS) == [
        ["Method", "MAE", "Corr"],
        ["ORIG", "1.1000 ± 0.1414", "0.6000 ± 0.1414"],
        ["ORIG + M3S", "0.9500 ± 0.0707", "0.5000 ± 0.1414"],
        ["Δ ORIG", "↓ 0.1500 *", "↓ 0.1000"],
    ]


def test_one_method_one_seed():
    assert comparison_rows({"orig": [{"acc": 0.25}]}) == [["Method", "Acc"], ["ORIG", "0.2500"]]


def test_metrics_that_not_all_runs_have_are_left_out():
    results = {"orig": [{"mae": 1.0, "acc7": 0.3}], "m3s": [{"corr": 0.5, "acc7": 0.4}]}
    assert [row[1:] for row in comparison_rows(results)][:2] == [["Acc-7"], ["0.3000"]]


def test_layouts_hold_the_same_cells():
    text, markdown = text_table(RESULTS).splitlines(), markdown_table(RESULTS).splitlines()
    assert len({len(line) for line in text}) == 1
    assert len(text) == len(markdown) == 5
    for row, a, b in zip(comparison_rows(RESULTS), [text[0], *text[2:]], [markdown[0], *markdown[2:]], strict=True):  # fmt: skip
        assert all(cell in a and cell in b for cell in row)
