"""Which metric stands for a model where only one is shown, and which are errors."""

from collections.abc import Sequence

MAIN: tuple[str, ...] = ("auroc", "uar", "mae")
"""The first of these that there is: for two classes, for more, for scores."""


def main(metrics: Sequence[str]) -> str:
    """The metric that stands for a model, of those that there are."""
    return next((metric for metric in MAIN if metric in metrics), metrics[0])


LOWER_IS_BETTER: tuple[str, ...] = ("mae", "rmse", "log_loss", "loss")


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is an improvement."""
    return metric in LOWER_IS_BETTER
