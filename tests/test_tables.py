"""Tables in long form, CSV or Parquet, with a description in YAML."""

import pathlib
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from keras_m3s import data
from tests.test_sensors import round_trip
from tfds_builders.limits import DataError

pytestmark = pytest.mark.once

LAYOUT = """
table: {table}
id: recording
time: t
split: split
label: activity
modalities:
  watch: [ax, ay]
  phone: gx
static:
  person: [age, weight]
"""


def frame():
    """Recordings of one to four rows, out of order; one value in three not measured."""
    rng, rows = np.random.default_rng(0), []
    for number, (split, activity) in enumerate(
        [("train", "walk"), ("train", "sit"), ("train", "walk"), ("val", "sit"), ("test", "walk")]
    ):
        for step in rng.permutation(1 + number % 4):
            rows.append(
                {
                    "recording": f"r{number}", "t": step * 0.5, "ax": rng.normal(),
                    "ay": rng.normal(), "gx": rng.normal(), "age": 20 + number, "weight": 60.5,
                    "split": split, "activity": activity,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    holes = rng.uniform(size=(len(table), 3)) < 1 / 3
    table[["ax", "ay", "gx"]] = table[["ax", "ay", "gx"]].mask(holes)
    return table


def write(folder, table, layout=LAYOUT, name="sensors.csv", **options):
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    if path.suffix == ".csv":
        table.to_csv(path, index=False, **options)
    else:
        table.to_parquet(path, index=False)
    description = folder / "sensors.yaml"
    description.write_text(layout.format(table=name))
    return description


def quietly(read, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read(*arguments)


def assert_is_the_table(splits, table):
    """Each recording's rows in the order of their times, NaN kept."""
    count = 0
    for split in splits.values():
        for row, name in enumerate(split.ids):
            own = table[table.recording == name].sort_values("t")
            length = split.features["watch_length"][row]
            assert length == len(own)
            watch = split.features["watch"][row]
            np.testing.assert_array_equal(watch[:length], own[["ax", "ay"]].astype("float32"))
            assert not watch[length:].any()
            np.testing.assert_array_equal(
                split.features["phone"][row, :length, 0], own.gx.astype("float32")
            )
            assert split.features["person"][row].tolist() == [own.age.iloc[0], 60.5]
            assert split.labels[row] == (own.activity.iloc[0] == "walk")
            count += 1
    assert count == table.recording.nunique()


@pytest.mark.parametrize("name", ["sensors.csv", "sensors.parquet"])
def test_a_table_comes_back(name, tmp_path):
    table = frame()
    splits = round_trip(write(tmp_path / "in", table, name=name), tmp_path)
    assert splits["train"].modalities == ("person", "phone", "watch")
    assert splits["train"].features["watch"].shape == (3, 4, 2)  # the longest is of another split
    assert splits["train"].ids == ["r0", "r1", "r2"] and splits["train"].task == "classification"
    assert_is_the_table(splits, table)


def test_the_table_and_the_folder_stand_for_the_description(tmp_path):
    description = write(tmp_path / "in", frame())
    expected = quietly(data.load, description)
    for path in (tmp_path / "in" / "sensors.csv", tmp_path / "in"):
        splits = quietly(data.load, path)
        assert {s: one.fingerprint() for s, one in splits.items()} == {
            s: one.fingerprint() for s, one in expected.items()
        }


def european(folder, table):
    text = table.to_csv(index=False, sep=";", decimal=",", na_rep="NA")
    write(folder, table)
    (folder / "sensors.csv").write_bytes(b"\xef\xbb\xbf" + ("sep=;\n" + text).encode())


def utf16(folder, table):
    write(folder, table.rename(columns=lambda name: f" {name.upper()} "))
    text = (folder / "sensors.csv").read_text().replace(",", "\t").replace("-", "\N{MINUS SIGN}")
    (folder / "sensors.csv").write_bytes(text.encode("utf-16"))


@pytest.mark.parametrize("spell", [european, utf16])
def test_however_a_spreadsheet_saves_it(spell, tmp_path):
    table = frame()
    spell(tmp_path / "in", table)
    assert_is_the_table(quietly(data.load, tmp_path / "in" / "sensors.yaml"), table)


def test_a_file_for_each_split_and_a_table_of_labels(tmp_path):
    table = frame()
    write(tmp_path / "in", table)
    once = table.groupby("recording", sort=False).first()[["activity", "age", "weight"]]
    once.to_csv(tmp_path / "in" / "people.csv")
    for split, part in table.groupby("split"):
        part.drop(columns=["activity", "age", "weight", "split"]).to_parquet(
            tmp_path / "in" / f"{split}.parquet"
        )
    layout = LAYOUT.format(
        table="{train: train.parquet, valid: [val.parquet], test: test.parquet}"
    ).replace("split: split", "labels: people.csv")
    (tmp_path / "in" / "sensors.yaml").write_text(layout)
    assert_is_the_table(quietly(data.load, tmp_path / "in" / "sensors.yaml"), table)


def test_a_grid_keeps_the_last_value_of_each_cell(tmp_path):
    rows = [("a", 0.0, 1.0), ("a", 0.9, 2.0), ("a", 0.95, None), ("a", 2.0, 3.0), ("a", 9.0, 9.0),
            ("b", 1.0, 4.0), ("c", 0.3, 5.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["recording", "t", "ax"])
    table["label"] = [0, 0, 0, 0, 0, 1, 1]
    layout = """
id: recording
time: t
label: label
split: s
modalities: {{watch: ax}}
grid: {{step: 1, start: 0, steps: 3}}
"""
    table["s"] = ["train"] * 5 + ["valid", "test"]
    with pytest.warns(UserWarning, match="1 rows lie outside the grid"):
        splits = data.load(write(tmp_path / "in", table, layout))
    nan = np.nan
    np.testing.assert_array_equal(splits["train"].features["watch"][0, :, 0], [2, nan, 3])
    np.testing.assert_array_equal(splits["valid"].features["watch"][0, :, 0], [nan, 4, nan])
    np.testing.assert_array_equal(splits["test"].features["watch"][0, :, 0], [5, nan, nan])
    assert splits["train"].labels.tolist() == [0] and "watch_length" not in splits["train"].features


def test_dates_are_seconds(tmp_path):
    table = frame()
    dates = pd.Timestamp("2024-02-28T23:59:59") + pd.to_timedelta(table.t, unit="s")
    layout = LAYOUT + "grid: {{step: 0.5}}\n"
    for name in ("sensors.csv", "sensors.parquet"):
        description = write(tmp_path / name, table.assign(t=dates), layout, name)
        assert_is_the_table(quietly(data.load, description), table)


def test_to_predict_labels_columns_and_modalities_may_be_absent(tmp_path):
    table = frame()
    description = write(
        tmp_path / "in", table.drop(columns=["activity", "split", "gx", "ay", "age", "weight"])
    )
    with pytest.warns(UserWarning, match="`watch` has no column 'ay'"):
        clips = data.unlabelled(description)
    assert set(clips.features) == {"watch"} and clips.ids == [f"r{n}" for n in range(5)]
    own = table[table.recording == "r3"].sort_values("t")
    np.testing.assert_array_equal(clips.sequence("watch", 3)[:, 0], own.ax.astype("float32"))
    assert np.isnan(clips.sequence("watch", 3)[:, 1]).all()
    found = data.inspect(description)
    assert found.commands == [f"keras-m3s predict RUN {description}"]
    with pytest.raises(DataError, match="Received: clips to predict"):
        quietly(data.load, description)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="recording"), "Missing: 'recording'"),
        (lambda table: table.drop(columns="t"), "Missing: 't'"),
        (lambda table: table.drop(columns="gx"), "the columns of `phone` must be there.*'gx'"),
        (lambda table: table.drop(columns="split"), "must say the splits.*no column 'split'"),
        (lambda table: table.drop(columns="activity"), "`label` must hold.*no column 'activity'"),
        (lambda table: table.assign(split="all"), "`split` must be one of.*'all'"),
        (lambda table: table.assign(age=range(len(table))), "`age` must be the same in all rows"),
        (lambda table: table.assign(ax="high"), "row 1: `ax` must be a number.*'high'"),
        (lambda table: table.assign(t="now"), "must be a time: a number, or a date"),
        (lambda table: table.assign(t=None), "`t` must be a time"),
        (lambda table: table.assign(recording=None), "`recording` must be there in each row"),
        (lambda table: table.assign(activity=None), "`label` must"),
        (lambda table: table.assign(activity="a" * 501), "at most 500 characters"),
        (lambda table: table.iloc[:0], "at least one row"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["sensors.csv", "sensors.parquet"])
def test_tables_that_cannot_be(change, message, name, tmp_path):
    description = write(tmp_path / "in", change(frame()), name=name)
    with pytest.raises(DataError, match=message):
        quietly(data.load, description)
    assert quietly(data.inspect, description).problems


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("- a\n- b\n", "must be a description in YAML.*Received: list"),
        ("id: [\n", "no YAML that is read"),
        ("id: !!python/object/apply:os.system ['touch x']\n", "no YAML that is read"),
        ("id: a\n", "`modalities` or `static`"),
        ("id: 1\nmodalities: {w: x}\n", "`id` must name a column.*in quotes"),
        ("id: a\nmodalities: {no: x}\n", "must have names.*Put it in quotes"),
        ("id: a\nmodalities: {w: []}\n", "`w` must list columns"),
        ("id: a\nmodalities: {w: [x, x]}\n", "must list each column once"),
        ("id: a\nmodalities: {draws: x}\n", "name must be of letters"),
        ("id: a\nmodalities: {w: x}\nstatic: {w: y}\n", "in both"),
        ("id: a\nmodalities: {w: x}\ngrid: {step: 0}\ntime: t\n", "`grid` must be such as"),
        ("id: a\nmodalities: {w: x}\ngrid: {step: 1}\n", "`grid` must go with `time`"),
        ("id: a\nmodalities: {w: x}\ntable: ../secret.csv\n", "beside the description or below"),
        ("id: a\nmodalities: {w: x}\ntable: /etc/passwd\n", "beside the description or below"),
        ("id: a\nmodalities: {w: x}\ncolour: red\n", "no other keys"),
        ("id: a\nmodalities: {w: x}\ntable: {mine: sensors.csv}\n", "files for each of train"),
    ],
)
def test_descriptions_that_cannot_be(layout, message, tmp_path):
    description = write(tmp_path / "in", frame())
    description.write_text(layout)
    with pytest.raises(DataError, match=message):
        data.load(description)
    assert not (pathlib.Path.cwd() / "x").exists()


def test_a_table_must_be_there(tmp_path):
    description = write(tmp_path / "in", frame())
    (tmp_path / "in" / "sensors.csv").unlink()
    with pytest.raises(FileNotFoundError, match="`table` must be a file that is there"):
        data.load(description)


def test_what_would_fill_the_memory_is_refused(tmp_path):
    table = frame().assign(t=lambda table: np.where(table.t == 0, 0.0, 1e9))
    description = write(tmp_path / "in", table, LAYOUT + "grid: {{step: 0.1}}\n")
    with pytest.raises(DataError, match="2..31 steps|must unfold to at most"):
        quietly(data.load, description)


@pytest.mark.parametrize("module", ["pandas", "pyarrow.parquet", "yaml"])
def test_what_is_not_installed_is_named(module, tmp_path, monkeypatch):
    name = "sensors.parquet" if module == "pyarrow.parquet" else "sensors.csv"
    description = write(tmp_path / "in", frame(), name=name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'keras-m3s\[tables\]'"):
        data.load(description)
    assert "keras-m3s[tables]" in data.inspect(description).problems[0]
