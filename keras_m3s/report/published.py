"""What others published under the protocols, as data.

Reference: the tables of LNLN (Zhang et al., NeurIPS 2024) and P-RMF; the re-runs whose epoch
validation selects are as the literature quotes them.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """A model's published mean over the rates of P1.

    Attributes:
        title: Of the model.
        values: Metric -> value; accuracies in [0, 1].
        rerun: The same, of a re-run that selects its epoch on validation, as far as it was given.
    """

    title: str
    values: Mapping[str, float]
    rerun: Mapping[str, float] = dataclasses.field(default_factory=dict)


def _row(
    title: str, acc7: float, mae: float, corr: float, rerun: float | None = None
) -> PublishedRow:
    again = {} if rerun is None else {"mae": rerun}
    return PublishedRow(title, {"acc7": acc7 / 100, "mae": mae, "corr": corr}, again)


ROWS: dict[tuple[str, str], tuple[PublishedRow, ...]] = {
    ("p1", "cmu_mosi"): (
        _row("MISA", 29.85, 1.085, 0.524, 1.164),
        _row("Self-MM", 29.55, 1.070, 0.512, 1.184),
        _row("MMIM", 31.30, 1.077, 0.507, 1.165),
        _row("LNLN", 34.26, 1.046, 0.527, 1.145),
        _row("P-RMF", 34.19, 1.038, 0.525),
    ),
}
"""(protocol, data set) -> rows. The published ones select epochs on test data."""
