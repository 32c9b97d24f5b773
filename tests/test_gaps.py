"""How much of data is missing: counted, printed by the command, drawn."""

import numpy as np
import pytest
from click.testing import CliRunner

from keras_m3s import data
from keras_m3s.cli.main import main
from tests import layouts
from tfds_builders import gaps

pytestmark = pytest.mark.once

HOLES = np.zeros((4, 5, 2))
HOLES[0, 1] = np.nan  # a row of the first example
HOLES[1, :, 0] = np.nan  # half of the second
HOLES[2] = np.nan  # all of the third
HOLES[3, 3:] = np.nan  # behind the end of the fourth


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_cells_rows_and_examples_are_counted_and_padding_is_not():
    length = np.array([5, 5, 5, 3])
    found = gaps.of([{"watch": HOLES, "watch_length": length}], ["watch"])["watch"]
    assert found.cells == pytest.approx((2 + 5 + 10) / 36)
    assert found.rows == pytest.approx(6 / 18) and found.wholly == 1 / 4
    np.testing.assert_allclose(found.columns, [(1 + 5 + 5) / 18, 6 / 18])
    np.testing.assert_allclose(found.steps, [3 / 8, 5 / 8, 3 / 8, 3 / 6, 3 / 6])
    assert str(found) == "47.2 % of cells, 33.3 % of rows, 25.0 % of examples wholly"


def test_splits_are_counted_together_and_vectors_have_no_rows():
    vectors = HOLES[:, 1]
    found = gaps.of([{"a": vectors[:1]}, {"a": vectors[1:]}], ["a"])["a"]
    assert found.cells == pytest.approx(5 / 8) and found.wholly == 1 / 2
    assert found.rows is None and found.steps is None
    assert str(found) == "62.5 % of cells, 50.0 % of examples wholly"


def test_little_is_not_nothing():
    array = np.zeros((1000, 10))
    assert str(gaps.of([{"a": array}], ["a"])["a"]) == "nothing"
    array[0, 0] = np.nan
    assert str(gaps.of([{"a": array}], ["a"])["a"]).startswith("< 0.1 % of cells")


def test_inspect_prints_and_draws_it(tmp_path):
    path, picture = layouts.sensors_npz(tmp_path), tmp_path / "missing.png"
    result = run("inspect", path, "--plot", picture)
    assert result.exit_code == 0, result.output
    expected = data.gaps(data.load(path))
    assert set(expected) == {"phone", "static", "watch"} and expected["watch"].cells > 0
    for name, one in expected.items():
        assert f"  {name:<22}missing: {one}\n" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_prepare_prints_it_where_something_is_missing(tmp_path):
    made = layouts.sensors()
    for one in made.values():
        one["phone"] = np.nan_to_num(one["phone"])
    path = tmp_path / "a.npz"
    np.savez(path, **layouts.flat(made))
    result = run("prepare", "--from", path, "--name", "mine", "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    lines = [line.split()[0] for line in result.output.splitlines() if "missing:" in line]
    assert lines == ["static", "watch"]


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (layouts.sensors_npz, "missing.xyz", "`path` must end in one of"),
        (layouts.mmsa, "missing.png", "must have a modality whose values can be counted"),
    ],
)
def test_pictures_that_cannot_be(make, name, message, tmp_path):
    result = run("inspect", make(tmp_path), "--plot", tmp_path / name)
    assert result.exit_code != 0 and not (tmp_path / name).exists()
    assert message in result.output + str(result.exception)
