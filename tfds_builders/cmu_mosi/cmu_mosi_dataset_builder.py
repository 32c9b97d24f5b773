"""CMU-MOSI from the feature files of MMSA, Self-MM, MISA, MMIM and the CMU-MultimodalSDK."""

import pathlib
import sys
from typing import Any

import tensorflow_datasets.public_api as tfds

if __package__ == "cmu_mosi":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.cmu_mosi"

from .. import files
from ..feature_file import FeatureFileBuilder, FileConfig
from ..segments import Segments
from . import csd, word_lists

SIZES = files.PUBLISHED_SIZES["cmu_mosi"]
LISTS, ALIGNED, UNALIGNED = "word_lists", "csd_aligned", "csd_unaligned"


class MosiConfig(FileConfig):
    """A feature file of CMU-MOSI."""


class CmuMosi(FeatureFileBuilder):
    """Sentiment of 2199 monologue segments from 93 videos, -3 to 3."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    HOMEPAGE = "http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/"
    RANGE = (-3.0, 3.0)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put `unaligned_50.pkl` or `aligned_50.pkl` of MOSI/Processed there; "
        "https://github.com/thuiar/MMSA (README, Datasets) links to both. "
        "Any other pickle of that schema works with the config `from_file`; "
        "files of MISA, MMIM and the CMU-MultimodalSDK have configs of their own."
    )
    # SHA-256 as MMSA's README prints them. Steps of audio and vision are those of the file:
    # releases differ in which of the two has 375 and which 500.
    BUILDER_CONFIGS = [
        MosiConfig(
            name="from_file",
            description="The one pickle in the manual directory; it decides the shapes.",
        ),
        MosiConfig(
            name="unaligned_50",
            description="50 tokens, up to 375 and 500 audio and vision frames.",
            file="unaligned_50.pkl",
            shapes={"text": (50, 768), "audio": (None, 5), "vision": (None, 20)},
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
        MosiConfig(
            name=LISTS,
            description="train.pkl, dev.pkl and test.pkl of MISA or MMIM.",
            sizes=SIZES,
        ),
        MosiConfig(
            name=ALIGNED,
            description="The SDK's .csd files, averaged over words.",
            sizes=SIZES,
        ),
        MosiConfig(
            name=UNALIGNED,
            description="The SDK's .csd files, each modality at its own rate.",
            sizes=SIZES,
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "from_file"

    @classmethod
    def find(cls, config: FileConfig, folder: Any) -> list[Any]:
        if config.name == LISTS:
            return cls._lists(config, folder)
        if config.name in (ALIGNED, UNALIGNED):
            return list(cls._sequences(config, folder).values())
        return super().find(config, folder)

    @classmethod
    def read(cls, config: FileConfig, paths: list[Any]) -> dict[str, Segments]:
        if config.name == LISTS:
            return word_lists.read(paths)
        if config.name in (ALIGNED, UNALIGNED):
            sequences = cls._sequences(config, paths[0].parent)
            return csd.read(sequences, aligned=config.name == ALIGNED)
        return super().read(config, paths)

    @classmethod
    def _lists(cls, config: FileConfig, folder: Any) -> list[Any]:
        names = (word_lists.EMBEDDINGS, word_lists.VOCABULARY)
        beside = [path for name in names if (path := files.find(folder, name)).is_file()]
        lists = word_lists.find(folder)
        if lists and beside:
            return [*lists, *beside]
        wanted = word_lists.FILES.values()
        absent = [name for name in wanted if not files.find(folder, name).is_file()]
        missing = [] if lists else [f"{', '.join(absent)} (or MAG-BERT's one pickle)"]
        if not beside:
            what = f", or a table {word_lists.EMBEDDINGS}, for the words"
            if len(lists) == 1:
                what = f" for the words of {lists[0].name}: MAG-BERT's layout has no ids of them"
            missing.append(f"{word_lists.VOCABULARY} of bert-base-uncased{what}")
        raise FileNotFoundError(
            f"`{cls.name}/{config.name}` must have all its files in its manual "
            f"directory, {folder}. Missing: {'; '.join(missing)}."
        )

    @classmethod
    def _sequences(cls, config: FileConfig, folder: Any) -> dict[str, Any]:
        kinds = csd.find(folder)
        if any(len(paths) != 1 for kind, paths in kinds.items() if kind != "words"):
            several = {k: [p.name for p in paths] for k, paths in kinds.items() if len(paths) > 1}
            raise cls.absent(
                config,
                "one .csd file each of word vectors, COVAREP or openSMILE, FACET or OpenFace, and "
                f"labels{f' (there are several: {several})' if several else ''}",
                folder,
            )
        return {kind: paths[0] for kind, paths in kinds.items() if len(paths) == 1}
