"""The paper's tables as data against its text."""

import re

import pytest

from keras_m3s.experiments.config import MISSING_LEVELS
from keras_m3s.registry import datasets, methods
from keras_m3s.report import paper

pytestmark = pytest.mark.once

MEDIUM, HIGH = MISSING_LEVELS["medium"], MISSING_LEVELS["high"]


@pytest.fixture(scope="module")
def text(shared_dir):
    file = shared_dir / "paper.txt"
    if not file.is_file():
        pytest.skip("no paper.txt")
    return file.read_text().replace("−", "-")


def section(text, start, end):
    """What stands between two marks, `start` being the last one before `end`."""
    before = text[: text.index(end)]
    return before[before.rindex(start) :]


def numbers(line):
    return [float(n) for n in re.findall(r"\d+\.\d+(?:E-\d+)?", line)]


def rows(text):
    """(method, numbers) of each line of a table; ΔORIG with the signs of its arrows."""
    found = []
    for line in text.splitlines():
        name = re.match(r"\s*(ORIG \+ SPL-TRN|ORIG \+ M3S|∆ORIG|ORIG)\s+(?=[↓↑\d])", line)
        if name and name[1] == "∆ORIG":
            signed = re.findall(r"([↓↑]) (\d\.\d+)", line)
            found.append(("delta", [float(n) * (-1 if a == "↓" else 1) for a, n in signed]))
        elif name:
            method = {"ORIG": "orig", "ORIG + SPL-TRN": "spl-trn", "ORIG + M3S": "m3s"}[name[1]]
            found.append((method, numbers(line)))
    return found


def stored(method, *blocks):
    """Numbers of a row of a table that prints blocks side by side."""
    if method == "delta":
        return [block.delta(m) for block in blocks for m in datasets.CARDS[block.dataset].metrics]
    return [v for block in blocks for v in block.values[method].values()]


def test_table_2(text):
    table = rows(section(text, "Method Self-MM (SIMS)", "Table 2: "))
    pairs = [(("ch_sims", "self_mm"), ("iemocap", "mmin")), (("cmu_mosi", "misa"), ("cmu_mosi", "mmim"))]  # fmt: skip
    assert len(table) == 8
    for (method, printed), names in zip(table, [pairs[0]] * 4 + [pairs[1]] * 4, strict=True):
        assert printed == stored(method, *(paper.find(*n, MEDIUM, MEDIUM) for n in names))


def test_table_3(text):
    table = rows(section(text, "Input Missing Rate", "Table 3: "))
    levels = [level for level in ("high", "medium", "low") for _ in range(4)]
    assert len(table) == 12
    for (method, printed), level in zip(table, levels, strict=True):
        rate = MISSING_LEVELS[level]
        blocks = [paper.find(*n, rate, rate) for n in (("iemocap", "mmin"), ("cmu_mosi", "mmim"))]
        assert printed == stored(method, *blocks), (method, level)
        assert all(3 in block.tables for block in blocks)


def test_table_4(text):
    lines = section(text, "MMIN ORIG ORIG +", "Table 4: ").splitlines()
    names = {"Acc": "acc", "Uar": "uar", "F1-Score": "f1", "MAE": "mae", "Corr": "corr", "Acc-7": "acc7"}  # fmt: skip
    seen = 0
    for line in lines:
        if (name := line.split(" ")[0]) in names and "0." in line:
            metric = names[name]
            pair = ("iemocap", "mmin") if metric in ("acc", "uar", "f1") else ("cmu_mosi", "mmim")
            block = paper.find(*pair, MEDIUM, HIGH)
            *values, delta = numbers(line)
            assert values == [block.values[m][metric] for m in methods.paper()]
            assert (delta if "↑" in line else -delta) == block.delta(metric)
            seen += 1
    assert seen == 6


def test_table_5(text):
    table = section(text, "P-value of t-test Self-MM", "Table 5: ")
    first, second = (numbers(line) for line in table.splitlines() if line.startswith("P (T"))
    p = {name: list(values.values()) for name, values in paper.P_VALUES.items()}
    assert first == p["ch_sims", "self_mm"] + p["iemocap", "mmin"]
    assert second == p["cmu_mosi", "misa"] + p["cmu_mosi", "mmim"]
    assert all(tuple(p) == datasets.CARDS[d].metrics for (d, _), p in paper.P_VALUES.items())


def test_values_are_one_number_a_key():
    values = paper.values()
    assert len(values) == sum(3 * len(datasets.CARDS[b.dataset].metrics) for b in paper.ROWS) == 93
    assert values["cmu_mosi", "mmim", "m3s", MEDIUM, HIGH, "mae"] == 0.7025


def test_find():
    assert paper.find("cmu_mosi/unaligned", "misa", [0.4, 0.6], [0.4, 0.6]).tables == (2,)
    assert paper.find("cmu_mosi", "misa", MEDIUM, HIGH) is None
