"""The wings of `keras_m3s`, from the ground up: what each holds, and what it may import.

The one place where this stands: `tests/test_imports.py` checks the imports against it, and
`python -m tests.wings` writes it into CONTRIBUTING.md.
"""

import pathlib
import re

CONTRIBUTING = pathlib.Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
MARKS = ("<!-- wings -->", "<!-- /wings -->")

# wing: (what it holds, what it may import)
WINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tfds_builders": ("raw files to TFDS data sets", ()),
    "modalities": ("names and order of the modalities, keys of a batch", ()),
    "utils": ("atomic files, the backend, stopping on SIGTERM", ()),
    "registry": ("a card for each model, method, data set and pattern", ()),
    "missing": ("what is missing: patterns, draws, the layer", ("modalities", "registry")),
    "layers": ("layers that several models use", ("modalities",)),
    "losses": ("losses without state", ()),
    "optimizers": ("Adam with groups, as the published trainings use it", ()),
    "metrics": ("the paper's metrics", ("registry",)),
    "data": ("data sets to splits to batches", ("modalities", "utils", "registry", "missing", "tfds_builders")),
    "features": ("clips to features", ("modalities", "utils", "data", "tfds_builders")),
    "meta": ("Algorithm 1 for any Keras model", ("modalities", "utils", "missing")),
    "evaluation": ("what any compiled model withstands: tables, comparisons, pictures", ("modalities", "registry", "missing")),
    "models": ("the base models and their published weights", ("modalities", "utils", "layers", "losses", "optimizers", "metrics", "data")),
    "experiments": ("an experiment to a trained and tested run", ("modalities", "utils", "registry", "missing", "layers", "metrics", "data", "meta", "evaluation", "models")),
    "inference": ("a trained run to predictions and exports", ("modalities", "utils", "registry", "missing", "layers", "data", "experiments")),
    "study": ("many runs: plans, workers, executors", ("utils", "registry", "data", "experiments")),
    "report": ("runs to tables, tests and figures", ("utils", "registry", "experiments")),
    "cli": ("the command", ("utils", "registry", "data", "features", "experiments", "inference", "study", "report")),
}  # fmt: skip


def table() -> str:
    """The wings as a Markdown table."""
    rows = ["| Wing | Holds | May import |", "| --- | --- | --- |"]
    for name, (holds, imports) in WINGS.items():
        listed = ", ".join(f"`{wing}`" for wing in imports) or "none"
        rows.append(f"| `{name}` | {holds} | {listed} |")
    return "\n".join(rows)


def written() -> str:
    """The table as CONTRIBUTING.md has it."""
    found = re.search(rf"{MARKS[0]}\n(.*?)\n{MARKS[1]}", CONTRIBUTING.read_text(), re.DOTALL)
    return found[1] if found else ""


if __name__ == "__main__":
    text = CONTRIBUTING.read_text()
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    CONTRIBUTING.write_text(f"{text[:start]}\n{table()}\n{text[end:]}")
