"""The docs site: every public name has an entry, and all of it builds without a warning."""

import ast
import base64
import html.parser
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from tests.wings import WINGS

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
ENTRY = re.compile(r"^::: (\S+)$(?:\n    options:\n      members: \[(.*)\])?", re.MULTILINE)

PUBLIC = ("", ".data", ".data.streaming", ".experiments.config", ".experiments.run",
          ".experiments.run_directory", ".features", ".inference.export", ".inference.predictions",
          ".layers", ".losses", ".metrics", ".missing", ".models", ".optimizers", ".report")  # fmt: skip


def entries():
    """Documented module -> names, None for all."""
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    return {m[1]: m[2].split(", ") if m[2] else None for m in ENTRY.finditer(pages)}


def public_names():
    """Every function and class that users are shown, with the module it is written in."""
    for part in PUBLIC:
        module = importlib.import_module(f"keras_m3s{part}")
        written = getattr(module, "__all__", None)
        for name in written or vars(module):
            value = getattr(module, name)
            home = getattr(value, "__module__", "") or ""
            its_own = home.startswith("keras_m3s") if written else home == module.__name__
            if callable(value) and its_own and not name.startswith("_"):
                yield home, value.__name__, value


def test_every_public_name_has_an_entry():
    shown, missing = entries(), []
    for home, name, value in public_names():
        documented = home in shown and (shown[home] is None or name in shown[home])
        if not documented or not value.__doc__:
            missing.append(f"{home}.{name}")
    assert not missing, f"to be put on a page of docs/reference, with a docstring: {missing}"
    assert len({*public_names()}) > 40


def test_every_entry_is_there():
    for module, names in entries().items():
        for name in names or ():
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def documented_examples():
    """Each line `>>> ...` of the docstrings that the reference shows."""
    for module, names in entries().items():
        source = ROOT.joinpath(*module.split("."))
        source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
        tree = ast.parse(source.read_text())
        top = [node for node in public(tree) if names is None or node.name in names]
        inner = [
            method for node in top if isinstance(node, ast.ClassDef) for method in public(node)
        ]
        for node in (tree, *top, *inner):
            lines = (ast.get_docstring(node) or "").splitlines()
            yield from (line.strip() for line in lines if line.lstrip().startswith(">>>"))


def public(tree):
    named = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    return [node for node in named if not node.name.startswith("_")]


class Shown(html.parser.HTMLParser):
    """The text of a page's code blocks and of its block quotes; listings of source left out."""

    TAGS = ("pre", "blockquote", "details")

    def __init__(self, page):
        super().__init__()
        self.inside, self.code, self.quotes = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in self.TAGS:
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.TAGS:
            assert self.inside.pop() == tag

    def handle_data(self, data):
        if "details" in self.inside:
            return
        if "blockquote" in self.inside:
            self.quotes += data
        elif "pre" in self.inside:
            self.code += data


def mkdocs(folder, config="mkdocs.yml", **environment):
    pytest.importorskip("mkdocs")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), "-f", str(config)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def hook():
    """The hook that runs the notebooks, as MkDocs imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(NOTEBOOKS)
        yield importlib.import_module("hook")


FEW = {
    "har.npz": {"train": 64, "valid": 32, "test": 40},
    "icu.npz": {"train": 96, "valid": 48, "test": 48},
    "unaligned_50.pkl": {"train": 32, "valid": 12, "test": 16},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory, hook):
    """The whole site; its notebooks run on few rows."""
    folder, data = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("data")
    for name, rows in FEW.items():
        hook.MADE_UP[name](data / name, rows)
    done = mkdocs(folder, **{hook.DATA: str(data)})
    assert done.returncode == 0, done.stderr
    return folder


def test_it_builds_without_a_warning(site):
    page = (site / "reference" / "training-with-holes" / "index.html").read_text()
    assert 'id="keras_m3s.missing.layer.MissingModality"' in page
    assert not re.search(r'(?:src|href)="https?://(?:fonts|cdn|unpkg)', page)


def test_examples_show_as_code(site):
    """Which they do in a section `Examples:`, indented under it; elsewhere `>>>` is a quotation."""
    pages = [Shown(page.read_text()) for page in (site / "reference").rglob("index.html")]
    code = "".join(page.code for page in pages)
    examples = [*documented_examples()]
    assert len(examples) > 10
    quoted = [line for line in examples if line not in code]
    assert not quoted, f"put these into `Examples:` sections, indented: {quoted}"
    assert "".join(page.quotes for page in pages) == ""


# What a notebook must have printed, from its first to its last block.
PRINTED = {
    "sensors-that-drop-out": ["phone_acc    (64, 100, 3)", "without watch_acc, watch_gyro", "ONNX Runtime:"],
    "what-was-never-measured": ["chemistry    (96, 48, 14)", "12 inputs, ", "no laboratory  risk"],
    "mosi-to-a-table": ["train: 32 segments", "m3s      seed 1", "<td>ORIG + SPL-TRN<br>"],
    "sine": ["'adapted_loss': ", "0 steps: mean squared error", "5 steps: mean squared error"],
}  # fmt: skip


def test_there_is_no_other_notebook():
    assert {path.stem for path in NOTEBOOKS.glob("*.md")} == {*PRINTED}


@pytest.mark.parametrize("name", PRINTED)
def test_a_notebook_shows_what_its_code_made(name, site, hook):
    page = (site / "notebooks" / name / "index.html").read_text()
    text = html.unescape(page)
    assert [what for what in PRINTED[name] if what not in text] == []
    source = (NOTEBOOKS / f"{name}.md").read_text()
    if not hook.NOTEBOOK.search(source):  # it reads no data and draws nothing
        return
    assert "The numbers on this page were measured on" in page
    wanted = hook.PICTURE.findall(source)
    shown = re.findall(r'<img alt="([^"]+)" src="data:image/([^;]+);base64,([^"]+)"', page)
    assert [alt for alt, _, _ in shown] == [alt for alt, _ in wanted] != []
    starts = {"png": b"\x89PNG", "svg+xml": b"<?xml"}
    assert all(base64.b64decode(data).startswith(starts[kind]) for _, kind, data in shown)


NOTEBOOK = """
<!-- notebook: har.npz -->

```python exec="on" session="a" source="above" result="text"
print(6 * 7, "is the answer")
```

```python exec="on" session="a" source="above"
import pathlib
{code}
```

![The answer](answer.png)
"""


@pytest.mark.parametrize(
    "code, said",
    [
        ('pathlib.Path("answer.png").write_bytes(b"a")', None),
        ("pathlib.Path(6 * 7)", "TypeError"),
        ("pass", "answer.png"),
    ],
)
def test_a_notebook_that_fails_stops_the_build(code, said, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(NOTEBOOK.format(code=code))
    (tmp_path / "docs" / "made_up.py").touch()
    (tmp_path / "mkdocs.yml").write_text(
        f"site_name: a\nhooks: [{NOTEBOOKS / 'hook.py'}]\nplugins: [markdown-exec]\n"
        "markdown_extensions: [admonition, pymdownx.superfences]\n"
    )
    before = {*ROOT.iterdir()}
    done = mkdocs(tmp_path / "site", tmp_path / "mkdocs.yml", KERAS_M3S_NOTEBOOK_DATA="")
    assert {*ROOT.iterdir()} == before, "the folder of the notebook is another one"
    assert (done.returncode == 0) == (said is None), done.stderr
    if said:
        assert said in done.stderr
        return
    page = (tmp_path / "site" / "index.html").read_text()
    assert "42 is the answer" in page and "Made-up data" in page
    assert f"base64,{base64.b64encode(b'a').decode()}" in page


def test_what_shows_as_code_is_told_from_quotations():
    page = Shown("<blockquote><p>a</p><pre>b</pre></blockquote><pre>c</pre><p>d</p>"
                 "<details><pre>e</pre></details>")  # fmt: skip
    assert (page.quotes, page.code) == ("ab", "c")


def test_the_citation_is_of_this_version():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for field, name in (("title", "name"), ("version", "version"), ("license", "license")):
        assert cited[field] == project[name]


def test_the_workflow_does_what_ci_does():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (command,) = (step["run"] for step in steps if "run" in step)
    assert os.access(ROOT / command, os.X_OK)


def test_the_readme_has_a_line_for_each_wing():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `((?:keras_m3s/)?[a-z_.]+)/?` \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(set(rows)) and all((ROOT / row).exists() for row in rows)
    parts = {pathlib.PurePath(row).stem for row in rows}
    assert parts == {*WINGS, "benchmarks", "tests"}


def test_the_ten_lines_run(tmp_path, monkeypatch):
    """The same in the README and on the first page of the docs."""
    import keras

    block = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    first, second = (
        block.search((ROOT / p).read_text())[1] for p in ("README.md", "docs/index.md")
    )
    assert first == second
    assert len(first.splitlines()) == 10
    monkeypatch.chdir(tmp_path)
    inputs = {name: keras.Input((6, 3), name=name) for name in ("left", "right")}
    pooled = [keras.layers.GlobalAveragePooling1D()(one) for one in inputs.values()]
    names = {
        "your_model": keras.Model(inputs, keras.layers.Dense(1)(sum(pooled))),
        **{name: np.ones((8, 6, 3), "float32") for name in ("a", "b", "a_test", "b_test")},
        **{name: np.ones((8, 1), "float32") for name in ("y", "y_test")},
    }
    exec(first, names)
    assert (tmp_path / "model.keras").is_file()
