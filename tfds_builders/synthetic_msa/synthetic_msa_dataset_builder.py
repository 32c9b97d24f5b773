"""Generated multimodal sentiment data: nothing to download, ready in a second."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets.public_api as tfds

from ..features import spec
from .generate import SPLITS, Recipe, segment

MOSI_SIZES = {"train": 1284, "valid": 229, "test": 686}
VIDEOS = {"train": 52, "valid": 10, "test": 31}


@dataclasses.dataclass(eq=False)
class SyntheticConfig(tfds.core.BuilderConfig):
    """A recipe with a name."""

    recipe: Recipe = dataclasses.field(default_factory=lambda: Recipe({}, {}))


class SyntheticMsa(tfds.core.GeneratorBasedBuilder):
    """Sentiment shown redundantly by three modalities and over time; generated."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        SyntheticConfig(
            name="mosi",
            description="Split sizes of MOSI, 50 steps a modality, text narrowed to 64.",
            recipe=Recipe({"text": (50, 64), "audio": (50, 5), "vision": (50, 20)}, MOSI_SIZES),
        ),
        SyntheticConfig(
            name="mosi_full",
            description="Sizes and shapes of MOSI's unaligned_50: about 440 MB.",
            recipe=Recipe({"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}, MOSI_SIZES),
        ),
        SyntheticConfig(
            name="tiny",
            description="For tests.",
            recipe=Recipe(
                {"text": (8, 6), "audio": (12, 3), "vision": (10, 4)},
                {"train": 24, "valid": 8, "test": 9},
            ),
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "mosi"

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=spec(self.builder_config.recipe.shapes, with_text_bert=False),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        recipe = self.builder_config.recipe
        size = recipe.sizes[split]
        for row in range(size):
            video = row * VIDEOS[split] // size
            made = segment(recipe, split, row)
            lengths = {f"{name}_length": length for name, length in made.lengths.items()}
            example = {
                "id": f"{split}{video:02d}$_${row}",
                "raw_text": f"generated segment {row}",
                "label": made.label,
                "index": row,
            }
            yield row, {**made.features, **lengths, **example}
