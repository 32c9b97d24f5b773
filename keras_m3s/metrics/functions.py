"""The metrics of the paper's section 4.3 as functions of arrays, in float64 and not rounded.

Papers treat sentiment 0 differently in Acc-2 and F1. The conventions have names:

    has0   0 counts as positive: y >= 0 against y < 0
    non0   examples with true sentiment 0 are left out: y > 0 against y < 0
    neg0   0 counts as negative, as for CH-SIMS: y > 0 against y <= 0

Reference: M3S, section 4.3; definitions as in thuiar/Self-MM (1786283), utils/metricsTop.py, except
that F1 weights classes by their true examples. That code swaps the arguments of `f1_score` and so
weights them by their predictions.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_m3s.registry import datasets

ZEROS: tuple[str, ...] = ("has0", "non0", "neg0")

SIMS_RANGE = (-1.0, 1.0)
"""Range of CH-SIMS' labels; CMU-MOSI's is [-3, 3]."""

SIMS_EDGES: dict[int, tuple[float, ...]] = {3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}
"""Number of classes -> upper bounds, inclusive, of all classes but the last."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def mae(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Mean absolute error of sentiment scores `(batch,)` or `(batch, 1)`."""
    true, pred = _scores(y_true, y_pred)
    return float(np.mean(np.abs(pred - true)))


def rmse(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Root of the mean squared error of scores `(batch,)` or `(batch, 1)`."""
    true, pred = _scores(y_true, y_pred)
    scale = np.abs(pred - true).max()  # squares of large errors would overflow
    return float(scale * np.sqrt(np.mean(((pred - true) / scale) ** 2))) if scale > 0 else 0.0


def corr(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
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


def acc2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, zero: str = "has0") -> float:
    """Accuracy of the sign of sentiment; `zero` as above. NaN if no example is left."""
    true, pred = _signs(*_scores(y_true, y_pred), zero)
    return float(np.mean(true == pred)) if true.size else float("nan")


def sentiment_f1(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, zero: str = "has0") -> float:
    """Weighted F1 of positive and negative sentiment; `zero` as above. NaN if none is left."""
    true, pred = _signs(*_scores(y_true, y_pred), zero)
    return f1(true, pred) if true.size else float("nan")


def acc7(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Accuracy over seven classes: scores clipped to [-3, 3], then rounded.

    Halves round to even, as in `np.round`: 0.5 to 0, 1.5 and 2.5 to 2.
    """
    true, pred = (np.round(np.clip(x, -3, 3)) for x in _scores(y_true, y_pred))
    return float(np.mean(true == pred))


def sims_accuracy(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, classes: int) -> float:
    """Accuracy over CH-SIMS' 3 or 5 classes, with bounds at ±0.1 (and ±0.7)."""
    if classes not in SIMS_EDGES:
        raise ValueError(f"`classes` must be one of {tuple(SIMS_EDGES)}. Received: {classes}.")
    # In float32, so that a label 0.1 of a float32 file equals the bound 0.1.
    edges = np.array(SIMS_EDGES[classes], "float32")
    true, pred = (
        np.digitize(x.astype("float32"), edges, right=True) for x in _scores(y_true, y_pred)
    )
    return float(np.mean(true == pred))


def accuracy(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Accuracy over classes; arguments as for `f1`."""
    true, pred = _classes(y_true, y_pred)
    return float(np.mean(true == pred))


def uar(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Unweighted average recall: the mean recall over classes with true examples."""
    from sklearn.metrics import recall_score

    true, pred = _classes(y_true, y_pred)
    return float(recall_score(true, pred, labels=np.unique(true), average="macro"))


def f1(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, average: str = "weighted") -> float:
    """F1 averaged over classes.

    Args:
        y_true: Int array `(batch,)` or `(batch, 1)`, the true class of each example.
        y_pred: The predicted classes in the same form, or their scores `(batch, classes)`.
        average: `"weighted"` by true examples, as in the paper, or `"macro"`, the plain mean over
            all classes that occur in either array, as in MMIN's code.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: If the arrays are empty, differ in size, or hold values that are not classes.
    """
    from sklearn.metrics import f1_score

    if average not in ("weighted", "macro"):
        raise ValueError(f"`average` must be 'weighted' or 'macro'. Received: {average!r}.")
    true, pred = _classes(y_true, y_pred)
    return float(f1_score(true, pred, average=average, zero_division=0))


def auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Area under the ROC curve of two classes: how often a 1 has the higher score than a 0.

    Args:
        y_true: Int array `(batch,)` of 0 and 1.
        y_score: Float array `(batch,)`, higher for class 1: a probability, a logit.

    Returns:
        Scalar in [0, 1]; NaN if a class has no example.

    Raises:
        ValueError: If the arrays are empty, differ in size, or hold other classes or NaN.
    """
    from sklearn.metrics import roc_auc_score

    true, scores = _two_classes(y_true, y_score)
    return float(roc_auc_score(true, scores)) if 0 < true.sum() < true.size else float("nan")


def auprc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Area under the precision-recall curve of class 1, as average precision; as `auroc`."""
    from sklearn.metrics import average_precision_score

    true, scores = _two_classes(y_true, y_score)
    known = 0 < true.sum() < true.size
    return float(average_precision_score(true, scores)) if known else float("nan")


def regression_metrics(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, dataset: str = "cmu_mosi"
) -> dict[str, float]:
    """All metrics of sentiment scores, in the paper's order.

    Args:
        y_true: Float array `(batch,)` or `(batch, 1)`, sentiment scores.
        y_pred: The same, predicted.
        dataset: Name of the data set. One with labels in [-1, 1] is scored as CH-SIMS, with both
            arrays clipped to that range; all others are scored as CMU-MOSI.

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


def score_metrics(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> dict[str, float]:
    """Metrics of scores that are no sentiment: `mae`, `rmse`, `corr`; arguments as of `mae`."""
    true, pred = _scores(y_true, y_pred)
    return {"mae": mae(true, pred), "rmse": rmse(true, pred), "corr": corr(true, pred)}


def log_loss(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Mean negative log probability of the true class, in nats.

    Args:
        y_true: Int array `(batch,)`, classes.
        y_pred: Logits `(batch, classes)`.
    """
    true, _ = _classes(y_true, y_pred)
    logits = np.asarray(y_pred, "float64")
    if true.max() >= logits.shape[1]:
        raise ValueError(
            f"`y_true` must hold classes below the {logits.shape[1]} of `y_pred`. "
            f"Received: {true.max()}."
        )
    highest = logits.max(axis=1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float(np.mean(total - logits[np.arange(true.size), true]))


def classification_metrics(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> dict[str, float]:
    """All metrics of classes, `acc`, `uar` and weighted `f1`, in the paper's order; see `f1`.

    Logits `(batch, classes)` give `log_loss` as well, and those of two classes `auroc` and `auprc`
    of class 1, by the difference of the two.
    """
    true, pred = _classes(y_true, y_pred)
    found = {"acc": accuracy(true, pred), "uar": uar(true, pred), "f1": f1(true, pred)}
    scores = np.asarray(y_pred, "float64")
    if scores.ndim == 2 and scores.shape[1] == 2:
        apart = scores[:, 1] - scores[:, 0]
        found |= {"auroc": auroc(true, apart), "auprc": auprc(true, apart)}
    if scores.ndim == 2 and scores.shape[1] > 1:
        found["log_loss"] = log_loss(true, scores)
    return found


def _scores(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> tuple[Array, Array]:
    return _same_size(_finite("y_true", y_true).ravel(), _finite("y_pred", y_pred).ravel())


def _classes(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> tuple[Array, Array]:
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


def _two_classes(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[Array, Array]:
    true, scores = _same_size(
        _finite("y_true", y_true).ravel(), _finite("y_score", y_score).ravel()
    )
    if not np.isin(true, (0, 1)).all():
        raise ValueError(
            f"`y_true` must hold the classes 0 and 1. Received: {np.unique(true)[:5]}."
        )
    return true, scores


def _finite(name: str, y: npt.ArrayLike) -> Array:
    """The array in float64; raises on NaN and infinity."""
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
            "`y_true` and `y_pred` must have the same number of values, at least 1. "
            f"Received: {true.size} true, {pred.size} predicted values."
        )
    return true, pred


def _signs(true: Array, pred: Array, zero: str) -> tuple[Array, Array]:
    """Whether sentiment is positive, for the examples that `zero` keeps."""
    check_zero(zero)
    if zero == "has0":
        return true >= 0, pred >= 0
    kept = true != 0 if zero == "non0" else slice(None)
    return true[kept] > 0, pred[kept] > 0


def check_zero(zero: str) -> None:
    """Raises unless `zero` is one of `ZEROS`."""
    if zero not in ZEROS:
        raise ValueError(f"`zero` must be one of {ZEROS}. Received: {zero!r}.")
