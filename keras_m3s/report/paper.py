"""Tables 2 to 5 of the paper as data.

Every number is as printed. `PaperRows` are the three rows of a table for one model on one data set
at one pair of missing rates. The ΔORIG below them follows from them, see `PaperRows.delta`.

Reference: M3S, sections 5.1 (Tables 2, 5), 5.2 (Table 3), 5.4 (Table 4).
"""

import dataclasses
from collections.abc import Mapping

from keras_m3s.experiments.config import MISSING_LEVELS
from keras_m3s.registry import datasets, methods

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class PaperRows:
    """The paper's results of one model on one data set at one pair of missing rates.

    Attributes:
        tables: Numbers of the tables that print them.
        dataset: Name of the data set.
        model: Name of the model.
        missing_rate: `(low, high)` in training and validation.
        test_missing_rate: `(low, high)` in testing.
        values: Method -> metric -> value.
    """

    tables: tuple[int, ...]
    dataset: str
    model: str
    missing_rate: Range
    test_missing_rate: Range
    values: Mapping[str, Mapping[str, float]]

    def delta(self, metric: str) -> float:
        """M3S minus ORIG: the paper's ΔORIG, negative where its arrow points down."""
        baseline, proposed = methods.main_pair()
        return round(self.values[proposed][metric] - self.values[baseline][metric], 4)


def _rows(
    tables: tuple[int, ...],
    dataset: str,
    model: str,
    train: str,
    test: str,
    orig: tuple[float, ...],
    spl_trn: tuple[float, ...],
    m3s: tuple[float, ...],
) -> PaperRows:
    rows = {"orig": orig, "spl-trn": spl_trn, "m3s": m3s}
    values = {
        m: dict(zip(datasets.CARDS[dataset].metrics, row, strict=True)) for m, row in rows.items()
    }
    rates = MISSING_LEVELS[train], MISSING_LEVELS[test]
    return PaperRows(tables, dataset, model, *rates, values)


# fmt: off
ROWS: tuple[PaperRows, ...] = (
    # Table 2; its MMIN and MMIM are also the middle of Table 3.
    _rows((2,), "ch_sims", "self_mm", "medium", "medium",
          (0.5171, 0.3918, 0.7291, 0.6980),
          (0.5049, 0.4080, 0.7392, 0.7102),
          (0.5053, 0.4091, 0.7405, 0.7119)),
    _rows((2, 3), "iemocap", "mmin", "medium", "medium",
          (0.6136, 0.6403, 0.6049), (0.6357, 0.6518, 0.6235), (0.6398, 0.6536, 0.6296)),
    _rows((2,), "cmu_mosi", "misa", "medium", "medium",
          (0.8886, 0.7349, 0.3863), (0.8279, 0.7355, 0.4155), (0.8393, 0.7346, 0.4282)),
    _rows((2, 3), "cmu_mosi", "mmim", "medium", "medium",
          (0.7175, 0.7883, 0.4592), (0.7126, 0.7825, 0.4650), (0.7014, 0.7985, 0.4852)),
    # Table 3
    _rows((3,), "iemocap", "mmin", "high", "high",
          (0.5849, 0.5915, 0.5748), (0.5812, 0.5901, 0.5689), (0.5900, 0.6026, 0.5764)),
    _rows((3,), "cmu_mosi", "mmim", "high", "high",
          (0.7132, 0.7905, 0.4577), (0.7268, 0.7867, 0.4549), (0.7208, 0.7890, 0.4588)),
    _rows((3,), "iemocap", "mmin", "low", "low",
          (0.6192, 0.6453, 0.6078), (0.6335, 0.6513, 0.6221), (0.6367, 0.6504, 0.6266)),
    _rows((3,), "cmu_mosi", "mmim", "low", "low",
          (0.7129, 0.7893, 0.4694), (0.7218, 0.7832, 0.4665), (0.7049, 0.7923, 0.4838)),
    # Table 4
    _rows((4,), "iemocap", "mmin", "medium", "high",
          (0.6035, 0.6281, 0.5953), (0.6152, 0.6166, 0.6023), (0.6206, 0.6140, 0.6072)),
    _rows((4,), "cmu_mosi", "mmim", "medium", "high",
          (0.7201, 0.7794, 0.4534), (0.7412, 0.7695, 0.4461), (0.7025, 0.7884, 0.4825)),
)
# fmt: on

P_VALUES: dict[tuple[str, str], dict[str, float]] = {
    ("ch_sims", "self_mm"): {"mae": 0.1959, "corr": 0.0384, "acc2": 0.0018, "f1": 0.0615},
    ("iemocap", "mmin"): {"acc": 0.0007, "uar": 7.95e-5, "f1": 0.0005},
    ("cmu_mosi", "misa"): {"mae": 0.0473, "corr": 0.1873, "acc7": 0.0405},
    ("cmu_mosi", "mmim"): {"mae": 0.0277, "corr": 0.1971, "acc7": 0.0263},
}
"""Table 5: (data set, model) -> metric -> P of a two-tailed t-test of M3S.

The paper states neither what M3S is tested against, nor the number of runs, nor whether the test
was paired.
"""


def find(
    dataset: str, model: str, missing_rate: Range, test_missing_rate: Range
) -> PaperRows | None:
    """The paper's rows of a setting, or `None` if it has none.

    Args:
        dataset: Name of a data set; a config after `/` is ignored.
        model: Name of a model.
        missing_rate: `(low, high)` in training.
        test_missing_rate: `(low, high)` in testing.
    """
    wanted = (datasets.split_name(dataset)[0], model, tuple(missing_rate), tuple(test_missing_rate))
    for rows in ROWS:
        if (rows.dataset, rows.model, rows.missing_rate, rows.test_missing_rate) == wanted:
            return rows
    return None


def values() -> dict[tuple[str, str, str, Range, Range, str], float]:
    """All numbers of Tables 2 to 4.

    Returns:
        Dict (data set, model, method, missing range, test missing range, metric) -> value.
    """
    return {
        (r.dataset, r.model, method, r.missing_rate, r.test_missing_rate, metric): value
        for r in ROWS
        for method, row in r.values.items()
        for metric, value in row.items()
    }
