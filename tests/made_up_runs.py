"""Run directories with made-up numbers, as training would leave them: nothing in them was measured."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_m3s.experiments.config import Experiment
from keras_m3s.experiments.run_directory import RunDirectory

GAIN = {"orig": 0.0, "spl-trn": 0.6, "spl-trn-equal": 0.8, "m3s": 1.0}
SENTIMENT = ("mae", "corr", "acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc7")
CLASSES = ("acc", "uar", "f1")

P1 = tuple((i / 10, i / 10) for i in range(10))


def metrics(experiment: Mapping[str, Any], rate: Sequence[float]) -> dict[str, float]:
    """Worse with more missing, better with GAIN, some noise from the seed."""
    names = CLASSES if experiment["model"] == "mmin" else SENTIMENT
    values = {}
    for number, name in enumerate(names):
        rng = np.random.default_rng([experiment["seed"], number, len(experiment["method"])])
        good = 0.02 * GAIN[experiment["method"]] - 0.25 * (sum(rate) / 2 - 0.5) ** 3
        good += 0.08 * (0.5 - sum(rate) / 2) - 0.03 * abs(sum(rate) - sum(experiment["missing_rate"]))  # fmt: skip
        good += 0.006 * rng.normal()
        values[name] = round(0.85 - good if name == "mae" else 0.6 + 0.02 * number + good, 6)
    return values


def history(experiment: Mapping[str, Any], epochs: int, test: bool) -> list[dict[str, float]]:
    """Losses that fall and turn up again, metrics that rise."""
    rng = np.random.default_rng([experiment["seed"], len(experiment["method"]), 9])
    gain, rows = GAIN[experiment["method"]], []
    names = CLASSES if experiment["model"] == "mmin" else ("mae",)
    for epoch in range(1, epochs + 1):
        done = 1 - np.exp(-epoch / (6 + 2 * gain))
        noise = 0.02 * rng.normal(size=4)
        row = {"epoch": float(epoch), "loss": 1.5 - done + noise[0]}
        row["val_loss"] = 1.45 - (0.75 + 0.06 * gain) * done + 0.004 * epoch + noise[1]
        if test:
            row["test_loss"] = row["val_loss"] + 0.05 + noise[2]
        for name in names:
            good = (0.3 + 0.02 * gain) * done + noise[3] / 2
            row[f"val_{name}"] = 1.2 - good if name == "mae" else 0.35 + good
            if test:
                row[f"test_{name}"] = row[f"val_{name}"] - 0.01
        rows.append(row)
    return rows


def make_run(
    folder: pathlib.Path,
    dataset: str = "synthetic_msa",
    model: str = "misa",
    method: str = "orig",
    missing_rate: tuple[float, float] = (0.4, 0.6),
    seed: int = 0,
    epochs: int = 12,
    state: str = "complete",
    retests: Sequence[tuple[float, float]] = (),
    backend: str = "torch",
    data: str = "0123456789abcdef" * 4,
    test_curves: bool = False,
    **changes: Any,
) -> pathlib.Path:
    """One run directory; `changes` go into its experiment, those it does not know as they are."""
    known = {field.name for field in dataclasses.fields(Experiment)}
    experiment = Experiment.of(
        dataset, model, "orig", missing_rate, seed=seed, epochs=epochs,
        **{k: v for k, v in changes.items() if k in known},
    ).to_dict()  # fmt: skip
    experiment |= {"method": method} | {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()}  # fmt: skip
    key = "-".join([dataset, model, method, *(f"{r:g}" for r in (*missing_rate, *experiment["test_missing_rate"])), f"seed{seed}", *(f"{k}-{v}" for k, v in changes.items() if k != "test_missing_rate")])  # fmt: skip
    run = RunDirectory(folder / "".join(c if c.isalnum() or c in ".-_" else "" for c in key))
    run.write_json("experiment.json", experiment)
    packages = {"keras-m3s": "0.1.0", "keras": "3.15.0", "numpy": "2.4.6", "torch": "2.9.1"}
    splits = {name: data[:-1] + str(i) for i, name in enumerate(("train", "valid", "test"))}
    run.write_json("environment.json", {"backend": backend, "python": "3.11.9", "platform": "Linux", "packages": packages, "data": splits})  # fmt: skip
    if state == "failed":
        run.write_json("error.json", {"error": "FloatingPointError: The loss must stay finite. Received: loss=nan"})  # fmt: skip
    done = epochs if state == "complete" else epochs // 2
    run.write_csv("history.csv", history(experiment, done, test_curves))
    if state == "complete":
        run.write_json("metrics.json", metrics(experiment, experiment["test_missing_rate"]))
    for low, high in retests:
        pattern = experiment.get("pattern", "span")
        values = {"test_missing_rate": [low, high], "pattern": pattern}
        values["metrics"] = metrics(experiment, (low, high))
        run.write_json(f"retest-{low:.2f}-{high:.2f}-{pattern}.json", values)
    return run.path


def make_study(folder: pathlib.Path, seeds: int = 5) -> pathlib.Path:
    """A study like the paper's: several data sets, models and rates, with what can go wrong."""
    levels = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8))
    for seed in range(seeds):
        for method in GAIN:
            make_run(folder, "cmu_mosi/unaligned", "misa", method, seed=seed, epochs=60)
            for level in levels:
                others = [r for r in levels if r != level] + ([*P1] if level == (0.4, 0.6) else [])
                make_run(folder, "cmu_mosi/unaligned", "mmim", method, level, seed, 40, retests=others, test_curves=True)  # fmt: skip
        for method in ("orig", "m3s"):
            make_run(folder, "iemocap", "mmin", method, seed=seed, epochs=60, test_curves=True, select="paper")  # fmt: skip
        for steps in (1, 2, 5):
            make_run(folder, "synthetic_msa", "misa", "m3s", seed=seed, inner_steps=steps, retests=[(0.2, 0.4), (0.6, 0.8)])  # fmt: skip
    make_run(folder, "synthetic_msa", "misa", "orig", seed=0)
    make_run(folder, "ch_sims", "self_mm", "orig", seed=0, state="failed")
    make_run(folder, "ch_sims", "self_mm", "m3s", seed=0, state="incomplete")
    broken = make_run(folder, "ch_sims", "self_mm", "spl-trn", seed=0)
    (broken / "metrics.json").write_text('{"mae": ')
    return folder
