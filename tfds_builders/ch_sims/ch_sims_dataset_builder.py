"""CH-SIMS, Chinese, with unimodal labels, from MMSA's feature files."""

import pathlib
import sys

import tensorflow_datasets.public_api as tfds

if __package__ == "ch_sims":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.ch_sims"

from .. import files
from ..feature_file import FeatureFileBuilder, FileConfig

SIZES = files.PUBLISHED_SIZES["ch_sims"]


class SimsConfig(FileConfig):
    """A feature file of CH-SIMS."""


class ChSims(FeatureFileBuilder):
    """Sentiment of clips from Chinese films, serials and shows, -1 to 1, in four labels."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    HOMEPAGE = "https://github.com/thuiar/MMSA"
    RANGE = (-1.0, 1.0)
    UNIMODAL_LABELS = True
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put `unaligned_39.pkl` of SIMS/Processed there, or the one pickle of CH-SIMS v2 for the "
        "config `v2`; https://github.com/thuiar/MMSA (README, Datasets) links to both. "
        "Any other pickle of that schema works with the config `from_file`."
    )
    BUILDER_CONFIGS = [
        SimsConfig(
            name="from_file",
            description="The one pickle in the manual directory; it decides the shapes.",
        ),
        SimsConfig(
            name="unaligned_39",
            description="39 tokens, 400 audio and 55 vision frames.",
            file="unaligned_39.pkl",
            shapes={"text": (39, 768), "audio": (400, 33), "vision": (55, 709)},
            sizes=SIZES,
            # As MMSA's README prints it.
            sha256="c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f",
        ),
        SimsConfig(
            name="v2",
            description="CH-SIMS v2: the one pickle in the manual directory.",
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "from_file"
