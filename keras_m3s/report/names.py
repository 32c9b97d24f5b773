"""Titles of methods, metrics, models and data sets in a report, and the format of numbers."""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_m3s.registry import datasets, methods, models, patterns
from keras_m3s.registry.metrics import lower_is_better as lower_is_better
from keras_m3s.utils import user_source

METRICS: dict[str, str] = {
    "mae": "MAE",
    "corr": "Corr",
    "acc2": "Acc-2",
    "acc2_has0": "Acc-2 (has0)",
    "acc2_non0": "Acc-2 (non0)",
    "f1_has0": "F1 (has0)",
    "f1_non0": "F1 (non0)",
    "acc3": "Acc-3",
    "acc5": "Acc-5",
    "acc7": "Acc-7",
    "rmse": "RMSE",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "acc": "Acc",
    "uar": "UAR",
    "f1": "F1-Score",
    "log_loss": "Log loss",
}

SOURCE_DIGITS = 7

NOTHING = "–"
"""Placeholder for a missing value."""

SELECTED_ON_TEST = "†"
SELECTED_NOTE = (
    "† Epochs selected as in the published scripts (--select paper), which may use the test data: "
    "these numbers are optimistic and do not compare with unmarked ones."
)


def method_title(method: str, short: bool = False) -> str:
    """A method's title; the name itself if it has no card."""
    card = methods.CARDS.get(method)
    if card is None:
        return method
    return card.short_title if short else card.title


def metric_title(metric: str) -> str:
    """A metric's title."""
    return METRICS.get(metric, metric)


def model_title(model: str) -> str:
    """A model's title; of one's own its file and function, of an unknown one the name itself."""
    if models.is_own(model):
        return user_source.short(model)
    return models.CARDS[model].title if model in models.CARDS else model


def source_title(experiment: Mapping[str, Any]) -> str:
    """A model's title, of one's own with the first digits of its source's digest."""
    title, source = model_title(experiment["model"]), experiment.get("model_source")
    return f"{title} ({str(source)[:SOURCE_DIGITS]})" if source else title


def pattern_title(pattern: str) -> str:
    """A pattern's title; the name itself if it has no card."""
    return patterns.CARDS[pattern].title if pattern in patterns.CARDS else pattern


def dataset_title(dataset: str) -> str:
    """`cmu_mosi/unaligned` -> `CMU-MOSI (unaligned)`; of a file its name."""
    if datasets.is_file(dataset):
        return pathlib.PurePath(dataset).name
    name, config = datasets.split_name(dataset)
    title = datasets.CARDS[name].title if name in datasets.CARDS else name
    return f"{title} ({config})" if config else title


def percent(rate: float) -> str:
    """`0.4` -> `40`."""
    return f"{100 * rate:.4g}"


def rate_title(rate: Sequence[float]) -> str:
    """`(0.4, 0.6)` -> `40–60 %`, with a narrow no-break space."""
    low, high = (percent(r) for r in rate)
    return f"{low}\u202f%" if low == high else f"{low}–{high}\u202f%"


def method_order(method: str) -> tuple[int, str]:
    """Sort key: the order of the methods' cards, then unknown methods by name."""
    return _order(method, methods.CARDS)


def model_order(model: str) -> tuple[int, str]:
    """Sort key: the order of the models' cards, then unknown models by name."""
    return _order(model, models.CARDS)


def _order(name: str, cards: Mapping[str, Any]) -> tuple[int, str]:
    order = list(cards)
    return (order.index(name) if name in cards else len(order), name)


def main_metrics(dataset: str, present: Iterable[str]) -> list[str]:
    """The metrics that the paper reports on a data set, in its order.

    Args:
        dataset: Name of a data set. For one without a card, or without metrics in it, these are the
            metrics of the first card whose metrics are all present.
        present: Names of the metrics that runs have.

    Returns:
        A list; all of `present` if no card fits.
    """
    there = list(present)
    name, _ = datasets.split_name(dataset)
    cards = [card for card in datasets.CARDS.values() if card.metrics]
    if name in datasets.CARDS and datasets.CARDS[name].metrics:
        cards = [datasets.CARDS[name]]
    kinds = [card.metrics for card in cards]
    if datasets.find(dataset) is None:  # two classes
        kinds.insert(0, ("auroc", "auprc", "uar"))
    for kind in kinds:
        if set(kind) <= set(there):
            return list(kind)
    return there


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """A number as the paper prints it, with a minus sign (−); `NOTHING` for None and NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_value(value: float) -> str:
    """A p-value; below 0.0001 only that."""
    return "< 0.0001" if value < 0.0001 else number(value)


def spread(mean: float, sd: float) -> str:
    """`mean ± sd`; the mean alone for a single run."""
    return number(mean) if math.isnan(sd) else f"{number(mean)} ± {number(sd)}"


def setting(value: Any) -> str:
    """A value of a configuration as one short line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k or '(all else)'}: {setting(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return " to ".join(setting(v) for v in value)
    return str(value)
