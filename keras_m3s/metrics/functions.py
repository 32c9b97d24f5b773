"""The metrics of section 4.3 as functions of whole arrays: float64, not rounded.

What Acc-2 and F1 do with sentiment 0 differs between papers, so it has names:

    has0   0 counts as positive: y >= 0 against y < 0
    non0   examples whose truth is 0 are left out: y > 0 against y < 0
    neg0   0 counts as negative, as CH-SIMS does: y > 0 against y <= 0

Reference: M3S, section 4.3; definitions as in thuiar/Self-MM (1786283), utils/metricsTop.py, but
that F1 weighs classes by how many examples truly have them. There the two arguments of `f1_score`
are swapped, and the weights are the numbers of predictions.
"""

from typing import Any

import numpy as np

from keras_m3s.registry import datasets

ZEROS: tuple[str, ...] = ("has0", "non0", "neg0")

SIMS_RANGE = (-1.0, 1.0)
"""Range of CH-SIMS' labels; those of CMU-MOSI are in [-3, 3]."""

SIMS_EDGES: dict[int, tuple[float, ...]] = {3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}
"""Upper ends of all classes but the last, each belonging to its class."""

Array = np.ndarray[Any, np.dtype[Any]]


def mae(y_true: Any, y_pred: Any) -> float:
    """Mean absolute error of sentiment scores `(batch,)` or `(batch, 1)`."""
    true, pred = _scores(y_true, y_pred)
    return float(np.mean(np.abs(pred - true)))


def corr(y_true: Any, y_pred: Any) -> float:
    """Pearson correlation between predicted and true sentiment.

    Args:
        y_true: Float array `(batch,)` or `(batch, 1)`, sentiment score.
        y_pred: The same, predicted.

    Returns:
        Scalar in [-1, 1]; 0 where either side is constant.

    Raises:
        ValueError: If the arrays are empty, differ in size, or hold NaN or infinity.
    """
    true, pred = _scores(y_true, y_pred)
    if np.ptp(true) == 0 or np.ptp(pred) == 0:
        return 0.0
    # To unit range first: squares of tiny scores would underflow.
    true, pred = ((x - x.mean()) / np.ptp(x) for x in (true, pred))
    return float(np.clip(true @ pred / np.sqrt(true @ true) / np.sqrt(pred @ pred), -1, 1))


def acc2(y_true: Any, y_pred: Any, zero: str = "has0") -> float:
    """Accuracy of the sign of sentiment; `zero` as above. NaN where no example is left."""
    true, pred = _signs(*_scores(y_true, y_pred), zero)
    return float(np.mean(true == pred)) if true.size else float("nan")


def sentiment_f1(y_true: Any, y_pred: Any, zero: str = "has0") -> float:
    """F1 of either sign of sentiment, weighted by true examples. NaN where none is left."""
    true, pred = _signs(*_scores(y_true, y_pred), zero)
    return f1(true, pred) if true.size else float("nan")


def acc7(y_true: Any, y_pred: Any) -> float:
    """Share of scores in the right one of seven classes: clipped to [-3, 3], then rounded.

    Halves go to the even class, as `np.round` has it: 0.5 to 0, 1.5 and 2.5 to 2.
    """
    true, pred = (np.round(np.clip(x, -3, 3)) for x in _scores(y_true, y_pred))
    return float(np.mean(true == pred))


def sims_accuracy(y_true: Any, y_pred: Any, classes: int) -> float:
    """Share of scores in the right one of CH-SIMS' 3 or 5 classes, split at ±0.1 (and ±0.7)."""
    if classes not in SIMS_EDGES:
        raise ValueError(f"`classes` must be one of {tuple(SIMS_EDGES)}. Received: {classes}.")
    # In float32, where 0.1 from a float32 file and the edge 0.1 are the same number.
    edges = np.array(SIMS_EDGES[classes], "float32")
    true, pred = (
        np.digitize(x.astype("float32"), edges, right=True) for x in _scores(y_true, y_pred)
    )
    return float(np.mean(true == pred))


def accuracy(y_true: Any, y_pred: Any) -> float:
    """Share of examples in the right class; classes as for `f1`."""
    true, pred = _classes(y_true, y_pred)
    return float(np.mean(true == pred))


def uar(y_true: Any, y_pred: Any) -> float:
    """Unweighted average recall: the mean recall of all classes that have true examples."""
    from sklearn.metrics import recall_score

    true, pred = _classes(y_true, y_pred)
    return float(recall_score(true, pred, labels=np.unique(true), average="macro"))


def f1(y_true: Any, y_pred: Any, average: str = "weighted") -> float:
    """F1 over classes.

    Args:
        y_true: Int array `(batch,)` or `(batch, 1)`, the class of each example.
        y_pred: The same, predicted, or scores of classes `(batch, classes)`.
        average: `"weighted"` by true examples, as the paper has it, or `"macro"`: all classes that
            occur in either array alike, as MMIN's code has it.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: If the arrays are empty, differ in size, or hold other than classes.
    """
    from sklearn.metrics import f1_score

    if average not in ("weighted", "macro"):
        raise ValueError(f"`average` must be 'weighted' or 'macro'. Received: {average!r}.")
    true, pred = _classes(y_true, y_pred)
    return float(f1_score(true, pred, average=average, zero_division=0))


def regression_metrics(y_true: Any, y_pred: Any, dataset: str = "cmu_mosi") -> dict[str, float]:
    """All metrics of sentiment scores, in the paper's order.

    Args:
        y_true: Float array `(batch,)` or `(batch, 1)`.
        y_pred: The same, predicted.
        dataset: Name of the data set; those with labels in [-1, 1] are clipped to that and scored as
            CH-SIMS, all others as CMU-MOSI.

    Returns:
        `mae`, `corr`, then `acc2_has0`, `acc2_non0`, `f1_has0`, `f1_non0`, `acc7`; for CH-SIMS
        `acc2`, `f1`, `acc3`, `acc5`.

    Raises:
        ValueError: If the arrays are empty, differ in size, or hold NaN or infinity.
    """
    true, pred = _scores(y_true, y_pred)
    card = datasets.find(dataset)
    if card is not None and card.label_range == SIMS_RANGE:
        true, pred = np.clip(true, -1, 1), np.clip(pred, -1, 1)
        return {
            "mae": mae(true, pred),
            "corr": corr(true, pred),
            "acc2": acc2(true, pred, "neg0"),
            "f1": sentiment_f1(true, pred, "neg0"),
            "acc3": sims_accuracy(true, pred, 3),
            "acc5": sims_accuracy(true, pred, 5),
        }
    return {
        "mae": mae(true, pred),
        "corr": corr(true, pred),
        "acc2_has0": acc2(true, pred, "has0"),
        "acc2_non0": acc2(true, pred, "non0"),
        "f1_has0": sentiment_f1(true, pred, "has0"),
        "f1_non0": sentiment_f1(true, pred, "non0"),
        "acc7": acc7(true, pred),
    }


def classification_metrics(y_true: Any, y_pred: Any) -> dict[str, float]:
    """`acc`, `uar` and `f1` (weighted), in the paper's order; arguments as for `f1`."""
    true, pred = _classes(y_true, y_pred)
    return {"acc": accuracy(true, pred), "uar": uar(true, pred), "f1": f1(true, pred)}


def _scores(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    return _same_size(_finite("y_true", y_true).ravel(), _finite("y_pred", y_pred).ravel())


def _classes(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    true, pred = _finite("y_true", y_true), _finite("y_pred", y_pred)
    if pred.ndim == 2 and pred.shape[1] > 1:
        pred = pred.argmax(-1)
    for name, x in (("y_true", true), ("y_pred", pred)):
        if np.any(x != np.floor(x)) or np.any(x < 0):
            raise ValueError(
                f"`{name}` must hold classes 0, 1, 2, ... Received: {x.ravel()[:5]}. "
                "For sentiment scores use `regression_metrics`."
            )
    return _same_size(true.ravel().astype("int64"), pred.ravel().astype("int64"))


def _finite(name: str, y: Any) -> Array:
    array = np.asarray(y, "float64")
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"`{name}` must be finite. Received NaN or infinity in {bad.sum()} of {array.size} "
            f"places, first at {tuple(int(i) for i in np.argwhere(bad)[0])}. Did training diverge?"
        )
    return array


def _same_size(true: Array, pred: Array) -> tuple[Array, Array]:
    if true.shape != pred.shape or not true.size:
        raise ValueError(
            "`y_true` and `y_pred` must hold one value for each of the same, one or more examples. "
            f"Received: {true.size} true, {pred.size} predicted values."
        )
    return true, pred


def _signs(true: Array, pred: Array, zero: str) -> tuple[Array, Array]:
    """1 for positive sentiment and 0 for negative, of the examples that count."""
    check_zero(zero)
    if zero == "has0":
        return true >= 0, pred >= 0
    kept = true != 0 if zero == "non0" else slice(None)
    return true[kept] > 0, pred[kept] > 0


def check_zero(zero: str) -> None:
    if zero not in ZEROS:
        raise ValueError(f"`zero` must be one of {ZEROS}. Received: {zero!r}.")
