"""Reports of made-up runs: their numbers, in every format, and damaged runs."""

import csv
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from made_up_runs import P1, make_run

from keras_m3s.cli import report as cli_report
from keras_m3s.cli.main import main
from keras_m3s.report import FORMATS, curves, paper, records, results, significance, write_report
from keras_m3s.report.build import build
from keras_m3s.report.content import Figure, Table
from keras_m3s.report.groups import TRAINING, duplicates, group_runs, with_paper_retests
from keras_m3s.report.reading import read_runs
from keras_m3s.report.significance_tables import significance_rows

pytestmark = pytest.mark.once

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

MEDIUM, HIGH = (0.4, 0.6), (0.6, 0.8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two data sets, all methods, retests, and a failed, an unfinished and an unreadable run."""
    folder = tmp_path_factory.mktemp("study") / "runs"
    for seed in range(3):
        for method in ("orig", "spl-trn", "spl-trn-equal", "m3s"):
            points = P1[:3] if method in ("orig", "m3s") else ()
            make_run(
                folder, "cmu_mosi", "mmim", method, seed=seed, epochs=4, retests=[HIGH, *points]
            )
        make_run(folder, "cmu_mosi", "mmim", "m3s", HIGH, seed, 4, retests=[MEDIUM])
        make_run(folder / "deeper", "iemocap", "mmin", "m3s", seed=seed, epochs=4, select="paper", test_curves=True)  # fmt: skip
    make_run(folder, "ch_sims", "self_mm", "orig", state="failed")
    make_run(folder, "ch_sims", "self_mm", "m3s", state="incomplete")
    (make_run(folder, "ch_sims", "misa", "m3s") / "metrics.json").write_text('{"mae": ')
    return folder


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    write_report(runs, folder)
    return folder


def group(runs, dataset, test=MEDIUM, train=MEDIUM):
    found = group_runs(with_paper_retests(read_runs(runs)))
    return next(g for g in found if g.values["dataset"] == dataset and g.values["test_missing_rate"] == test and g.values["missing_rate"] == train)  # fmt: skip


def measured(runs, pattern, file="metrics.json"):
    files = [p / file for p in sorted(runs.glob(pattern))]
    return [json.loads(f.read_text()) for f in files]


def rows(report, name):
    with (report / "data" / f"{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


class Page(HTMLParser):
    """References, ids and unclosed tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.references, self.ids, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.references += [values[k] for k in ("href", "src", "xlink:href", "data") if k in values]
        self.references += re.findall(r"url\(([^)]*)\)", " ".join(v for v in values.values() if v))
        self.ids += [values["id"]] if "id" in values else []
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_status_of_each_run(runs):
    found = {run.name: run for run in read_runs(runs)}
    by = {status: [r for r in found.values() if r.status == status] for status in (records.COMPLETE, records.FAILED, records.INCOMPLETE, records.UNREADABLE)}  # fmt: skip
    assert [len(v) for v in by.values()] == [18, 1, 1, 1]
    assert "loss must stay finite" in by[records.FAILED][0].problem
    assert by[records.INCOMPLETE][0].problem == "6 of 12 epochs"
    assert by[records.UNREADABLE][0].problem.startswith(
        "metrics.json must be as keras-m3s wrote it"
    )
    assert sum(name.startswith("deeper/") for name in found) == 3


def test_results_beside_the_papers(runs):
    values = [m["mae"] for m in measured(runs, "cmu_mosi-mmim-m3s-0.4*")]
    row = next(r for r in results.result_rows(group(runs, "cmu_mosi")) if (r["method"], r["metric"]) == ("m3s", "mae"))  # fmt: skip
    assert (row["runs"], row["paper"], row["seeds"]) == (3, 0.7014, "0 1 2")
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert row["difference"] == pytest.approx(np.mean(values) - 0.7014)


def test_table_of_results(runs):
    table = results.result_table(group(runs, "cmu_mosi"), "key")
    assert table.title == "CMU-MOSI · MMIM · 40–60\u202f% missing"
    assert list(table.header[:4]) == ["Method", "MAE", "Corr", "Acc-7"]
    assert [row[0].text for row in table.rows] == ["ORIG", "ORIG + SPL-TRN", "ORIG + SPL-TRN (equal budget)", "ORIG + M3S", "Δ ORIG"]  # fmt: skip
    orig, *_, m3s, delta = (row[1] for row in table.rows)
    assert orig.details[0] == "paper 0.7175" and not table.rows[2][1].details
    assert m3s.mark == "best" and orig.mark == ""
    means = [np.mean([m["mae"] for m in measured(runs, f"cmu_mosi-mmim-{m}-0.4*")]) for m in ("orig", "m3s")]  # fmt: skip
    assert delta.text == f"↓ {means[0] - means[1]:.4f} *" and delta.details == ("paper ↓ 0.0161",)
    assert any("Tables 2 and 3" in note for note in table.notes)
    assert any("epochs 4" in note for note in table.notes)


def test_retests_stand_for_table_4(runs):
    found = group(runs, "cmu_mosi", test=HIGH)
    assert results.paper_rows(found) is paper.find("cmu_mosi", "mmim", MEDIUM, HIGH)
    value = found.arms[0].by_seed("mae")[0]
    assert value == measured(runs, "cmu_mosi-mmim-orig*seed0", "retest-0.60-0.80-span.json")[0]["metrics"]["mae"]  # fmt: skip


def test_comparisons_and_their_correction(runs):
    found = significance_rows(group(runs, "cmu_mosi"))
    assert len(found) == 4 * 3
    row = found[0]
    assert (row["first"], row["second"], row["metric"], row["pairs"]) == ("ORIG", "ORIG + M3S", "mae", 3)  # fmt: skip
    first, second = (dict(enumerate(m["mae"] for m in measured(runs, f"cmu_mosi-mmim-{name}-0.4*"))) for name in ("orig", "m3s"))  # fmt: skip
    assert row["t"] == significance.compare(first, second).t
    assert [r["t_holm"] for r in found] == significance.holm([r["t"] for r in found])
    assert row["paper_p"] == 0.0277 and found[3]["paper_p"] is None


def test_selection_by_the_paper_is_marked_wherever_it_counts(runs):
    content = build(read_runs(runs))
    blocks = [b for s in content.sections for b in s.elements if isinstance(b, (Table, Figure)) and "MMIN" in b.title]  # fmt: skip
    assert len(blocks) == 2
    assert all("†" in b.title and any("--select paper" in n for n in b.notes) for b in blocks)
    run_list = next(b for s in content.sections for b in s.elements if b.title == "Runs")
    assert [row[4].text for row in run_list.rows if row[3].text == "MMIN"] == ["M3S †"] * 3
    assert any("--select paper" in warning for warning in content.warnings)


NESTED = "[" * 400 + "]" * 400
RETEST = '{"test_missing_rate": [0.6, 0.8], "metrics": {"mae": 1.0}}'


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("retest-0.60-0.80-span.json", '{"test_missing_rate": [0.6, 0.8]}'),
        ("retest-0.60-0.80-span.json", RETEST.replace('{"mae": 1.0}', "[1.0]")),
        ("retest-0.60-0.80-span.json", RETEST.replace("[0.6, 0.8]", "[0.6, 1e3]")),
        ("retest-0.60-0.80-span.json", RETEST.replace("0.8", "1" + 400 * "0")),
        ("retest-0.60-0.80-span.json", RETEST.replace("]", '], "pattern": ["span"]')),
        ("retest-0.60-0.80-span.json", f"[{RETEST}]"),
        ("environment.json", "[]"),
        ("environment.json", '{"packages": [["keras", "3.15"]]}'),
        ("environment.json", '{"data": "0123"}'),
        ("environment.json", f'{{"platform": {NESTED}}}'),
        ("experiment.json", '["synthetic_msa"]'),
        ("experiment.json", {"seed": "zero"}),
        ("experiment.json", {"method": ["m3s"]}),
        ("experiment.json", {"select": None}),
        ("experiment.json", {"missing_rate": [0.8, 0.6]}),
        ("experiment.json", {"dataset": "\ud800"}),
        ("experiment.json", {"model_arguments": json.loads(NESTED)}),
        ("metrics.json", "[0.5]"),
        ("history.csv", "epoch,loss\n2,nothing"),
    ],
)
def test_a_damaged_run_is_unreadable_and_the_others_count(tmp_path, file, content):
    good = make_run(tmp_path / "runs", seed=0)
    bad = make_run(tmp_path / "runs", seed=1, retests=[HIGH])
    if isinstance(content, dict):
        content = json.dumps(json.loads((bad / file).read_text()) | content)
    (bad / file).write_text(content)
    write_report(tmp_path / "runs", tmp_path / "out", ["html", "csv"])
    status = {row["run"]: (row["status"], row["problem"]) for row in rows(tmp_path / "out", "runs")}
    assert status[good.name] == ("complete", "")
    assert status[bad.name][0] == "unreadable" and status[bad.name][1].startswith(
        (file, f"`{file}`")
    )
    assert {row["seeds"] for row in rows(tmp_path / "out", "results")} == {"0"}


def test_values_that_are_no_finite_numbers_are_left_out(tmp_path):
    run = make_run(tmp_path)
    metrics = '{"mae": 1%s, "corr": NaN, "acc2": true, "acc7": 0.5}' % (400 * "0")
    (run / "metrics.json").write_text(metrics)
    assert read_runs(tmp_path)[0].metrics == {"acc7": 0.5}


def test_an_error_that_cannot_be_read(tmp_path):
    run = make_run(tmp_path, state="failed")
    (run / "error.json").write_text(f'{{"error": {NESTED}}}')
    (record,) = read_runs(tmp_path)
    assert (record.status, record.problem) == ("failed", "error.json cannot be read")


def test_labels_are_not_parsed_as_formulas(tmp_path):
    make_run(tmp_path, missing_rate=MEDIUM, retests=[HIGH])
    for rate, other in ((MEDIUM, HIGH), (HIGH, MEDIUM)):
        path = make_run(tmp_path, missing_rate=rate, retests=[other], seed=3)
        values = json.loads((path / "experiment.json").read_text()) | {"method": "$a^$"}
        (path / "experiment.json").write_text(json.dumps(values))
    write_report(tmp_path, tmp_path / "out", ["html", "latex"])
    assert "$a^$" in (tmp_path / "out" / "report.html").read_text()


def test_the_experiment_says_how_epochs_were_selected(tmp_path):
    path = make_run(tmp_path)
    values = json.loads((path / "environment.json").read_text())
    (path / "environment.json").write_text(json.dumps(values | {"select": "paper"}))
    assert not group_runs(read_runs(tmp_path))[0].title.endswith("†")


def test_other_settings_are_not_pooled(tmp_path):
    for steps, seed in ((2, 0), (1, 0), (1, 1)):
        make_run(tmp_path, method="m3s", seed=seed, inner_steps=steps)
        make_run(tmp_path, method="spl-trn-equal", seed=seed, inner_steps=steps)
    make_run(tmp_path, method="orig")
    make_run(tmp_path, method="m3s", site="encoded")
    first, second = group_runs(read_runs(tmp_path))
    assert [(arm.label, list(arm.runs)) for arm in first.arms] == [("ORIG", [0]), ("ORIG + SPL-TRN (equal budget)", [0, 1]), ("ORIG + M3S", [0, 1])]  # fmt: skip
    assert [arm.label for arm in first.variations] == ["ORIG + SPL-TRN (equal budget), inner_steps 2", "ORIG + M3S, inner_steps 2"]  # fmt: skip
    assert [arm.label for arm in second.arms] == ["ORIG + M3S"] and "encoded" in second.title
    assert any("not all methods have the same seeds" in n for n in results.cautions(first))
    table = results.variation_table(first, "key")
    assert len(table.rows) == 4 and results.variation_table(second, "key") is None
    compared = [(r["second"], r["first"]) for r in significance_rows(first) if r["variation"] and r["metric"] == "mae"]  # fmt: skip
    equal, m3s = (arm.label for arm in first.variations)
    assert compared == [(equal, "ORIG + SPL-TRN (equal budget)"), (m3s, "ORIG + M3S"), (m3s, equal)]


def test_variations_are_a_family_of_their_own(tmp_path):
    for seed in range(3):
        for steps in (1, 2):
            make_run(tmp_path, method="m3s", seed=seed, inner_steps=steps)
        make_run(tmp_path, method="orig", seed=seed)
    (found,) = group_runs(read_runs(tmp_path))
    main = [r for r in significance_rows(found) if not r["variation"]]
    assert [r["t_holm"] for r in main] == significance.holm([r["t"] for r in main])
    assert len(main) == 3


def test_other_data_and_copies_are_noted(tmp_path):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, data="f" * 64)
    shutil.copytree(next(tmp_path.glob("*seed0")), tmp_path / "zz-copy")
    runs = read_runs(tmp_path)
    assert [run.name for run in duplicates(runs)] == ["zz-copy"]
    (found,) = group_runs(runs)
    assert len(found.runs) == 2
    assert any("2 different data" in note for note in results.cautions(found))


def test_bands_by_hand(tmp_path):
    for seed, losses in ((0, [3.0, 1.0]), (1, [1.0])):
        path = make_run(tmp_path, seed=seed)
        lines = ["epoch,loss", *(f"{i}.0,{v}" for i, v in enumerate(losses, 1))]
        (path / "history.csv").write_text("\n".join(lines))
    (found,) = group_runs(read_runs(tmp_path), TRAINING)
    first, second = curves.learning(found.arms[0], "loss")
    assert (first["mean"], first["runs"]) == (2.0, 2)
    assert first["high"] - first["mean"] == pytest.approx(np.sqrt(2))
    assert (second["mean"], second["low"], second["high"], second["runs"]) == (1.0, 1.0, 1.0, 1)


def test_areas_are_over_common_rates(tmp_path):
    for method, rates in (("orig", P1[:4]), ("m3s", P1[:3])):
        make_run(tmp_path, method=method, retests=rates)
    (found,) = group_runs(read_runs(tmp_path), TRAINING)
    row = curves.area_rows(found, "span", ranges=False)[0]
    m = [v["metrics"]["mae"] for r in ("0.00", "0.10", "0.20") for v in measured(tmp_path, "*orig*", f"retest-{r}-{r}-span.json")]  # fmt: skip
    assert (row["label"], row["metric"], row["rates"], row["highest_rate"]) == ("ORIG", "mae", 3, 0.2)  # fmt: skip
    assert row["auilc"] == pytest.approx(0.1 * (m[0] / 2 + m[1] + m[2] / 2))
    assert row["mean"] == pytest.approx(np.mean(m))


def test_matrix_of_rates(runs):
    found = [g for g in group_runs(read_runs(runs), TRAINING) if g.values["dataset"] == "cmu_mosi"]  # fmt: skip
    cells = curves.matrix(found, "mae")["ORIG + M3S"]
    assert set(cells) == {(a, b) for a in (MEDIUM, HIGH) for b in (MEDIUM, HIGH)}
    expected = [m["metrics"]["mae"] for m in measured(runs, "cmu_mosi-mmim-m3s-0.6*", "retest-0.40-0.60-span.json")]  # fmt: skip
    assert cells[HIGH, MEDIUM] == pytest.approx(np.mean(expected))


def test_page_is_well_formed_and_self_contained(report):
    text = (report / "report.html").read_text()
    page = Page(text)
    assert not page.wrong and not page.open
    assert len(page.ids) == len(set(page.ids))
    inside = {f"#{i}" for i in page.ids}
    assert page.references and not [r for r in page.references if r not in inside]
    assert "http" not in re.sub(r"xmlns\S+", "", text) and "<script" not in text
    pictures = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    assert len(pictures) == 3 + 3 + 9 + 3 * 3 + 4 and all(len(alt) > 40 for alt in pictures)
    for words in ("0.7014", "CMU-MOSI · MMIM", "loss must stay finite", "3.15.0", "0123456789ab"):
        assert words in text, words


def test_every_format_has_the_same_cells(report, runs):
    content = build(read_runs(runs))
    html = re.sub(r"<[^>]+>", "", (report / "report.html").read_text()).replace("&lt;", "<").replace("&#39;", "'")  # fmt: skip
    markdown = (report / "report.md").read_text().replace("\\", "")
    tex = (report / "report.tex").read_text()
    for section in content.sections:
        for table in (b for b in section.elements if isinstance(b, Table)):
            for row in table.rows:
                for cell in row:
                    for words in (cell.text, *cell.details):
                        assert words in html and " ".join(words.split()) in markdown, words
                        number = re.fullmatch(r"0\.\d{4}", words)
                        assert number is None or words in tex
    for name in re.findall(r"figures/[\w.-]+", markdown + tex):
        assert (report / name).is_file(), name
    for file in (report / "figures").glob("*.svg"):
        ET.parse(file)
    assert {p.stem for p in (report / "data").iterdir()} == {"results", "significance", "learning", "rates", "areas", "runs"}  # fmt: skip
    assert len(rows(report, "runs")) == 21
    assert rows(report, "results")[0]["paper"] == "0.7175"


def test_latex_escapes():
    from keras_m3s.report import latex

    assert latex._text("a & 50% \\ ± † {x}") == r"a \& 50\% \textbackslash{} $\pm$ $\dagger$ \{x\}"  # fmt: skip


def test_the_same_runs_give_the_same_files(report, runs, tmp_path):
    written = write_report(runs, tmp_path, ["html", "csv"])
    assert all(p.read_bytes() == (report / p.relative_to(tmp_path)).read_bytes() for p in written)


def test_names_of_runs_cannot_write_html(tmp_path):
    make_run(tmp_path, "<b>data</b>|_x")
    write_report(tmp_path, tmp_path / "out", ["html", "markdown"])
    assert "<b>data" not in (tmp_path / "out/report.html").read_text()
    assert "&lt;b&gt;data" in (tmp_path / "out/report.html").read_text()
    assert r"\<b>data\</b>\|\_x" in (tmp_path / "out/report.md").read_text() or r"\<b>data (b>\|\_x)" in (tmp_path / "out/report.md").read_text()  # fmt: skip


@pytest.mark.parametrize("state", ["complete", "incomplete"])
def test_a_single_run(tmp_path, state):
    make_run(tmp_path, state=state)
    write_report(tmp_path, tmp_path / "out", ["html"])
    text = (tmp_path / "out/report.html").read_text()
    expected = {"complete": "A single seed each", "incomplete": "No run is complete"}
    assert expected[state] in text and ("0 complete" not in text)


def test_command(tmp_path):
    make_run(tmp_path / "runs")
    arguments = ["report", str(tmp_path / "runs"), "--format", "html"]
    for more, folder in (
        ([], tmp_path / "runs/report"),
        (["--output", "out"], tmp_path / "out"),
        (["--out", "out"], tmp_path / "out"),
    ):
        result = CliRunner().invoke(main, [*arguments, *(str(tmp_path / a) if a == "out" else a for a in more)])  # fmt: skip
        assert result.exit_code == 0, result.output
        assert result.output.strip() == str(folder / "report.html")


@pytest.mark.parametrize("there", [True, False])
def test_no_runs(tmp_path, there):
    folder = tmp_path / "runs"
    if there:
        folder.mkdir()
    result = CliRunner().invoke(main, ["report", str(folder)])
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert ("which holds none" if there else "which does not") in result.output


def test_unknown_format(runs, tmp_path):
    with pytest.raises(ValueError, match=r"`formats` must be some of .* Received: \('docx',\)"):
        write_report(runs, tmp_path, ["docx"])


def test_help_has_an_example_and_imports_nothing_large():
    result = CliRunner().invoke(main, ["report", "--help"])
    assert result.exit_code == 0 and "keras-m3s report" in result.output.split("Example:")[1]
    code = (
        "import sys; from click.testing import CliRunner; from keras_m3s.cli.main import main\n"
        "CliRunner().invoke(main, ['report', '--help'])\n"
        "print([m for m in ('keras', 'numpy', 'scipy', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tuple(cli_report.FORMATS) == FORMATS
