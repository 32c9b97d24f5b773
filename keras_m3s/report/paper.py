"""Tables 2 to 5 of the paper as data.

Every number is as printed. A `Block` is one model on one data set at one pair of missing rates:
three rows of a table. The ΔORIG below them follows from the rows: see `Block.delta`.

Reference: M3S, sections 5.1 (Tables 2, 5), 5.2 (Table 3), 5.4 (Table 4).
"""

import dataclasses
from collections.abc import Mapping

from keras_m3s.experiments.config import MISSING_LEVELS
from keras_m3s.registry import datasets, methods

Range = tuple[float, float]

LOWER_IS_BETTER: tuple[str, ...] = ("mae",)


@dataclasses.dataclass(frozen=True)
class Block:
    """The paper's results of one model on one data set at one pair of missing rates.

    Attributes:
        tables: Numbers of the tables that print them.
        dataset: Name of the data set's builder.
        model: As in `keras_m3s.experiments.config.MODELS`.
        missing_rate: `(low, high)` in training and validation.
        test_missing_rate: The same in testing.
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


def _block(
    tables: tuple[int, ...],
    dataset: str,
    model: str,
    train: str,
    test: str,
    orig: tuple[float, ...],
    spl_trn: tuple[float, ...],
    m3s: tuple[float, ...],
) -> Block:
    rows = dict(zip(methods.paper(), (orig, spl_trn, m3s), strict=True))
    values = {
        m: dict(zip(datasets.CARDS[dataset].metrics, row, strict=True)) for m, row in rows.items()
    }
    rates = MISSING_LEVELS[train], MISSING_LEVELS[test]
    return Block(tables, dataset, model, *rates, values)


# fmt: off
BLOCKS: tuple[Block, ...] = (
    # Table 2; its MMIN and MMIM are also the middle of Table 3.
    _block((2,), "ch_sims", "self_mm", "medium", "medium",
           (0.5171, 0.3918, 0.7291, 0.6980),
           (0.5049, 0.4080, 0.7392, 0.7102),
           (0.5053, 0.4091, 0.7405, 0.7119)),
    _block((2, 3), "iemocap", "mmin", "medium", "medium",
           (0.6136, 0.6403, 0.6049), (0.6357, 0.6518, 0.6235), (0.6398, 0.6536, 0.6296)),
    _block((2,), "cmu_mosi", "misa", "medium", "medium",
           (0.8886, 0.7349, 0.3863), (0.8279, 0.7355, 0.4155), (0.8393, 0.7346, 0.4282)),
    _block((2, 3), "cmu_mosi", "mmim", "medium", "medium",
           (0.7175, 0.7883, 0.4592), (0.7126, 0.7825, 0.4650), (0.7014, 0.7985, 0.4852)),
    # Table 3
    _block((3,), "iemocap", "mmin", "high", "high",
           (0.5849, 0.5915, 0.5748), (0.5812, 0.5901, 0.5689), (0.5900, 0.6026, 0.5764)),
    _block((3,), "cmu_mosi", "mmim", "high", "high",
           (0.7132, 0.7905, 0.4577), (0.7268, 0.7867, 0.4549), (0.7208, 0.7890, 0.4588)),
    _block((3,), "iemocap", "mmin", "low", "low",
           (0.6192, 0.6453, 0.6078), (0.6335, 0.6513, 0.6221), (0.6367, 0.6504, 0.6266)),
    _block((3,), "cmu_mosi", "mmim", "low", "low",
           (0.7129, 0.7893, 0.4694), (0.7218, 0.7832, 0.4665), (0.7049, 0.7923, 0.4838)),
    # Table 4
    _block((4,), "iemocap", "mmin", "medium", "high",
           (0.6035, 0.6281, 0.5953), (0.6152, 0.6166, 0.6023), (0.6206, 0.6140, 0.6072)),
    _block((4,), "cmu_mosi", "mmim", "medium", "high",
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

The paper tells neither what M3S is tested against nor how many runs there were, nor whether the
test was paired.
"""


def find(dataset: str, model: str, missing_rate: Range, test_missing_rate: Range) -> Block | None:
    """The paper's block of a setting, or `None` where it has none.

    Args:
        dataset: Name of a data set; a configuration after `/` does not count.
        model: Name of a model.
        missing_rate: `(low, high)` in training.
        test_missing_rate: `(low, high)` in testing.
    """
    wanted = (datasets.split_name(dataset)[0], model, tuple(missing_rate), tuple(test_missing_rate))
    for block in BLOCKS:
        if (block.dataset, block.model, block.missing_rate, block.test_missing_rate) == wanted:
            return block
    return None


def values() -> dict[tuple[str, str, str, Range, Range, str], float]:
    """All numbers of Tables 2 to 4.

    Returns:
        Dict (data set, model, method, missing range, test missing range, metric) -> value.
    """
    return {
        (b.dataset, b.model, method, b.missing_rate, b.test_missing_rate, metric): value
        for b in BLOCKS
        for method, row in b.values.items()
        for metric, value in row.items()
    }
