"""Which metric stands for a model where only one is shown."""

from collections.abc import Sequence

MAIN: tuple[str, ...] = ("auroc", "uar", "mae")
"""The first of these that there is: for two classes, for more, for scores."""


def main(metrics: Sequence[str]) -> str:
    """The metric that stands for a model, of those that there are."""
    return next((metric for metric in MAIN if metric in metrics), metrics[0])
