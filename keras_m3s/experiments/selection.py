"""Selection of the epoch that is tested.

`"validation"`, the default, takes the best validation value for all models: nothing is selected on
test data. `"paper"` follows the published training scripts, for numbers that compare with theirs:

    MISA, Self-MM    the best validation loss, which is the same
    MMIM             whenever the validation loss improves, and the best test MAE yet comes with it
    MMIN             the best test UAR

Reference: declare-lab/Multimodal-Infomax cd0774c, src/solver.py 295-316; AIM3-RUC/MMIN 69a45fe, its
training script with `--verbose`.
"""

import math
from collections.abc import Mapping, Sequence

from keras_m3s.registry import models

Row = Mapping[str, float]


def looks_at_test(model: str, select: str) -> bool:
    """Whether selecting an epoch needs the test values of each epoch."""
    return select == "paper" and models.find(model).selects_on != "validation"


def best_epoch(history: Sequence[Row], monitor: str, mode: str) -> int:
    """Index of the row with the best value of `monitor`, the first of several."""
    sign = 1 if mode == "min" else -1
    return min(range(len(history)), key=lambda i: (sign * history[i][monitor], i))


def selected_epoch(history: Sequence[Row], monitor: str, mode: str, model: str, select: str) -> int:
    """Index of the epoch that is tested.

    Args:
        history: A row per epoch, at least one; with test values where `looks_at_test`.
        monitor: Name of the model's validation value.
        mode: `"min"` or `"max"`.
        model: Name of the model.
        select: One of `keras_m3s.experiments.config.SELECTIONS`.
    """
    if not looks_at_test(model, select):
        return best_epoch(history, monitor, mode)
    if models.find(model).selects_on == "test":
        return best_epoch(history, monitor.replace("val_", "test_"), mode)
    chosen, valid, test = 0, math.inf, math.inf
    for index, row in enumerate(history):
        if row["val_loss"] < valid:
            valid = row["val_loss"]
            if row["test_mae"] < test:
                chosen, test = index, row["test_mae"]
    return chosen
