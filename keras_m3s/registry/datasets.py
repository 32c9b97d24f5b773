"""The data sets by name. Data of one's own has no card, and is scored by what its labels are."""

import dataclasses
import pathlib
from collections.abc import Mapping

FILE_ENDINGS = (".pkl", ".pickle", ".npz", ".yaml", ".yml", ".csv", ".parquet")
"""Of feature files that go by their path instead of a name; tables have a description in YAML."""


@dataclasses.dataclass(frozen=True)
class DatasetCard:
    """A data set that has a builder.

    Attributes:
        title: As reports print it.
        builder: Class in `tfds_builders/{name}/{name}_dataset_builder.py`.
        rows: Rows of training data (Table 1 of the paper).
        rows_of_configs: The same of configs that differ.
        label_range: Lowest and highest sentiment score; `None` for classes.
        metrics: What the paper reports on it, in its order, named as in `keras_m3s.metrics`.
        stand_in: Generated data for who has not got it: `name` or `name/config`.
        quick_stand_in: The same, small.
        scored_alike: Names that own data may have to be scored as this data set is.
        in_paper: Whether the paper has results on it.
    """

    title: str
    builder: str
    rows: int
    rows_of_configs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    label_range: tuple[float, float] | None = (-3.0, 3.0)
    metrics: tuple[str, ...] = ()
    stand_in: str | None = None
    quick_stand_in: str | None = None
    scored_alike: tuple[str, ...] = ()
    in_paper: bool = True


_SMALL = "synthetic_msa/train=240,valid=80,test=160,text=12x16,audio=12x5,vision=12x8"

CARDS: dict[str, DatasetCard] = {
    "ch_sims": DatasetCard(
        title="CH-SIMS",
        builder="ChSims",
        rows=1368,
        label_range=(-1.0, 1.0),
        metrics=("mae", "corr", "acc2", "f1"),
        stand_in="synthetic_msa",
        quick_stand_in=_SMALL,
        scored_alike=("ch_sims_v2",),
    ),
    "cmu_mosi": DatasetCard(
        title="CMU-MOSI",
        builder="CmuMosi",
        rows=1284,
        metrics=("mae", "corr", "acc7"),
        stand_in="synthetic_msa",
        quick_stand_in=_SMALL,
    ),
    "iemocap": DatasetCard(
        title="IEMOCAP",
        builder="Iemocap",
        rows=4446,
        label_range=None,
        metrics=("acc", "uar", "f1"),
        stand_in="synthetic_msa/iemocap",
        quick_stand_in=f"{_SMALL},classes=4",
    ),
    "physionet2012": DatasetCard(
        title="PhysioNet 2012",
        builder="Physionet2012",
        rows=2800,
        label_range=None,
        in_paper=False,
    ),
    "sp_sw_har": DatasetCard(
        title="SP-SW-HAR",
        builder="SpSwHar",
        rows=1192,
        rows_of_configs={"windows_all": 1479},
        label_range=None,
        in_paper=False,
    ),
    "synthetic_msa": DatasetCard(
        title="synthetic_msa",
        builder="SyntheticMsa",
        rows=1284,
        rows_of_configs={"iemocap": 4446},
        in_paper=False,
    ),
}


def split_name(dataset: str) -> tuple[str, str | None]:
    """A data set's name and config: `"a/b"` is `("a", "b")`; a file's path is its name, whole.

    Args:
        dataset: `name`, `name/config`, or the path of a feature file.
    """
    if is_file(dataset):
        return dataset, None
    name, _, config = dataset.partition("/")
    return name, config or None


def is_file(dataset: str) -> bool:
    """Whether a data set goes by the path of its file."""
    return pathlib.PurePath(dataset).suffix.lower() in FILE_ENDINGS


def find(dataset: str) -> DatasetCard | None:
    """The card of a data set, or of the one that it is scored as; `None` for other own data.

    Args:
        dataset: As for `split_name`.
    """
    name, _ = split_name(dataset)
    alike = (card for card in CARDS.values() if name in card.scored_alike)
    return CARDS.get(name) or next(alike, None)


def training_rows(dataset: str) -> int | None:
    """Rows of training data, where they are known by name."""
    name, config = split_name(dataset)
    card = CARDS.get(name)
    return None if card is None else card.rows_of_configs.get(config or "", card.rows)
