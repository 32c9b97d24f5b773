"""Shares of missing values of each modality, as numbers and as a picture."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_m3s.data import builders
from keras_m3s.data.split import Split
from keras_m3s.utils import atomic_files

COLORS = {"cells": "#56B4E9", "rows": "#0072B2", "examples": "#D55E00"}


def gaps(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Counts the missing values (NaN) of each modality over all splits.

    Args:
        splits: As from `keras_m3s.data.load`.

    Returns:
        Modality -> `tfds_builders.gaps.Gaps`, which prints as a sentence.
    """
    of = builders.module("gaps").of
    names = next(iter(splits.values())).modalities
    features = [split.features for split in splits.values()]
    found: dict[str, Any] = of(features, [name for name in names if name in features[0]])
    return found


def draw_gaps(gaps: Mapping[str, Any]) -> Any:
    """Draws the shares of values, time steps and examples that are missing, and values over time.

    Args:
        gaps: As `gaps` returns them, or `keras_m3s.data.inspect(path).gaps`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    timed = {name: one for name, one in gaps.items() if one.steps is not None}
    height = max(3.0, 0.55 * len(gaps) + 1.4)
    figure = Figure(figsize=(10.5 if timed else 6.0, height), layout="constrained")
    panels = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    _bars(panels[0], gaps)
    if timed:
        _over_time(panels[1], timed)
    return figure


def plot_gaps(gaps: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes the figure of `draw_gaps` to a file; its suffix selects the format.

    Raises:
        ValueError: There is nothing to draw, or the suffix is not of an image format.
        WriteError: It cannot be written.
    """
    if not gaps:
        raise ValueError(
            "`gaps` must have a modality whose values can be counted. Received: none. "
            "`keras-m3s inspect` draws own data that is read as arrays."
        )
    path = pathlib.Path(path).expanduser()
    figure = draw_gaps(gaps)
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise ValueError(
            f"`path` must end in one of {sorted(kinds)}. Received: {path.name!r}. Call it .png."
        )
    with atomic_files.whole(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _bars(axes: Any, gaps: Mapping[str, Any]) -> None:
    shares = {
        "cells": [one.cells for one in gaps.values()],
        "rows": [np.nan if one.rows is None else one.rows for one in gaps.values()],
        "examples": [one.wholly for one in gaps.values()],
    }
    labels = {
        "cells": "single values",
        "rows": "time steps, wholly",
        "examples": "examples, wholly",
    }
    places = np.arange(len(gaps))
    for number, (kind, values) in enumerate(shares.items()):
        where, percent = places + 0.27 * (number - 1), 100 * np.array(values)
        axes.barh(where, np.nan_to_num(percent), 0.25, color=COLORS[kind], label=labels[kind])
        for place, value in zip(where, percent, strict=True):
            if np.isfinite(value):
                axes.text(value + 1, place, f"{value:.1f}", va="center", fontsize=7)
    axes.set_yticks(places, list(gaps))
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("missing (%)")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="lower center", ncols=3,
                bbox_to_anchor=(0.45, 1.0), columnspacing=1.0, handlelength=1.2)  # fmt: skip


def _over_time(axes: Any, gaps: Mapping[str, Any]) -> None:
    styles = ("-", "--", ":", "-.")
    for number, (name, one) in enumerate(gaps.items()):
        axes.plot(100 * one.steps, label=name, color=f"C{number % 10}",
                  linestyle=styles[number // 10 % 4], drawstyle="steps-mid")  # fmt: skip
    axes.set_ylim(-3, 103)
    axes.set_xlabel("time step")
    axes.set_ylabel("values missing (%)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small")
