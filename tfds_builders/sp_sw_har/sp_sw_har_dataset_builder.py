"""Human activity from the inertial sensors of a phone and a watch, in windows of two seconds."""

import dataclasses
import pathlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

if __package__ == "sp_sw_har":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.sp_sw_har"

from ..limits import DataError, Problems
from ..measured import MeasuredBuilder, MeasuredConfig
from ..segments import REGRESSION, Segments
from . import recordings

SUBJECTS: dict[str, tuple[str, ...]] = {
    "train": ("s01", "s03", "s04", "s05", "s07", "s09", "s11", "s12", "s19", "s20", "s21", "s22",
              "s23"),
    "valid": ("s13", "s14", "s17"),
    "test": ("s06", "s08", "s15", "s18"),
}  # fmt: skip
"""Of the 23; s02, s10 and s16 are in no split."""

MODALITIES = tuple(f"{d}_{kind}" for d in recordings.DEVICES for kind in recordings.KINDS)


@dataclasses.dataclass(eq=False)
class SpSwHarConfig(MeasuredConfig):
    """A split of the subjects.

    Attributes:
        subjects: Split -> names of the folders.
    """

    subjects: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: SUBJECTS)


class SpSwHar(MeasuredBuilder):
    """Smartphone and smartwatch: accelerometer and gyroscope of each, five activities."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The recordings are under CC BY 4.0: `git clone "
        "https://github.com/GeoTecINIT/sp-sw-har-dataset`, and name that folder."
    )
    BUILDER_CONFIGS = [
        SpSwHarConfig(
            name="windows",
            description="20 of the 23 subjects, 13 / 3 / 4.",
            sizes={"train": 1192, "valid": 303, "test": 404},
        ),
        SpSwHarConfig(
            name="windows_all",
            description="All 23 subjects: the other three are in training.",
            subjects={**SUBJECTS, "train": (*SUBJECTS["train"], "s02", "s10", "s16")},
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "windows"
    HOMEPAGE = "https://github.com/GeoTecINIT/sp-sw-har-dataset"
    SHAPES = dict.fromkeys(MODALITIES, (recordings.STEPS, 3))
    CLASSES = tuple(name.lower() for name in recordings.CLASSES)
    SOURCE = "DATA"

    @classmethod
    def find(cls, folder: Any) -> list[Any]:
        return [path for one in recordings.find(folder).values() for path in one.values()]

    @classmethod
    def read(cls, config: SpSwHarConfig, folder: Any) -> dict[str, Segments]:
        found = recordings.find(folder)
        there = {name[:3] for name in found}
        absent = [one for subjects in config.subjects.values() for one in subjects
                  if one not in there]  # fmt: skip
        if absent:
            warnings.warn(
                f"{cls.name}: recordings of all subjects should be there. Missing: "
                f"{', '.join(absent)}.",
                stacklevel=2,
            )
        problems = Problems()
        splits = {split: cls._split(found, subjects, problems)
                  for split, subjects in config.subjects.items()}  # fmt: skip
        problems.raise_any()
        for split, one in splits.items():
            if not len(one):
                raise DataError(
                    f"{cls.name}, {split}: subjects {config.subjects[split]} must have recordings "
                    "of two seconds. Received: none."
                )
        return splits

    @classmethod
    def _split(
        cls, found: Mapping[str, Any], subjects: tuple[str, ...], problems: Problems
    ) -> Segments:
        ids: list[str] = []
        labels: list[int] = []
        values: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
        for name, paths in found.items():
            if name[:3] not in subjects:
                continue
            with problems.noted():
                for number, (window, label) in enumerate(recordings.windows(paths)):
                    ids.append(f"{name}$_${number}")
                    labels.append(label)
                    for modality, array in window.items():
                        values[modality].append(array)
        features = {modality: np.array(arrays) for modality, arrays in values.items()}
        return Segments(ids, [], features, np.array(labels, np.int32), scores=REGRESSION)
