"""Intensive care, missing by nature: the PhysioNet challenge of 2012, set A, hour by hour."""

import dataclasses
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

if __package__ == "physionet2012":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.physionet2012"

from ..limits import DataError, Problems
from ..measured import MeasuredBuilder, MeasuredConfig
from ..segments import REGRESSION, Segments
from . import records

SIZES = {"train": 2800, "valid": 400, "test": 800}


@dataclasses.dataclass(eq=False)
class Physionet2012Config(MeasuredConfig):
    """A random division of the stays.

    Attributes:
        seed: What it is drawn from.
    """

    seed: int = 0


class Physionet2012(MeasuredBuilder):
    """48 hours of 36 measurements in five groups; the class is death in hospital."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The records are open (ODC-BY): unpack set-a.tar.gz of "
        "https://physionet.org/content/challenge-2012/1.0.0/, and put Outcomes-a.txt beside set-a."
    )
    BUILDER_CONFIGS = [
        Physionet2012Config(
            name=f"split{seed}",
            description=f"Stays divided at random, 70 / 10 / 20 %, seed {seed}.",
            seed=seed,
            sizes=SIZES,
        )
        for seed in range(5)
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "split0"
    HOMEPAGE = "https://physionet.org/content/challenge-2012/1.0.0/"
    SHAPES = {
        **{group: (records.HOURS, len(names)) for group, names in records.GROUPS.items()},
        "static": (len(records.STATIC),),
    }
    CLASSES = ("survived", "died")
    SOURCE = "set-a, Outcomes-a.txt"

    @classmethod
    def find(cls, folder: Any) -> list[Any]:
        outcomes, stays = records.find(folder)
        return [outcomes, *stays]

    @classmethod
    def read(cls, config: Physionet2012Config, folder: Any) -> dict[str, Segments]:
        outcomes, paths = records.find(folder)
        died = records.deaths(outcomes)
        stays = {path.stem: path for path in paths}
        if absent := sorted(set(stays) - set(died)):
            raise DataError(f"{outcomes.name} must have a line for each record. Missing: "
                            f"{absent[:5]}.")  # fmt: skip
        if len(stays) < 10:
            raise DataError(f"{cls.name}: set-a must hold at least 10 records, to be divided. "
                            f"Received: {len(stays)}.")  # fmt: skip
        problems = Problems()
        splits: dict[str, Segments] = {}
        for split, ids in records.divided(sorted(stays), config.seed).items():
            rows: list[dict[str, np.ndarray]] = []
            for name in ids:
                with problems.noted():
                    rows.append(records.read(stays[name]))
            features = {name: np.array([row[name] for row in rows]) for name in cls.SHAPES}
            labels = np.array([died[name] for name in ids], np.int32)
            splits[split] = Segments(ids, [], features, labels, scores=REGRESSION)
        problems.raise_any()
        return splits
