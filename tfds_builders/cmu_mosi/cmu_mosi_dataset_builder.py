"""CMU-MOSI from the community's feature files (MMSA, Self-MM)."""

import dataclasses
import hashlib
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from .. import mmsa
from ..features import Shape, examples, spec
from ..pickles import DataError

SIZES = {"train": 1284, "valid": 229, "test": 686}
"""Segments a split: the SDK's standard folds by video, and Table 1 of the M3S paper."""

ANY_SHAPE: dict[str, Shape] = dict.fromkeys(mmsa.MODALITIES, (None, None))


@dataclasses.dataclass(eq=False)
class MosiConfig(tfds.core.BuilderConfig):
    """Which file, and what it must hold.

    Attributes:
        file: Its name in the manual directory; `None` for the one pickle that lies there.
        shapes: `(steps, dim)` of each modality; `None` sizes are those of the file.
        sizes: Segments a split, where known.
        sha256: Of the release the config was written for, where known.
    """

    file: str | None = None
    shapes: Mapping[str, Shape] = dataclasses.field(default_factory=lambda: ANY_SHAPE)
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sha256: str | None = None


class CmuMosi(tfds.core.GeneratorBasedBuilder):
    """Sentiment of 2199 monologue segments from 93 videos, -3 to 3."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put `unaligned_50.pkl` or `aligned_50.pkl` of MOSI/Processed there; "
        "https://github.com/thuiar/MMSA (README, Datasets) links to both. "
        "Any other pickle of that schema works with the config `from_file`."
    )
    # SHA-256 as MMSA's README prints them.
    BUILDER_CONFIGS = [
        MosiConfig(
            name="from_file",
            description="The one pickle in the manual directory; it decides the shapes.",
        ),
        MosiConfig(
            name="unaligned_50",
            description="50 tokens, 375 audio and 500 vision frames.",
            file="unaligned_50.pkl",
            shapes={"text": (50, 768), "audio": (375, 5), "vision": (500, 20)},
            sizes=SIZES,
            sha256="78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
        ),
        MosiConfig(
            name="aligned_50",
            description="50 steps in each modality, averaged over words.",
            file="aligned_50.pkl",
            shapes={"text": (50, 768), "audio": (50, 5), "vision": (50, 20)},
            sizes=SIZES,
            sha256="d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "from_file"

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=spec(self.builder_config.shapes),
            homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """All of the file is read and checked before the first example is written."""
        path = self.source(_manual_dir(dl_manager))
        digest = sha256(path)
        known = self.builder_config.sha256
        if known and digest != known:
            warnings.warn(
                f"`cmu_mosi/{self.builder_config.name}` was written for the release with SHA-256 "
                f"{known}. Received: {path.name} with {digest}. It is read as it is: other "
                "releases exist, but their numbers may differ.",
                stacklevel=2,
            )
        splits = mmsa.read(path)
        self._check(path.name, splits)
        self.info.metadata["source"] = {"name": path.name, "sha256": digest}
        return {split: examples(segments) for split, segments in splits.items()}

    def _generate_examples(self, segments: mmsa.Segments) -> Any:
        return examples(segments)

    def source(self, folder: Any) -> Any:
        """The file this config reads.

        Args:
            folder: The manual directory.

        Raises:
            FileNotFoundError: it is not there, or the choice is not clear.
        """
        config = self.builder_config
        found = sorted(path.name for path in folder.glob("*.pkl")) if folder.is_dir() else []
        wanted = [config.file] if config.file else found
        if len(wanted) == 1 and wanted[0] in found:
            return folder / wanted[0]
        raise FileNotFoundError(
            f"`cmu_mosi/{config.name}` reads {config.file or 'the one .pkl file'} in its manual "
            f"directory, {folder}. Received: {found or 'no .pkl file'}. "
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def _check(self, name: str, splits: Mapping[str, mmsa.Segments]) -> None:
        config = self.builder_config
        for modality, wanted in config.shapes.items():
            shape = splits["train"].features[modality].shape[1:]
            if None not in wanted and shape != wanted:
                raise DataError(
                    f"`cmu_mosi/{config.name}` must hold `{modality}` of shape (N, {wanted[0]}, "
                    f"{wanted[1]}). Received: (N, {shape[0]}, {shape[1]}) in {name}. "
                    "The config `from_file` takes its shapes from the file."
                )
        steps = config.shapes["text"][0]
        tokens = splits["train"].features.get(mmsa.TEXT_BERT, np.zeros((1, 3, 0))).shape[1:]
        if steps is not None and tokens != (3, steps):
            raise DataError(
                f"`cmu_mosi/{config.name}` must hold `text_bert` of shape (N, 3, {steps}). "
                f"Received: (N, {tokens[0]}, {tokens[1]}) in {name}. Use the config `from_file`."
            )
        if splits["train"].labels.dtype != np.float32:
            raise DataError(f"{name} must hold `regression_labels`, sentiment from -3 to 3.")
        sizes = {split: len(segments) for split, segments in splits.items()}
        if config.sizes and sizes != config.sizes:
            warnings.warn(
                f"CMU-MOSI has {dict(config.sizes)} segments on the standard folds. "
                f"Received: {sizes} in {name}. It is read as it is, but scores on it do not "
                "compare with published ones.",
                stacklevel=3,
            )


def sha256(path: Any) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manual_dir(dl_manager: Any) -> Any:
    try:
        return dl_manager.manual_dir
    except AssertionError as error:  # what TFDS raises where the folder is missing or empty
        raise FileNotFoundError(str(error)) from None
